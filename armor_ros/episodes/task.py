# SPDX-License-Identifier: Apache-2.0
"""Tasks of the robot: what started, what ended, and what the robot's own stack said of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

MAX_TASK_ID_LENGTH = 128
MAX_TEXT_LENGTH = 2000


class TaskPhase(enum.IntEnum):
    """Which end of a task an event marks. Values equal the constants of ``TaskEvent.msg``."""

    START = 1
    END = 2


class TaskStatus(enum.IntEnum):
    """What the robot's stack says of an ended task. Values equal ``action_msgs/GoalStatus``."""

    UNKNOWN = 0
    SUCCEEDED = 4
    CANCELED = 5
    ABORTED = 6


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """
    The start or the end of one task.

    ``stamp_ns`` is the instant of the event in nanoseconds of the ROS clock. ``instruction``
    completes "the robot is attempting to ..."; it may be empty. ``cameras`` restricts the task to
    some cameras by name; empty means all. ``status`` and ``message`` matter at END only.
    """

    phase: TaskPhase
    task_id: str
    stamp_ns: int
    name: str = ''
    instruction: str = ''
    status: TaskStatus = TaskStatus.UNKNOWN
    message: str = ''
    cameras: tuple[str, ...] = ()
    context: tuple[tuple[str, str], ...] = field(default=())
