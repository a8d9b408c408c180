# SPDX-License-Identifier: Apache-2.0
"""What can happen in an episode, and the verdict on it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

TABLE = 'table'
FLOOR = 'floor'
GRIPPER = 'gripper'


class EventKind(str, enum.Enum):
    """What can happen; the values stand in label files."""

    LIFTED = 'lifted'
    MOVED = 'moved'
    MISSED = 'missed_grasp'
    INCOMPLETE_GRASP = 'incomplete_grasp'
    DROPPED = 'dropped'
    PLACED = 'placed'
    WRONG_OBJECT = 'wrong_object'
    WRONG_DESTINATION = 'wrong_destination'
    MISPLACED = 'misplaced'
    JAMMED = 'jammed'
    TOPPLED = 'toppled'
    WRONG_SEQUENCE = 'wrong_sequence'
    DISPLACED = 'displaced'
    COLLISION = 'collision'
    OPENED = 'item_opened'
    MULTI_PICK = 'multi_pick'
    NOTHING_TRANSPORTED = 'nothing_transported'
    GOAL_NOT_REACHED = 'goal_not_reached'


HARMLESS = frozenset({EventKind.LIFTED, EventKind.MOVED, EventKind.PLACED})
"""Events that belong to a task that goes well."""


@dataclass(frozen=True, slots=True)
class Event:
    """
    One event: what, when (nanoseconds of the log's clock), which item, and where.

    ``item`` indexes the scene's items. ``place`` is the task's name for the region ('left bin',
    'table', 'floor', 'gripper' ...) in or over which it happened; ``came_to_rest`` where the item
    was at the end, which for a drop or a release may be another place. ``position`` is the
    item's, metres. ``furniture`` is True for a collision with something that is no item;
    ``item`` is the named one then. ``offset`` says by how much the gripper missed the item, or
    the item its goal (x, y, z in metres), and ``turn`` the same about the vertical, radians.
    ``others`` are further items involved.
    """

    kind: EventKind
    time_ns: int
    item: int
    place: str
    came_to_rest: str
    position: tuple[float, float, float]
    furniture: bool = False
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn: float = 0.0
    others: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """
    The outcome, the earliest event that caused the failure (None on success), all events.

    ``target_rest`` is where the named item was at the end.
    """

    success: bool
    cause: Event | None
    events: tuple[Event, ...]
    target_rest: str
