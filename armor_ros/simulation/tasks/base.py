# SPDX-License-Identifier: Apache-2.0
"""What a task is: its scene, its script, its condition of success, and the words for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from armor_ros.errors import ArmorError
from armor_ros.simulation.domain import DomainSettings, Look
from armor_ros.simulation.events import FLOOR, GRIPPER, TABLE, Event, EventKind
from armor_ros.simulation.scene import Item

if TYPE_CHECKING:
    from armor_ros.simulation.policy import Controller
    from armor_ros.simulation.statelog import StateLog

Position = npt.NDArray[np.float64]

GRASP_MODES = (
    'slip',
    'slip_friction',
    'incomplete_grasp',
    'translation_x',
    'translation_y',
    'translation_z',
)
"""The failures that make sense wherever something is grasped."""

TASKS: dict[str, type[Task]] = {}
"""All tasks by name; ``register`` puts them here."""


def register(task: type[Task]) -> type[Task]:
    """Enter a task under its name, so that recipes, tests and tables find it."""
    if task.name in TASKS:
        raise ArmorError(f'two tasks are named {task.name!r}')
    TASKS[task.name] = task
    return task


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """
    One task with the scene that was drawn for it: an instance is what one episode is about.

    To add a task, write one file in this folder with a class that is decorated with ``register``,
    and import it in ``tasks/__init__.py``. The class gives

    - ``name``, and ``modes``: names of the failures that make sense for it (``FAILURES``);
    - ``draw``: items among distractors and all that is random, from ``rng`` alone. No two items
      have the same name, and only colours and shapes of ``domain`` are used;
    - ``furnish``: its furniture, added to the MuJoCo model (``world.py`` adds the items, the
      table and the arm);
    - ``script``: the robot's motions, by the vocabulary of ``policy.Controller``;
    - ``succeeded``: the condition on the state log; ``place_of``: names of regions, which events
      and explanations use;
    - ``instruction``, ``aim`` and ``done``: the words, and ``origin`` where it is not the table;
    - ``alternatives``: the other instructions that this scene would allow, for the same video
      with another label.

    ``items`` holds all items, ``target`` the index of the one that the instruction names first.
    """

    name: ClassVar[str]
    modes: ClassVar[tuple[str, ...]]
    ends_at_home: ClassVar[bool] = True
    """Whether the arm goes to its ready pose in the end, or stays where it is."""
    articulations: ClassVar[tuple[str, ...]] = ()
    """Names of the furniture's joints whose positions the log shall hold."""
    goal_size: ClassVar[float] = 0.0
    """How far from its goal, metres, the item may be put down so that the task just fails."""
    zoom: ClassVar[float] = 0.68
    """Scales the field of view of the fixed cameras: a table top needs less than three totes."""
    focus: ClassVar[tuple[float, float, float]] = (0.05, 0.0, -0.08)
    """Moves the point that the fixed cameras look at, metres."""
    lifts: ClassVar[bool] = True
    """Whether items are grasped and lifted; where not, ``own_events`` tells what befell them."""
    observations: ClassVar[Mapping[EventKind, tuple[str, ...]]] = {}
    """Phrasings that fit this task better than those of ``wording.OBSERVATIONS``."""
    short_observations: ClassVar[Mapping[EventKind, tuple[str, ...]]] = {}
    """The same for ``wording.AHA_FAILURES``."""
    shortfall: ClassVar[EventKind] = EventKind.NOTHING_TRANSPORTED
    """The event when nothing went wrong, and the goal is not reached all the same."""

    items: tuple[Item, ...]
    target: int

    @classmethod
    @abstractmethod
    def draw(cls, rng: np.random.Generator, domain: DomainSettings) -> Task:
        """Draw a scene and which of its items the task is about."""

    @property
    @abstractmethod
    def instruction(self) -> str:
        """The task in words, as it completes "the robot is attempting to ..."."""

    @property
    def origin(self) -> str:
        """Where the named item is at the beginning, as it completes "from ...": 'the table'."""
        return f'the {TABLE}'

    @property
    @abstractmethod
    def aim(self) -> str:
        """Where it is to be at the end, as in "it did not end ...": 'in the right bin'."""

    @property
    @abstractmethod
    def done(self) -> str:
        """The task done, after "the robot": 'placed the red block on the blue block'."""

    @property
    def drop(self) -> tuple[float, float]:
        """Where the robot puts the item down (x, y), metres; its own place unless overridden."""
        return self.named.x, self.named.y

    @property
    def sticky(self) -> tuple[tuple[int, int], ...]:
        """Pairs of items that stand so close that they could stick together; none by default."""
        return ()

    @property
    def named(self) -> Item:
        """The item that the instruction names first."""
        return self.items[self.target]

    def furnish(self, spec: Any, look: Look) -> None:
        """Add the task's furniture to an ``MjSpec``; none unless overridden."""
        return

    @abstractmethod
    def script(self, robot: Controller) -> Iterator[None]:
        """Do the task: yields once per tick of 20 ms; AbortError from ``robot`` ends it."""

    @abstractmethod
    def succeeded(self, log: StateLog) -> bool:
        """Tell from the states alone whether the task was done."""

    def place_of(self, position: Position) -> str:
        """Return the name of the region at or above which a point (x, y, z) is."""
        return FLOOR if position[2] < -0.05 else TABLE

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions that an item can be put into; none unless overridden."""
        return ()

    def at(self, place: str) -> str:
        """Return a place's name with its preposition: 'on the table', 'in the left bin'."""
        return f'on the {place}' if place in (TABLE, FLOOR) else f'in the {place}'

    def others(self) -> list[int]:
        """Return the items that could be taken for the named one."""
        return [i for i in range(len(self.items)) if i != self.target]

    def wrong_places(self, rng: np.random.Generator) -> list[tuple[float, float]]:
        """Return places (x, y), metres, that could be taken for the goal; none by default."""
        return []

    def alternatives(self) -> tuple[Task, ...]:
        """Return the task under other instructions that are not fulfilled at the beginning."""
        return ()

    def release_kind(self, log: StateLog, item: int, release: int) -> EventKind:
        """Return what a release of an item, at a sample of the log, amounts to."""
        if item != self.target or self.succeeded(log):
            return EventKind.PLACED
        return EventKind.WRONG_DESTINATION

    def hard_contact(self, log: StateLog, sample: int, event: Event) -> Event | None:
        """
        Return what a collision is in this task's terms; the collision itself unless overridden.

        None when a contact so hard belongs to the task.
        """
        return event

    def own_events(self, log: StateLog) -> list[Event]:
        """Return events that only this task knows; none unless overridden."""
        return []

    def goal_offset(self, log: StateLog, sample: int) -> tuple[float, float, float]:
        """Return how far the named item is from its goal at a sample, metres; 0 where unknown."""
        return 0.0, 0.0, 0.0

    def event_at(
        self, log: StateLog, kind: EventKind, sample: int, item: int | None = None
    ) -> Event:
        """Return an event that befell an item, the named one by default, at a sample."""
        if item is None:
            item = self.target
        position = log.items[sample, item]
        return Event(
            kind=kind,
            time_ns=int(log.times_ns[sample]),
            item=item,
            place=self.place_of(position),
            came_to_rest=self.rest_of(log, item),
            position=(float(position[0]), float(position[1]), float(position[2])),
        )

    def rest_of(self, log: StateLog, item: int) -> str:
        """Return where an item is at the end."""
        if log.touched[-1, item].all() and log.closing[-1]:
            return GRIPPER
        return self.place_of(log.items[-1, item])

    def undisturbed(self, log: StateLog) -> bool:
        """Tell whether no other item is elsewhere at the end than at the beginning."""
        return all(
            self.place_of(log.items[0, i]) == self.rest_of(log, i)
            for i in range(len(self.items))
            if i != self.target
        )
