# SPDX-License-Identifier: Apache-2.0
"""The judge on state logs written by hand: every event, and the near misses."""

from dataclasses import replace

import numpy as np
import pytest
from state_logs import TICK_NS, still

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.judge import judge
from armor_ros.simulation.scene import TOTE_CENTERS, Item
from armor_ros.simulation.statelog import StateLog
from armor_ros.simulation.tasks import Transport

SAMPLES = 100
LEFT, MIDDLE, RIGHT = (np.array([*center, 0.05]) for center in TOTE_CENTERS)
TABLE = np.array([0.2, 0.0, 0.05])
NEAR_LEFT = np.array([LEFT[0] + 0.09, LEFT[1], 0.05])
BLUE, RED = 0, 1
CLOSED, LIFTED, OPENED = 20, 30, 80


def scene() -> Transport:
    items = (
        Item('blue', 'can', 0, LEFT[0], LEFT[1], 0.0, z=0.0),
        Item('red', 'can', 0, LEFT[0] + 0.09, LEFT[1], 0.0, z=0.0),
    )
    return Transport(items=items, target=BLUE, source=0, destination=2, spot=TOTE_CENTERS[2])


def carried(item: int, goal: np.ndarray, *, lost_at: int | None = None) -> StateLog:
    """
    A log in which an item is grasped at CLOSED, is up at LIFTED and is released at OPENED.

    With ``lost_at`` it leaves the fingers there, falls straight down, and the fingers meet.
    """
    log = still(scene(), SAMPLES)
    start = log.items[0, item].copy()
    path = np.linspace(start, goal, OPENED - LIFTED)
    path[:, 2] = 0.25
    log.tcp[CLOSED:LIFTED] = np.linspace(start, [*start[:2], 0.25], LIFTED - CLOSED)
    log.tcp[LIFTED:OPENED] = path
    log.tcp[OPENED:] = path[-1]
    end = OPENED if lost_at is None else lost_at
    log.items[CLOSED:end, item] = log.tcp[CLOSED:end]
    log.items[end:, item] = goal if lost_at is None else [*log.tcp[end, :2], 0.05]
    log.touched[CLOSED:end, item] = True
    log.leans[CLOSED : end + 8, item] = False  # it takes a while to fall
    log.closing[CLOSED:OPENED] = True
    log.width[CLOSED:end] = 0.06
    log.width[end:OPENED] = 0.0
    return log


def kinds(log: StateLog) -> list[EventKind]:
    return [event.kind for event in judge(log, scene()).events]


def test_transport_to_the_destination_is_success():
    judgement = judge(carried(BLUE, RIGHT), scene())
    assert judgement.success
    assert judgement.cause is None
    assert [e.kind for e in judgement.events] == [EventKind.LIFTED, EventKind.PLACED]
    assert judgement.target_rest == 'right bin'


def test_nothing_done_is_nothing_transported():
    judgement = judge(still(scene(), SAMPLES), scene())
    assert not judgement.success
    assert judgement.cause.kind is EventKind.NOTHING_TRANSPORTED
    assert judgement.target_rest == 'left bin'


def test_item_that_leaves_closing_fingers_was_dropped():
    lost_at = 52
    judgement = judge(carried(BLUE, RIGHT, lost_at=lost_at), scene())
    assert not judgement.success
    cause = judgement.cause
    assert cause.kind is EventKind.DROPPED
    assert cause.item == BLUE
    assert abs(cause.time_ns - lost_at * TICK_NS) <= TICK_NS
    assert cause.came_to_rest == 'middle bin'


def test_slip_begins_when_the_item_moves_within_the_fingers():
    log = carried(BLUE, RIGHT, lost_at=52)
    log.items[45:52, BLUE, 2] -= 0.02
    cause = judge(log, scene()).cause
    assert cause.kind is EventKind.DROPPED
    assert cause.time_ns == 45 * TICK_NS
    assert cause.place == 'middle bin'


def test_item_that_settles_in_the_fingers_is_not_dropped():
    log = carried(BLUE, RIGHT)
    log.items[45:OPENED, BLUE, 2] -= 0.02
    assert judge(log, scene()).success
    assert EventKind.DROPPED not in kinds(log)


@pytest.mark.parametrize(('speed', 'dropped'), [(0.006, True), (0.002, False)])
def test_an_item_that_slides_when_the_fingers_open_was_lost(speed, dropped):
    log = carried(BLUE, MIDDLE)
    log.items[OPENED - 10 : OPENED, BLUE, 2] -= 0.02 - speed
    log.items[OPENED - 1, BLUE, 2] -= speed
    kind = EventKind.DROPPED if dropped else EventKind.WRONG_DESTINATION
    assert judge(log, scene()).cause.kind is kind


def test_an_item_that_had_left_the_fingers_when_they_opened_was_lost():
    log = carried(BLUE, MIDDLE)
    log.items[OPENED - 10 : OPENED, BLUE, 2] -= 0.02
    log.touched[OPENED - 2 :, BLUE] = False
    cause = judge(log, scene()).cause
    assert cause.kind is EventKind.DROPPED
    assert cause.time_ns == (OPENED - 10) * TICK_NS


def test_short_loss_of_contact_is_not_a_drop():
    log = carried(BLUE, RIGHT)
    log.touched[50:60, BLUE] = False
    assert kinds(log) == [EventKind.LIFTED, EventKind.PLACED]


def test_contact_that_flickers_is_one_hold():
    log = carried(BLUE, RIGHT)
    log.touched[22:OPENED:3, BLUE, 0] = False
    assert kinds(log) == [EventKind.LIFTED, EventKind.PLACED]


def test_drop_into_the_destination_is_success_with_a_drop_on_record():
    judgement = judge(carried(BLUE, RIGHT, lost_at=77), scene())
    assert judgement.success
    assert judgement.cause is None
    assert EventKind.DROPPED in [e.kind for e in judgement.events]


def test_closing_on_nothing_is_a_missed_grasp_when_the_fingers_meet():
    log = still(scene(), SAMPLES)
    log.closing[20:40] = True
    log.width[20:31] = np.linspace(0.08, 0.0, 11)
    log.width[31:40] = 0.0
    cause = judge(log, scene()).cause
    assert cause.kind is EventKind.MISSED
    assert cause.time_ns == 30 * TICK_NS
    assert cause.item == BLUE
    assert cause.place == 'left bin'


def test_touch_without_a_lift_is_a_missed_grasp():
    log = still(scene(), SAMPLES)
    log.closing[20:40] = True
    log.width[20:40] = 0.06
    log.touched[20:40, BLUE] = True
    log.items[25:35, BLUE, 2] += 0.02
    assert judge(log, scene()).cause.kind is EventKind.MISSED


def test_missed_grasp_that_was_made_good_is_no_cause():
    log = carried(BLUE, MIDDLE)
    log.closing[5:15] = True
    log.width[5:15] = 0.0
    judgement = judge(log, scene())
    assert judgement.events[0].kind is EventKind.MISSED
    assert judgement.cause.kind is EventKind.WRONG_DESTINATION


@pytest.mark.parametrize(
    ('goal', 'place'),
    [(MIDDLE, 'middle bin'), (TABLE, 'table'), (NEAR_LEFT, 'left bin')],
)
def test_release_elsewhere_is_a_wrong_destination(goal, place):
    cause = judge(carried(BLUE, goal), scene()).cause
    assert cause.kind is EventKind.WRONG_DESTINATION
    assert cause.time_ns == OPENED * TICK_NS
    assert cause.came_to_rest == place


def test_lifting_another_item_is_the_wrong_object():
    cause = judge(carried(RED, RIGHT), scene()).cause
    assert cause.kind is EventKind.WRONG_OBJECT
    assert cause.item == RED
    assert cause.time_ns < OPENED * TICK_NS


def test_pushing_another_item_out_of_its_bin_is_a_failure():
    log = carried(BLUE, RIGHT)
    log.items[60:, RED] = TABLE
    judgement = judge(log, scene())
    assert not judgement.success
    assert judgement.cause.kind is EventKind.DISPLACED
    assert judgement.cause.item == RED
    assert judgement.cause.time_ns == 60 * TICK_NS
    assert judgement.cause.came_to_rest == 'table'


def test_pushing_another_item_within_its_bin_is_none():
    log = carried(BLUE, RIGHT)
    log.items[60:, RED, 0] -= 0.05
    assert judge(log, scene()).success


def test_item_below_the_table_lies_on_the_floor():
    log = carried(BLUE, TABLE)
    log.items[90:, BLUE] = [1.2, 0.0, -0.7]
    assert judge(log, scene()).target_rest == 'floor'


def test_item_still_in_the_fingers_is_not_transported():
    log = carried(BLUE, RIGHT)
    log.items[OPENED:, BLUE] = log.tcp[OPENED:]
    log.touched[OPENED:, BLUE] = True
    log.closing[OPENED:] = True
    judgement = judge(log, scene())
    assert not judgement.success
    assert judgement.target_rest == 'gripper'


@pytest.mark.parametrize(('struck', 'furniture'), [(RED, False), (-1, True)])
def test_collision_before_any_lift_is_the_cause(struck, furniture):
    log = still(scene(), SAMPLES)
    log.blow[40:45] = 60.0
    log.struck[40:45] = struck
    log.closing[50:60] = True
    cause = judge(log, scene()).cause
    assert cause.kind is EventKind.COLLISION
    assert cause.time_ns == 40 * TICK_NS
    assert cause.furniture is furniture
    assert cause.item == (BLUE if furniture else RED)


def test_a_light_touch_is_no_collision():
    log = still(scene(), SAMPLES)
    log.blow[40:45] = 10.0
    assert EventKind.COLLISION not in kinds(log)


def test_fingers_that_stay_apart_around_nothing_made_an_incomplete_grasp():
    log = still(scene(), SAMPLES)
    log.closing[20:40] = True
    log.width[20:40] = 0.07
    assert judge(log, scene()).cause.kind is EventKind.INCOMPLETE_GRASP


def test_fingers_that_stay_apart_around_an_item_missed_it():
    log = still(scene(), SAMPLES)
    log.closing[20:40] = True
    log.width[20:40] = 0.07
    log.touched[30:40, BLUE] = True
    assert judge(log, scene()).cause.kind is EventKind.MISSED


def test_missed_grasp_tells_by_how_much_and_how_turned():
    log = still(scene(), SAMPLES)
    log.closing[60:80] = True
    log.width[60:80] = 0.0
    log.tcp[60:80] = log.items[0, BLUE] + [0.05, 0.0, 0.022]
    offset = judge(log, scene()).cause.offset
    np.testing.assert_allclose(offset, [0.05, 0.0, 0.0], atol=1e-9)


@pytest.mark.parametrize(
    ('begin', 'end', 'kind'),
    [
        (0.15, 0.02, EventKind.WRONG_SEQUENCE),
        (0.15, 0.13, EventKind.MISSED),
        (0.04, -0.01, EventKind.MISSED),
    ],
)
def test_closing_high_and_then_coming_down_is_the_wrong_sequence(begin, end, kind):
    log = still(scene(), SAMPLES)
    log.closing[20:60] = True
    log.width[20:60] = 0.0
    log.tcp[20:60] = log.items[0, BLUE]
    log.tcp[20:60, 2] += np.linspace(begin, end, 40)
    assert judge(log, scene()).cause.kind is kind


def test_coming_down_elsewhere_with_closed_fingers_is_a_missed_grasp():
    log = still(scene(), SAMPLES)
    log.closing[20:60] = True
    log.width[20:60] = 0.0
    log.tcp[20:60] = log.items[0, BLUE] + [0.0, 0.3, 0.0]
    log.tcp[20:60, 2] += np.linspace(0.15, 0.0, 40)
    assert judge(log, scene()).cause.kind is EventKind.MISSED


def test_letting_go_over_the_same_place_is_the_wrong_sequence():
    cause = judge(carried(BLUE, LEFT), scene()).cause
    assert cause.kind is EventKind.WRONG_SEQUENCE
    assert cause.time_ns == OPENED * TICK_NS


def test_second_item_that_rises_with_the_first_is_a_multi_pick():
    log = carried(BLUE, RIGHT)
    log.items[CLOSED:, RED] = log.items[CLOSED:, BLUE] + [0.05, 0.0, 0.0]
    judgement = judge(log, scene())
    assert not judgement.success
    assert judgement.cause.kind is EventKind.MULTI_PICK
    assert judgement.cause.item == BLUE
    assert judgement.cause.others == (RED,)


def test_second_item_that_is_nudged_is_no_multi_pick():
    log = carried(BLUE, RIGHT)
    log.items[CLOSED:40, RED, 2] += 0.02
    assert EventKind.MULTI_PICK not in kinds(log)


@pytest.mark.parametrize(('angle', 'opened'), [(1.2, True), (0.3, False)])
def test_lid_that_stays_open_is_an_opened_item(angle, opened):
    log = carried(BLUE, RIGHT)
    log.lids[40:, BLUE] = angle
    judgement = judge(log, scene())
    assert judgement.success is not opened
    if opened:
        assert judgement.cause.kind is EventKind.OPENED
        assert judgement.cause.time_ns == 40 * TICK_NS


def test_lid_that_falls_shut_again_is_none():
    log = carried(BLUE, RIGHT)
    log.lids[40:60, BLUE] = 1.2
    assert judge(log, scene()).success


@pytest.mark.parametrize(('struck', 'furniture'), [(RED, False), (None, True)])
def test_item_knocked_out_of_the_fingers_collided(struck, furniture):
    log = carried(BLUE, TABLE, lost_at=52)
    if furniture:
        log.leans[51:53, BLUE] = True
    else:
        log.meets[51:53, BLUE, struck] = True
    cause = judge(log, scene()).cause
    assert cause.kind is EventKind.COLLISION
    assert cause.furniture is furniture
    assert cause.item == (BLUE if furniture else struck)


def test_touch_long_before_a_slip_does_not_explain_it():
    log = carried(BLUE, TABLE, lost_at=60)
    log.leans[35:38, BLUE] = True
    log.leans[64:, BLUE] = True
    assert judge(log, scene()).cause.kind is EventKind.DROPPED


def test_collision_before_the_lift_does_not_explain_a_later_drop():
    log = carried(BLUE, RIGHT, lost_at=52)
    log.blow[10:12] = 60.0
    assert judge(log, scene()).cause.kind is EventKind.DROPPED


def test_the_destination_decides():
    log = carried(BLUE, RIGHT)
    assert judge(log, scene()).success
    assert not judge(log, replace(scene(), destination=1)).success
