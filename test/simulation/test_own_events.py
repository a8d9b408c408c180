# SPDX-License-Identifier: Apache-2.0
"""Tasks that judge more than lifts and releases, on state logs written by hand."""

from dataclasses import replace

import numpy as np
import pytest
from state_logs import TICK_NS, still

from armor_ros.simulation.events import EventKind, Judgement
from armor_ros.simulation.judge import judge
from armor_ros.simulation.scene import HANDLE_X, ON_TABLE, SHAPES, Item
from armor_ros.simulation.statelog import StateLog
from armor_ros.simulation.tasks import InsertPeg, OpenDrawer, PushToTarget
from armor_ros.simulation.tasks.insert_peg import Socket
from armor_ros.simulation.tasks.push_to_target import INSIDE, RADIUS, Target

SAMPLES = 200
NAMED, OTHER = 0, 1
BEGIN, END, GONE = 60, 100, 120
TURNED = 0.5


def pushing() -> PushToTarget:
    items = (
        Item('red', 'block', ON_TABLE, 0.40, 0.0, 0.0, z=0.0),
        Item('blue', 'block', ON_TABLE, 0.40, 0.2, 0.0, z=0.0),
    )
    targets = (Target('green', 0.58, 0.10), Target('white', 0.58, -0.10))
    return PushToTarget(items=items, target=NAMED, goal=0, targets=targets)


def drawers() -> OpenDrawer:
    items = tuple(
        Item(color, 'drawer', ON_TABLE, 0.35, y, 0.0, z=0.008, stroke=0.15)
        for color, y in (('red', 0.0), ('blue', 0.135), ('green', -0.135))
    )
    return OpenDrawer(items=items, target=NAMED, cabinet=(0.35, 0.0))


def pegs() -> InsertPeg:
    items = (
        Item('red', 'peg', ON_TABLE, 0.40, 0.0, 0.0, z=0.0),
        Item('blue', 'peg', ON_TABLE, 0.40, 0.2, 0.0, z=0.0),
    )
    sockets = (Socket('green', 0.55, 0.10, TURNED), Socket('white', 0.55, -0.10, -TURNED))
    return InsertPeg(items=items, target=NAMED, goal=0, sockets=sockets)


def kinds(judgement: Judgement) -> list[EventKind]:
    return [event.kind for event in judgement.events]


# Pushing


def pushed(goal: tuple[float, float], item: int = NAMED) -> StateLog:
    """A log in which the fingers push an item in a line to ``goal`` and rise."""
    log = still(pushing(), SAMPLES)
    start = log.items[0, item].copy()
    end = np.array([*goal, start[2]])
    log.items[BEGIN:END, item] = np.linspace(start, end, END - BEGIN)
    log.items[END:, item] = end
    log.tcp[BEGIN:END] = log.items[BEGIN:END, item] - [0.035, 0.0, 0.0]
    log.touched[BEGIN:END, item] = True
    log.closing[10:] = True
    log.width[10:] = 0.018
    return log


def swept(y: float, z: float) -> StateLog:
    """A log in which the fingers move along x at (y, z) and touch nothing."""
    log = still(pushing(), SAMPLES)
    log.closing[10:] = True
    log.width[10:] = 0.018
    log.tcp[BEGIN:END] = np.linspace([0.32, y, z], [0.55, y, z], END - BEGIN)
    return log


def test_an_item_on_its_target_is_success():
    judgement = judge(pushed((0.59, 0.11)), pushing())
    assert judgement.success
    assert kinds(judgement) == [EventKind.MOVED]
    assert judgement.target_rest == 'green target'


@pytest.mark.parametrize(('away', 'success'), [(INSIDE - 0.002, True), (INSIDE + 0.002, False)])
def test_an_item_has_to_stand_wholly_on_its_target(away, success):
    judgement = judge(pushed((0.58, 0.10 + away)), pushing())
    assert judgement.success is success
    if not success:
        assert judgement.cause.kind is EventKind.MISPLACED
        assert judgement.cause.came_to_rest == 'edge of the green target'
        assert judgement.cause.offset == pytest.approx((0.0, away, 0.0))
        assert abs(judgement.cause.time_ns - END * TICK_NS) <= 2 * TICK_NS


def test_an_item_on_its_target_juts_out_by_less_than_six_millimetres():
    half = {'block': 0.025, 'puck': 0.032}
    assert all(abs(INSIDE + half[shape] - RADIUS) < 0.006 for shape in half)


@pytest.mark.parametrize(('away', 'rest'), [(0.045, 'edge of the green target'), (0.088, 'table')])
def test_an_item_half_over_the_rim_is_on_the_edge(away, rest):
    judgement = judge(pushed((0.58 + away, 0.10)), pushing())
    assert not judgement.success
    assert judgement.target_rest == rest
    assert pushing().at(rest) == f'on the {rest}'


def test_the_edge_of_the_other_target_is_a_wrong_destination():
    cause = judge(pushed((0.58, -0.145)), pushing()).cause
    assert cause.kind is EventKind.WRONG_DESTINATION
    assert cause.came_to_rest == 'edge of the white target'


def test_the_other_target_is_a_wrong_destination():
    judgement = judge(pushed((0.58, -0.10)), pushing())
    assert judgement.cause.kind is EventKind.WRONG_DESTINATION
    assert judgement.cause.came_to_rest == 'white target'
    assert judge(pushed((0.58, -0.10)), replace(pushing(), goal=1)).success


def test_pushing_another_item_is_the_wrong_object():
    judgement = judge(pushed((0.58, 0.10), OTHER), pushing())
    assert not judgement.success
    assert judgement.cause.kind is EventKind.WRONG_OBJECT
    assert judgement.cause.item == OTHER
    assert judge(pushed((0.58, 0.10), OTHER), replace(pushing(), target=OTHER)).success


def test_an_item_that_is_shoved_onto_a_target_untouched_is_displaced():
    log = pushed((0.58, 0.10))
    log.items[GONE:, OTHER] = [0.58, -0.10, 0.025]
    judgement = judge(log, pushing())
    assert not judgement.success
    assert judgement.cause.kind is EventKind.DISPLACED
    assert judgement.cause.item == OTHER


def test_an_item_that_fell_over_on_its_target_is_toppled():
    log = pushed((0.58, 0.10))
    log.quats[END:, NAMED] = [np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0]
    assert judge(log, pushing()).cause.kind is EventKind.TOPPLED


@pytest.mark.parametrize(('y', 'z', 'axis'), [(0.08, 0.022, 1), (0.0, 0.068, 2)])
def test_fingers_that_pass_the_item_missed_it(y, z, axis):
    judgement = judge(swept(y, z), pushing())
    assert kinds(judgement) == [EventKind.MISSED]
    assert np.argmax(np.abs(judgement.cause.offset)) == axis
    assert judgement.cause.offset[axis] > 0


def test_coming_down_beyond_the_item_is_a_wrong_sequence():
    log = swept(0.0, 0.3)
    log.tcp[END:GONE] = np.linspace([0.55, 0.0, 0.3], [0.55, 0.0, 0.022], GONE - END)
    judgement = judge(log, pushing())
    assert judgement.cause.kind is EventKind.WRONG_SEQUENCE
    assert END * TICK_NS < judgement.cause.time_ns < GONE * TICK_NS
    # It never was above the other item, so that one was missed.
    assert judge(log, replace(pushing(), target=OTHER)).cause.kind is EventKind.MISSED


def test_what_a_pushed_item_does_to_the_table_is_no_collision():
    log = pushed((0.58, 0.10))
    log.blow[BEGIN + 5 : BEGIN + 9] = 60.0
    assert kinds(judge(log, pushing())) == [EventKind.MOVED]
    log.struck[BEGIN + 5 : BEGIN + 9] = OTHER
    assert EventKind.COLLISION in kinds(judge(log, pushing()))


# Drawers


def pulled(way: float, item: int = NAMED, *, slips_at: int | None = None) -> StateLog:
    """A log in which a handle is gripped at BEGIN, pulled by ``way`` to END, and let go of."""
    log = still(drawers(), SAMPLES)
    shape = SHAPES['drawer']
    handle = log.items[0, item] + [HANDLE_X, 0.0, shape.grasp - shape.height / 2]
    path = np.linspace(0.0, way, END - BEGIN)
    log.tcp[40:] = handle
    log.tcp[BEGIN:END, 0] += path
    log.tcp[END:, 0] += way
    log.items[BEGIN:END, item, 0] += path
    log.items[END:, item, 0] += way
    last = END if slips_at is None else slips_at
    log.items[last:, item, 0] = log.items[last - 1, item, 0]
    log.closing[40:END] = True
    log.width[40:END] = 0.016
    log.touched[44:last, item] = True
    log.tcp[END:, 2] += 0.12
    return log


def closed_at(offset: tuple[float, float, float], width: float = 0.0) -> StateLog:
    """A log in which the fingers close beside the named drawer's handle."""
    log = pulled(0.0)
    log.touched[:] = False
    log.tcp[40:END] += offset
    log.width[40:END] = width
    return log


def test_an_open_drawer_is_success():
    judgement = judge(pulled(0.13), drawers())
    assert judgement.success
    assert kinds(judgement) == [EventKind.MOVED]
    assert judgement.target_rest == 'open'


@pytest.mark.parametrize(('way', 'success'), [(0.088, False), (0.092, True)])
def test_a_drawer_counts_as_open_from_nine_centimetres(way, success):
    judgement = judge(pulled(way), drawers())
    assert judgement.success is success
    if not success:
        assert judgement.cause.kind is EventKind.MISPLACED
        assert judgement.cause.came_to_rest == 'partly open'
        assert abs(judgement.cause.time_ns - END * TICK_NS) <= TICK_NS


def test_a_handle_that_leaves_the_closed_fingers_slipped():
    judgement = judge(pulled(0.13, slips_at=75), drawers())
    assert not judgement.success
    assert judgement.cause.kind is EventKind.DROPPED
    assert 75 * TICK_NS < judgement.cause.time_ns < 85 * TICK_NS


def test_another_drawer_is_the_wrong_object():
    judgement = judge(pulled(0.13, OTHER), drawers())
    assert judgement.cause.kind is EventKind.WRONG_OBJECT
    assert judgement.cause.item == OTHER
    assert judgement.target_rest == 'closed'
    assert judge(pulled(0.13, OTHER), replace(drawers(), target=OTHER)).success


def test_two_open_drawers_are_a_failure():
    log = pulled(0.13)
    log.items[GONE:, OTHER, 0] += 0.05
    judgement = judge(log, drawers())
    assert not judgement.success
    assert judgement.cause.item == OTHER


@pytest.mark.parametrize(
    ('offset', 'width', 'kind'),
    [
        ((0.05, 0.0, 0.0), 0.0, EventKind.MISSED),
        ((0.0, 0.0, 0.0), 0.07, EventKind.INCOMPLETE_GRASP),
    ],
)
def test_fingers_that_hold_no_handle(offset, width, kind):
    cause = judge(closed_at(offset, width), drawers()).cause
    assert cause.kind is kind
    assert cause.offset == pytest.approx(offset)


def test_a_miss_before_the_drawer_was_pulled_is_no_cause():
    log = pulled(0.05)
    log.closing[20:30] = True
    log.width[20:30] = 0.0
    judgement = judge(log, drawers())
    assert EventKind.MISSED in kinds(judgement)
    assert judgement.cause.kind is EventKind.MISPLACED


def test_closing_above_the_handle_and_then_coming_down_is_a_wrong_sequence():
    log = closed_at((0.0, 0.0, 0.0))
    log.tcp[40:BEGIN, 2] += 0.12
    log.tcp[BEGIN:END, 0] += 0.13
    assert judge(log, drawers()).cause.kind is EventKind.WRONG_SEQUENCE


def test_letting_go_before_the_pull_is_a_wrong_sequence():
    log = pulled(0.0)
    log.tcp[END + 10 :, 0] += 0.13
    assert judge(log, drawers()).cause.kind is EventKind.WRONG_SEQUENCE


# Pegs


def inserted(
    goal: tuple[float, float, float], *, item: int = NAMED, yaw: float = TURNED
) -> StateLog:
    """A log in which a peg is lifted, carried to ``goal`` (its middle at the end), and let go."""
    log = still(pegs(), SAMPLES)
    start = log.items[0, item].copy()
    up, over = start + np.array([0, 0, 0.2]), np.array([*goal[:2], start[2] + 0.2])
    log.items[BEGIN:80, item] = np.linspace(start, up, 20)
    log.items[80:END, item] = np.linspace(up, over, 20)
    log.items[END:GONE, item] = np.linspace(over, goal, 20)
    log.items[GONE:, item] = goal
    log.quats[80:, item] = [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
    log.tcp[50:GONE] = log.items[50:GONE, item] + [0.0, 0.0, 0.025]
    log.tcp[GONE:] = [0.3, 0.0, 0.5]
    log.touched[50:GONE, item] = True
    log.leans[BEGIN : GONE - 1, item] = False
    log.closing[50:GONE] = True
    log.width[50:GONE] = 0.024
    return log


IN_SLOT = (0.55, 0.10, 0.055)
ON_TOP = (0.55, 0.10, 0.095)


def test_a_peg_in_the_slot_is_success():
    judgement = judge(inserted(IN_SLOT), pegs())
    assert judgement.success
    assert kinds(judgement) == [EventKind.LIFTED, EventKind.PLACED]
    assert judgement.target_rest == 'green socket'


def test_a_peg_on_top_of_the_socket_is_misplaced():
    judgement = judge(inserted(ON_TOP), pegs())
    assert not judgement.success
    assert judgement.cause.kind is EventKind.MISPLACED
    assert judgement.cause.came_to_rest == 'top of the green socket'
    assert pegs().at(judgement.cause.came_to_rest) == 'on top of the green socket'


@pytest.mark.parametrize(('struck', 'height'), [(-1, 0.095), (NAMED, 0.095)])
def test_a_peg_that_is_pressed_onto_the_socket_jams(struck, height):
    log = inserted((0.55, 0.10, height), yaw=0.0)
    log.blow[GONE - 2 : GONE] = 80.0
    log.struck[GONE - 2 : GONE] = struck
    cause = judge(log, pegs()).cause
    assert cause.kind is EventKind.JAMMED
    assert cause.place == 'green socket'
    assert cause.turn == pytest.approx(-TURNED)


def test_a_blow_by_another_item_or_elsewhere_is_a_collision():
    log = inserted(ON_TOP)
    log.blow[GONE - 2 : GONE] = 80.0
    log.struck[GONE - 2 : GONE] = OTHER
    assert judge(log, pegs()).cause.kind is EventKind.COLLISION
    log = inserted((0.40, -0.2, 0.095))
    log.blow[GONE - 2 : GONE] = 80.0
    assert judge(log, pegs()).cause.kind is EventKind.COLLISION


def test_the_other_slot_is_a_wrong_destination():
    judgement = judge(inserted((0.55, -0.10, 0.055)), pegs())
    assert judgement.cause.kind is EventKind.WRONG_DESTINATION
    assert judge(inserted((0.55, -0.10, 0.055)), replace(pegs(), goal=1)).success


def test_another_peg_is_the_wrong_object():
    judgement = judge(inserted(IN_SLOT, item=OTHER), pegs())
    assert judgement.cause.kind is EventKind.WRONG_OBJECT


@pytest.mark.parametrize(
    ('height', 'words'), [(0.034, 'leaning on the green socket'), (0.022, 'on the table')]
)
def test_a_fallen_peg_lies_on_the_table_or_leans_on_a_socket(height, words):
    log = inserted((0.49, 0.05, height))
    log.quats[GONE:, NAMED] = [np.cos(0.7), np.sin(0.7), 0.0, 0.0]
    judgement = judge(log, pegs())
    assert judgement.cause.kind is EventKind.MISPLACED
    assert pegs().at(judgement.target_rest) == words


def test_a_peg_that_lies_across_the_slot_is_not_inserted():
    log = inserted(IN_SLOT)
    log.quats[GONE:, NAMED] = [np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0]
    assert not judge(log, pegs()).success
