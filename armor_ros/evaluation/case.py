# SPDX-License-Identifier: Apache-2.0
"""A case: one task as an Episode, where it comes from, and what is known of how it went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from armor_ros.datasets.manifest import Label
from armor_ros.episodes.episode import Episode

LabelSource = Literal['', 'status', 'event', 'label_task', 'sidecar', 'dataset']


@dataclass(frozen=True, slots=True)
class TaskLabel:
    """
    What is known of a task's outcome, and who says so.

    ``source`` is 'status' or 'event' (the robot's own stack, by an action's status or a
    TaskEvent), 'label_task' (an operator, through the node's service), 'sidecar' (a file given by
    the user), 'dataset', or '' when nothing is known. ``weak`` marks the word of the robot's own
    stack, which is what a monitor is there to doubt.
    """

    label: Label | None = None
    source: LabelSource = ''
    weak: bool = False
    explanation: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """
    One task to be judged.

    ``source`` names its recording or data set, ``source_kind`` that one's format ('bag',
    'manifest', ...), ``sample_id`` its record ('' in a bag). ``recording`` is equal for cases that
    show the same recording (of which intervals must not take them for independent), ``group`` for
    those that belong together for another reason. ``newest_ns`` holds the stamp of each camera's
    newest frame by name, see ``check_frames``.
    """

    episode: Episode
    source: str
    source_kind: str = 'bag'
    sample_id: str = ''
    label: TaskLabel = field(default_factory=TaskLabel)
    split: str = ''
    task_kind: str = ''
    recording: str = ''
    group: str = ''
    injected_mode: str = ''
    failure_kind: str = ''
    newest_ns: Mapping[str, int] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The sample's id, in a bag the task's."""
        return self.sample_id or self.episode.task.task_id
