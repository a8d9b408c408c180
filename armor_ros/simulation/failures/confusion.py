# SPDX-License-Identifier: Apache-2.0
"""Failures of what the instruction means: another item, another goal."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures.base import Failure, register
from armor_ros.simulation.plan import Plan
from armor_ros.simulation.tasks.base import Task


@register
class WrongObject(Failure):
    """Take another item for the one that was named."""

    name: ClassVar[str] = 'wrong_object'
    family: ClassVar[str] = 'wrong object'
    kinds: ClassVar[frozenset[EventKind]] = frozenset({EventKind.WRONG_OBJECT})

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Choose one of the items that could be meant."""
        return replace(plan, item=int(rng.choice(task.others())))

    def applies(self, task: Task) -> bool:
        """Tell whether there is another item."""
        return bool(task.others())


@register
class WrongDestination(Failure):
    """Put the item down where it was not asked for."""

    name: ClassVar[str] = 'wrong_destination'
    family: ClassVar[str] = 'wrong destination'
    kinds: ClassVar[frozenset[EventKind]] = frozenset({EventKind.WRONG_DESTINATION})

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Choose one of the places that could be meant."""
        places = task.wrong_places(rng)
        return replace(plan, place=places[int(rng.integers(len(places)))])

    def applies(self, task: Task) -> bool:
        """Tell whether there is another place."""
        return bool(task.wrong_places(np.random.default_rng(0)))
