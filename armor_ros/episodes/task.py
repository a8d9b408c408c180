# SPDX-License-Identifier: Apache-2.0
"""Tasks of the robot: what started, what ended, and what the robot's own stack said of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from armor_ros.episodes.text import (
    MAX_TASK_ID_LENGTH,
    MAX_TEXT_LENGTH,
    clean_task_id,
    clean_text,
    safe_file_name,
)

__all__ = [
    'MAX_TASK_ID_LENGTH',
    'MAX_TEXT_LENGTH',
    'TaskEvent',
    'TaskPhase',
    'TaskStatus',
    'clean_event',
    'clean_status',
    'clean_task_id',
    'clean_text',
    'safe_file_name',
]

MAX_CAMERAS = 64
MAX_CONTEXT = 64
MAX_NAME_LENGTH = 128
UNNAMED = 'unnamed'


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


def clean_event(event: TaskEvent) -> TaskEvent:
    """
    Return the event with every text made harmless and every length bounded.

    A task without an id is called ``'unnamed'``.
    """
    return replace(
        event,
        task_id=clean_task_id(event.task_id) or UNNAMED,
        name=clean_text(event.name, MAX_NAME_LENGTH),
        instruction=clean_text(event.instruction),
        status=clean_status(event.status),
        message=clean_text(event.message),
        cameras=tuple(clean_text(name, MAX_NAME_LENGTH) for name in event.cameras[:MAX_CAMERAS]),
        context=tuple(
            (clean_text(key, MAX_NAME_LENGTH), clean_text(value))
            for key, value in event.context[:MAX_CONTEXT]
        ),
    )


def clean_status(status: int) -> TaskStatus:
    """Return the status; UNKNOWN for any number that is none."""
    try:
        return TaskStatus(status)
    except ValueError:
        return TaskStatus.UNKNOWN
