# SPDX-License-Identifier: Apache-2.0
"""Failures of the way: running into what stands around."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures.base import Failure, register
from armor_ros.simulation.plan import Plan
from armor_ros.simulation.scene import SHAPES, TOTE_WALL_HEIGHT
from armor_ros.simulation.tasks.base import Task

_NEXT_BUT_ONE = 0.40
"""Further away than this, metres, is the tote after the next."""


@register
class Collision(Failure):
    """Carry the item too low, so that it runs into the wall of its tote."""

    name: ClassVar[str] = 'collision'
    family: ClassVar[str] = 'collision'
    kinds: ClassVar[frozenset[EventKind]] = frozenset({EventKind.COLLISION})

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Let the item's bottom stay below the wall's top."""
        bottom = TOTE_WALL_HEIGHT - float(rng.uniform(0.020, 0.028))
        return replace(plan, carry_height=bottom + SHAPES[task.named.shape].grasp)

    def applies(self, task: Task) -> bool:
        """Tell whether an item that tumbles over the wall lands elsewhere than at its goal."""
        return abs(task.drop[1] - task.named.y) > _NEXT_BUT_ONE
