# SPDX-License-Identifier: Apache-2.0
"""What tasks have in common that take an item from the table to one of several goals."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.tasks.base import Task

if TYPE_CHECKING:
    from armor_ros.simulation.statelog import StateLog


class Goal(Protocol):
    """Where an item can be put: the words that identify it, and its middle (x, y), metres."""

    @property
    def name(self) -> str:
        """The words, which are also the name of the region (``Task.place_of``)."""

    @property
    def x(self) -> float:
        """Distance from the arm's base."""

    @property
    def y(self) -> float:
        """Distance from the middle, to the right in the front camera's picture."""


@dataclass(frozen=True, kw_only=True)
class Placing(Task):
    """
    A task that is done when the named item is at its goal.

    It gives ``goals`` and, in ``place_of``, where each of them begins; ``goal`` is the index of
    the one that the instruction names.
    """

    goal: int

    @property
    @abstractmethod
    def goals(self) -> Sequence[Goal]:
        """The goals that an instruction can name; ``goal`` indexes them."""

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the goals."""
        return tuple(goal.name for goal in self.goals)

    @property
    def _goal(self) -> Goal:
        return self.goals[self.goal]

    @property
    def _other_goals(self) -> list[Goal]:
        """The goals that could be taken for the one that is meant."""
        return [goal for goal in self.goals if goal not in (self._goal, self.named)]

    @property
    def aim(self) -> str:
        """At the goal."""
        return self.at(self._goal.name)

    @property
    def drop(self) -> tuple[float, float]:
        """The middle of the goal."""
        return self._goal.x, self._goal.y

    def wrong_places(self, rng: np.random.Generator) -> list[tuple[float, float]]:
        """Return the middles of the other goals."""
        return [(goal.x, goal.y) for goal in self._other_goals]

    def succeeded(self, log: StateLog) -> bool:
        """Tell whether the item is at its goal and the others are where they were."""
        return self.rest_of(log, self.target) == self._goal.name and self.undisturbed(log)

    def release_kind(self, log: StateLog, item: int, release: int) -> EventKind:
        """Tell an item at a wrong goal from one that is at none."""
        rest = self.rest_of(log, item)
        if item != self.target or rest == self._goal.name:
            return EventKind.PLACED
        if rest in [goal.name for goal in self._other_goals]:
            return EventKind.WRONG_DESTINATION
        return EventKind.MISPLACED

    def goal_offset(self, log: StateLog, sample: int) -> tuple[float, float, float]:
        """Return how far the item is from the middle of the goal, level with it."""
        x, y, _ = log.items[sample, self.target]
        return float(x - self._goal.x), float(y - self._goal.y), 0.0

    def alternatives(self) -> tuple[Task, ...]:
        """Return every other pair of an item and a goal."""
        return tuple(
            replace(self, target=i, goal=k)
            for i, item in enumerate(self.items)
            for k, goal in enumerate(self.goals)
            if (i, k) != (self.target, self.goal) and goal is not item
        )
