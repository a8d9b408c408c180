# SPDX-License-Identifier: Apache-2.0
"""Failures of the order of steps."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures.base import Failure, register
from armor_ros.simulation.plan import CLOSE_FIRST, LET_GO_EARLY, NO_CHECK, Plan
from armor_ros.simulation.tasks.base import Task


@register
class WrongSequence(Failure):
    """Close the gripper before coming down, or let go before carrying; nobody checks."""

    name: ClassVar[str] = 'wrong_sequence'
    family: ClassVar[str] = 'wrong sequence'
    kinds: ClassVar[frozenset[EventKind]] = frozenset({EventKind.WRONG_SEQUENCE})

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Choose one of the two."""
        step = str(rng.choice((CLOSE_FIRST, LET_GO_EARLY)))
        return replace(plan, deviations=plan.deviations | {step, NO_CHECK}, watches_grip=False)
