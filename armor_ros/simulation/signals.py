# SPDX-License-Identifier: Apache-2.0
"""What the robot's own stack publishes of a task: its action's status, or TaskEvents."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from armor_ros.datasets.bags import TASK_EVENT_TOPIC, BagStatus, BagTaskEvent
from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus

Trigger = Literal['action', 'task_event']
TRIGGERS: tuple[Trigger, ...] = get_args(Trigger)

EPOCH_NS = 1_767_254_400 * 1_000_000_000
"""The robot's clock when each recording begins: 2026-01-01 08:00:00 UTC."""

_ACCEPTED, _EXECUTING = 1, 2
_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Goal:
    """
    One task as the stack knows it.

    ``name`` is that of the task, and of the action behind a '/'; ``id`` 32 hexadecimal digits.
    ``start_ns`` is the start's stamp, ``end_ns`` the instant at which the end is logged, both on
    the robot's clock.
    """

    name: str
    id: str
    start_ns: int
    end_ns: int
    instruction: str
    status: TaskStatus
    message: str = ''

    def task_id(self, trigger: Trigger) -> str:
        """Return the id that the monitor forms."""
        return f'/{self.name}/{self.id}' if trigger == 'action' else self.id

    def state(self, status: int) -> GoalState:
        """Return the goal's entry in a status array."""
        return GoalState(bytes.fromhex(self.id), self.start_ns, status)


def goal_id(seed: int) -> str:
    """Return the id of a goal that a seed decides, a random UUID's 32 digits."""
    return uuid.UUID(bytes=np.random.default_rng((seed, 2)).bytes(16), version=4).hex


def signals(
    goal: Goal, trigger: Trigger, earlier: Sequence[GoalState] = ()
) -> list[BagStatus | BagTaskEvent]:
    """
    Return what is published of a task, in log order.

    With ``trigger`` 'action' it is three status arrays, which list the ``earlier`` goals of the
    action too and cannot say what was asked for; with 'task_event' a START and an END, which do.
    """
    if trigger == 'task_event':
        start = TaskEvent(TaskPhase.START, goal.id, goal.start_ns, goal.name, goal.instruction)
        end = dataclasses.replace(
            start,
            phase=TaskPhase.END,
            stamp_ns=goal.end_ns,
            status=goal.status,
            message=goal.message,
        )
        return [
            BagTaskEvent(TASK_EVENT_TOPIC, goal.start_ns + _MS, start),
            BagTaskEvent(TASK_EVENT_TOPIC, goal.end_ns, end),
        ]
    return [
        BagStatus(f'/{goal.name}', log_ns, (*earlier, goal.state(status)))
        for status, log_ns in (
            (_ACCEPTED, goal.start_ns + _MS),
            (_EXECUTING, goal.start_ns + 3 * _MS),
            (int(goal.status), goal.end_ns),
        )
    ]
