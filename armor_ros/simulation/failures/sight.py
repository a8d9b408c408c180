# SPDX-License-Identifier: Apache-2.0
"""Failures of where and how turned the robot believes things to be."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures.base import Failure, register
from armor_ros.simulation.plan import Plan
from armor_ros.simulation.scene import SHAPES, Item
from armor_ros.simulation.tasks.base import Task

_ROOM = 0.06
_MISSES = frozenset({EventKind.MISSED, EventKind.COLLISION})


@register
class MissedGrasp(Failure):
    """Let the robot see the item beside, or above, the place where it stands."""

    name: ClassVar[str] = 'missed_grasp'
    family: ClassVar[str] = 'translation offset'
    kinds: ClassVar[frozenset[EventKind]] = _MISSES

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Shift what is seen along x, or up."""
        side = float(rng.choice((-1.0, 1.0)))
        size = float(rng.uniform(0.042, 0.058))
        if rng.random() < 0.25:
            error = (0.0, 0.0, float(rng.uniform(0.06, 0.09)))
        else:
            for _, beside in task.sticky:  # miss it on the other side
                side = -1.0 if task.items[beside].x > task.named.x else 1.0
            error = (side * size, float(rng.normal(0.0, 0.004)), 0.0)
        return replace(plan, sight_error=error)


def above_item(task: Task, rng: np.random.Generator) -> float:
    """Draw how much too high, metres, the fingers close so that they surely meet above it."""
    shape = SHAPES[task.named.shape]
    return max(0.06, shape.height - shape.grasp + 0.014) + float(rng.uniform(0.0, 0.03))


def free_side(task: Task, axis: int, shift: float, rng: np.random.Generator) -> float:
    """Draw the side, -1 or 1, to which to miss the item: one where no other is caught, if any."""
    room = {}
    for side in (-1.0, 1.0):
        spot = np.array([task.named.x, task.named.y])
        spot[axis] += side * shift
        far = [np.hypot(spot[0] - item.x, spot[1] - item.y) for item in _other_items(task)]
        room[side] = min(far, default=1.0)
    free = [side for side in room if room[side] > _ROOM]
    return float(rng.choice(free)) if free else max(room, key=lambda side: room[side])


def _other_items(task: Task) -> list[Item]:
    return [item for i, item in enumerate(task.items) if i != task.target]


class _Translation(Failure):
    """See the item shifted along one axis by ``lowest`` to ``highest`` metres."""

    family: ClassVar[str] = 'translation offset'
    kinds: ClassVar[frozenset[EventKind]] = _MISSES
    axis: ClassVar[int]
    lowest: ClassVar[float]
    highest: ClassVar[float]

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Shift along the axis; to a side where no other item is caught instead."""
        error = list(plan.sight_error)
        shift = float(rng.uniform(self.lowest, self.highest))
        error[self.axis] = free_side(task, self.axis, shift, rng) * shift
        return replace(plan, sight_error=(error[0], error[1], error[2]))


@register
class TranslationX(_Translation):
    """See the item too near or too far (x): the fingers close beside it."""

    name: ClassVar[str] = 'translation_x'
    axis: ClassVar[int] = 0
    lowest: ClassVar[float] = 0.042
    highest: ClassVar[float] = 0.058


@register
class TranslationY(_Translation):
    """See the item too far left or right (y): a finger comes down on it, or beside it."""

    name: ClassVar[str] = 'translation_y'
    axis: ClassVar[int] = 1
    lowest: ClassVar[float] = 0.060
    highest: ClassVar[float] = 0.085


@register
class TranslationZ(Failure):
    """See the item too high (z): the fingers close above it. Below it is the table."""

    name: ClassVar[str] = 'translation_z'
    family: ClassVar[str] = 'translation offset'
    kinds: ClassVar[frozenset[EventKind]] = _MISSES

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Shift upwards."""
        return replace(plan, sight_error=(*plan.sight_error[:2], above_item(task, rng)))


@register
class GoalOffset(Failure):
    """See the goal shifted along x or y, so far that the item does not stay there."""

    name: ClassVar[str] = 'goal_offset'
    family: ClassVar[str] = 'translation offset'
    kinds: ClassVar[frozenset[EventKind]] = frozenset(
        {EventKind.MISPLACED, EventKind.COLLISION, EventKind.TOPPLED, EventKind.JAMMED}
    )

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Choose the axis and the side; the distance is a little more than the task forgives."""
        error = [0.0, 0.0]
        sign = float(rng.choice((-1.0, 1.0)))
        error[int(rng.integers(2))] = sign * (task.goal_size + float(rng.uniform(0.002, 0.02)))
        return replace(plan, goal_error=(error[0], error[1], 0.0))


@register
class RotationOffset(Failure):
    """See the item turned otherwise than it is: the opened fingers come down on its corners."""

    name: ClassVar[str] = 'rotation_offset'
    family: ClassVar[str] = 'rotation offset'
    kinds: ClassVar[frozenset[EventKind]] = _MISSES | {EventKind.DROPPED}

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Turn the grasp so far that the item is too wide across."""
        sign = -1.0 if task.named.yaw > 0 else 1.0  # away from the arm's limits
        return replace(plan, turn_error=sign * float(rng.uniform(0.8, 1.1)))

    def applies(self, task: Task) -> bool:
        """Tell whether the item is wider across its corners than the gripper opens."""
        return task.named.shape in ('box', 'brick')
