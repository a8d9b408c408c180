# SPDX-License-Identifier: Apache-2.0
"""Failures of a pull: not far enough."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures.base import Failure, register
from armor_ros.simulation.plan import Plan
from armor_ros.simulation.tasks.base import Task


@register
class ShortPull(Failure):
    """See the end of the pull too near to the robot: it lets go too early."""

    name: ClassVar[str] = 'short_pull'
    family: ClassVar[str] = 'translation offset'
    kinds: ClassVar[frozenset[EventKind]] = frozenset(
        {EventKind.MISPLACED, EventKind.GOAL_NOT_REACHED}
    )

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Shorten the way along x."""
        return replace(plan, goal_error=(-float(rng.uniform(0.055, 0.095)), 0.0, 0.0))
