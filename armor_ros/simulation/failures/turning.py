# SPDX-License-Identifier: Apache-2.0
"""Failures of how the item is turned when it comes to its goal."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures.base import Failure, register
from armor_ros.simulation.plan import NO_TURN, Plan
from armor_ros.simulation.tasks.base import Task

_KINDS = frozenset({EventKind.JAMMED, EventKind.MISPLACED})


@register
class GoalRotation(Failure):
    """Turn the item otherwise than its goal needs it."""

    name: ClassVar[str] = 'goal_rotation'
    family: ClassVar[str] = 'rotation offset'
    kinds: ClassVar[frozenset[EventKind]] = _KINDS

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Choose the side and the angle of what is believed of the goal."""
        turn = float(rng.choice((-1.0, 1.0))) * float(rng.uniform(0.45, 0.8))
        return replace(plan, goal_turn_error=turn)


@register
class MissingRotation(Failure):
    """Leave the turns out: neither item nor goal is turned as the robot's base is."""

    name: ClassVar[str] = 'missing_rotation'
    family: ClassVar[str] = 'missing rotation'
    kinds: ClassVar[frozenset[EventKind]] = _KINDS

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Leave out all turns of the gripper."""
        return replace(plan, deviations=plan.deviations | {NO_TURN})
