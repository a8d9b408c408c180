# SPDX-License-Identifier: Apache-2.0
"""Lifting, stacking, putting into containers: state logs written by hand, near misses too."""

from dataclasses import replace

import numpy as np
import pytest
from state_logs import still

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.judge import judge
from armor_ros.simulation.scene import ON_TABLE, SHAPES, Item
from armor_ros.simulation.statelog import StateLog
from armor_ros.simulation.tasks import PickAndLift, PutIntoContainer, Stack, Task
from armor_ros.simulation.tasks.put_into_container import INNER, Container

SAMPLES = 120
NAMED, OTHER, THIRD = 0, 1, 2
CLOSED, UP, OPENED = 20, 30, 90
SIDE = SHAPES['block'].height


def items(shape: str) -> tuple[Item, ...]:
    return tuple(
        Item(color, shape, ON_TABLE, x, y, 0.0, z=0.0)
        for color, x, y in (('red', 0.40, 0.0), ('blue', 0.40, 0.2), ('green', 0.55, -0.15))
    )


def lifting() -> PickAndLift:
    return PickAndLift(items=items('can'), target=NAMED)


def stacking() -> Stack:
    return Stack(items=items('block'), target=NAMED, goal=OTHER)


def putting() -> PutIntoContainer:
    containers = (Container('white', 'bowl', 0.6, 0.16), Container('black', 'crate', 0.6, -0.16))
    return PutIntoContainer(items=items('can'), target=NAMED, containers=containers, goal=0)


def moved(task: Task, item: int, goal: tuple[float, float, float], *, held=False) -> StateLog:
    """A log in which an item is grasped, raised, carried over ``goal``, and let go of there."""
    log = still(task, SAMPLES)
    start = log.items[0, item].copy()
    end = SAMPLES if held else OPENED
    path = np.linspace(start, goal, OPENED - UP)
    path[:, 2] = max(0.25, goal[2])
    log.tcp[CLOSED:UP] = np.linspace(start, path[0], UP - CLOSED)
    log.tcp[UP:OPENED] = path
    log.tcp[OPENED:] = path[-1]
    log.items[CLOSED:end, item] = log.tcp[CLOSED:end]
    if not held:
        log.items[end:, item] = goal
    log.touched[CLOSED:end, item] = True
    log.leans[CLOSED:end, item] = False
    log.closing[CLOSED:end] = True
    log.width[CLOSED:end] = 0.06
    return log


def test_item_held_up_is_lifted():
    task = lifting()
    judgement = judge(moved(task, NAMED, (0.4, 0.0, 0.3), held=True), task)
    assert judgement.success
    assert [event.kind for event in judgement.events] == [EventKind.LIFTED]


@pytest.mark.parametrize(('height', 'success'), [(0.16, True), (0.14, False)])
def test_lifting_takes_ten_centimetres(height, success):
    task = lifting()
    log = moved(task, NAMED, (0.4, 0.0, 0.3), held=True)
    log.items[UP:, NAMED, 2] = height
    log.tcp[UP:, 2] = height
    judgement = judge(log, task)
    assert judgement.success is success
    if not success:
        assert judgement.cause.kind is EventKind.NOTHING_TRANSPORTED


def test_item_put_back_is_not_lifted():
    task = lifting()
    judgement = judge(moved(task, NAMED, (0.4, 0.15, 0.05)), task)
    assert judgement.cause.kind is EventKind.WRONG_DESTINATION
    assert judgement.target_rest == 'table'


def test_lifting_another_item_is_the_wrong_object_and_right_under_its_own_name():
    task = lifting()
    log = moved(task, OTHER, (0.4, 0.2, 0.3), held=True)
    assert judge(log, task).cause.kind is EventKind.WRONG_OBJECT
    twins = {twin.named.name: judge(log, twin).success for twin in task.alternatives()}
    assert twins == {'blue can': True, 'green can': False}


def test_two_items_held_up_are_a_multi_pick():
    task = lifting()
    log = moved(task, NAMED, (0.4, 0.0, 0.3), held=True)
    log.items[UP:, OTHER] = log.items[UP:, NAMED] + [0.0, 0.06, 0.0]
    judgement = judge(log, task)
    assert not judgement.success
    assert judgement.cause.kind is EventKind.MULTI_PICK


@pytest.mark.parametrize(
    ('away', 'height', 'success'),
    [
        ((0.0, 0.0), 1.5, True),
        ((0.024, 0.0), 1.5, True),
        ((0.0, 0.036), 1.5, False),
        ((0.0, 0.0), 1.9, False),
        ((0.05, 0.0), 0.5, False),
    ],
)
def test_block_counts_as_stacked_where_it_rests_on_its_base(away, height, success):
    task = stacking()
    goal = (0.40 + away[0], 0.20 + away[1], height * SIDE)
    judgement = judge(moved(task, NAMED, goal), task)
    assert judgement.success is success
    if not success:
        assert judgement.cause.kind is EventKind.MISPLACED
        np.testing.assert_allclose(judgement.cause.offset[:2], away, atol=1e-9)


def test_block_still_in_the_fingers_is_not_stacked():
    task = stacking()
    log = moved(task, NAMED, (0.40, 0.20, 1.5 * SIDE), held=True)
    log.items[-20:, NAMED] = log.tcp[-20:] = (0.40, 0.20, 1.5 * SIDE)
    judgement = judge(log, task)
    assert not judgement.success
    assert judgement.target_rest == 'gripper'


def test_a_block_that_is_lost_where_it_stood_is_lost_above_the_table():
    task = stacking()
    log = moved(task, NAMED, (0.40, 0.20, 1.5 * SIDE))
    log.items[UP - 1, NAMED, 2] -= 0.02
    log.items[UP:, NAMED] = log.items[0, NAMED]
    log.touched[UP:, NAMED] = False
    cause = judge(log, task).cause
    assert cause.kind is EventKind.DROPPED
    assert cause.place == 'table'


def test_block_on_another_block_is_at_the_wrong_destination():
    task = stacking()
    log = moved(task, NAMED, (0.55, -0.15, 1.5 * SIDE))
    cause = judge(log, task).cause
    assert cause.kind is EventKind.WRONG_DESTINATION
    assert cause.came_to_rest == 'green block'
    assert judge(log, replace(task, goal=THIRD)).success


def test_stacking_the_other_way_round_is_the_wrong_object():
    task = stacking()
    log = moved(task, OTHER, (0.40, 0.0, 1.5 * SIDE))
    assert judge(log, task).cause.kind is EventKind.WRONG_OBJECT
    assert judge(log, replace(task, target=OTHER, goal=NAMED)).success


@pytest.mark.parametrize(('away', 'success'), [(INNER - 0.002, True), (INNER + 0.002, False)])
def test_item_inside_the_rim_is_in_the_bowl(away, success):
    task = putting()
    judgement = judge(moved(task, NAMED, (0.6 + away, 0.16, 0.05)), task)
    assert judgement.success is success
    if not success:
        assert judgement.cause.kind is EventKind.MISPLACED
        assert judgement.cause.came_to_rest == 'table'
        assert judgement.cause.offset[0] == pytest.approx(away)


def test_the_corner_of_a_crate_is_in_it_and_that_of_a_bowl_is_not():
    corner = 0.9 * INNER
    task = putting()
    assert not judge(moved(task, NAMED, (0.6 + corner, 0.16 + corner, 0.05)), task).success
    crate = replace(task, goal=1)
    assert judge(moved(crate, NAMED, (0.6 + corner, -0.16 + corner, 0.05)), crate).success


def test_item_in_the_other_container_is_at_the_wrong_destination():
    task = putting()
    log = moved(task, NAMED, (0.6, -0.16, 0.05))
    cause = judge(log, task).cause
    assert cause.kind is EventKind.WRONG_DESTINATION
    assert cause.came_to_rest == 'black crate'
    assert judge(log, replace(task, goal=1)).success


def test_knocking_another_item_into_a_container_spoils_the_success():
    task = putting()
    log = moved(task, NAMED, (0.6, 0.16, 0.05))
    log.items[70:, OTHER] = (0.6, -0.16, 0.05)
    judgement = judge(log, task)
    assert not judgement.success
    assert judgement.cause.kind is EventKind.DISPLACED
    assert judgement.cause.item == OTHER
