# SPDX-License-Identifier: Apache-2.0
"""What an injected failure is: a perturbation of the plan, and what it is meant to lead to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from armor_ros.errors import ArmorError
from armor_ros.simulation.events import Event, EventKind
from armor_ros.simulation.plan import Plan
from armor_ros.simulation.tasks.base import TASKS, Task

NOMINAL = 'nominal'
"""The mode in which nothing is disturbed."""

FAILURES: dict[str, type[Failure]] = {}
"""All failures by the name of their mode; ``register`` puts them here."""


def register(failure: type[Failure]) -> type[Failure]:
    """Enter a failure under its name, so that tasks, recipes, tests and tables find it."""
    if failure.name in FAILURES:
        raise ArmorError(f'two failures are named {failure.name!r}')
    FAILURES[failure.name] = failure
    return failure


class Failure(ABC):
    """
    One way to disturb an episode.

    A failure spoils what the robot believes, commands or can hold with. Whether the task then
    fails, and how, is for physics and for the judge to say; the mode is never a label.

    To add one, write a class that is decorated with ``register`` in a file of this folder, import
    that file in ``failures/__init__.py``, and put the name into the ``modes`` of the tasks that it
    makes sense for. The class gives

    - ``name``, the mode; ``family``, the kind of failure it belongs to, as AHA or the warehouse
      data name it; ``kinds``, the judged events that are a failure of this family;
    - ``spoil``: the plan with something wrong in it, from ``rng`` alone;
    - ``applies``, where a drawn scene may not allow it: another scene is drawn then.

    ``python -m armor_ros.simulation.outcomes`` tells how often it leads to its family's failure.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    kinds: ClassVar[frozenset[EventKind]]

    @abstractmethod
    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Return the plan with something wrong in it."""

    def applies(self, task: Task) -> bool:
        """Tell whether the drawn scene allows this failure."""
        return True

    def matches(self, cause: Event) -> bool:
        """Tell whether a judged cause is a failure of this family."""
        return cause.kind in self.kinds


def modes_of(task_name: str) -> tuple[str, ...]:
    """Return the modes that apply to a task, 'nominal' first. Raises ArmorError if unknown."""
    if task_name not in TASKS:
        raise ArmorError(f'no task {task_name!r}; choose from: {", ".join(TASKS)}')
    return (NOMINAL, *TASKS[task_name].modes)


def failure_of(mode: str, task_name: str) -> Failure | None:
    """
    Return the failure of a mode, None for 'nominal'.

    Raises ArmorError on a mode that the task does not have.
    """
    if mode not in modes_of(task_name):
        raise ArmorError(
            f'no mode {mode!r} to inject into {task_name}; '
            f'choose from: {", ".join(modes_of(task_name))}'
        )
    return None if mode == NOMINAL else FAILURES[mode]()
