# SPDX-License-Identifier: Apache-2.0
"""Failures of a push: beside the item, in a wrong direction, too late."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures.base import Failure, register
from armor_ros.simulation.plan import NO_LOWERING, Plan
from armor_ros.simulation.tasks.base import Task


@register
class MissedPush(Failure):
    """See the item beside the way of the push: the fingers pass it, or only graze it."""

    name: ClassVar[str] = 'missed_push'
    family: ClassVar[str] = 'translation offset'
    kinds: ClassVar[frozenset[EventKind]] = frozenset(
        {EventKind.MISSED, EventKind.MISPLACED, EventKind.TOPPLED, EventKind.COLLISION}
    )

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Shift what is seen across the way, to either side."""
        way = np.array(task.drop) - (task.named.x, task.named.y)
        across = np.array([-way[1], way[0]]) / np.linalg.norm(way)
        shift = float(rng.choice((-1.0, 1.0))) * float(rng.uniform(0.065, 0.095)) * across
        return replace(plan, sight_error=(float(shift[0]), float(shift[1]), 0.0))


@register
class PushDirection(Failure):
    """Push in a direction that is turned away from the goal."""

    name: ClassVar[str] = 'push_direction'
    family: ClassVar[str] = 'rotation offset'
    kinds: ClassVar[frozenset[EventKind]] = frozenset(
        {
            EventKind.MISPLACED,
            EventKind.WRONG_DESTINATION,
            EventKind.TOPPLED,
            EventKind.COLLISION,
        }
    )

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Turn the push about the item, to either side."""
        turn = float(rng.choice((-1.0, 1.0))) * float(rng.uniform(0.5, 0.75))
        return replace(plan, turn_error=turn)


@register
class LateLowering(Failure):
    """Move across to the goal first and come down there: nothing is pushed."""

    name: ClassVar[str] = 'late_lowering'
    family: ClassVar[str] = 'wrong sequence'
    kinds: ClassVar[frozenset[EventKind]] = frozenset({EventKind.WRONG_SEQUENCE})

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Leave the lowering for the end."""
        return replace(plan, deviations=plan.deviations | {NO_LOWERING})
