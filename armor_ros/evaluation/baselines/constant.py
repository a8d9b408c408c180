# SPDX-License-Identifier: Apache-2.0
"""Baselines that look at nothing: what a figure must beat before it means anything."""

from __future__ import annotations

from dataclasses import dataclass

from armor_ros.episodes.episode import Episode
from armor_ros.episodes.task import TaskStatus
from armor_ros.evaluation.baselines.answer import SUCCESS_EXPLANATION, Answer


@dataclass(frozen=True, slots=True)
class ConstantBaseline:
    """Says the same of every task: success with its one sentence, or failure without a reason."""

    name: str
    failed: bool
    parallel: int = 1

    def check(self) -> None:
        """Nothing can be missing."""

    def answer(self, episode: Episode) -> Answer:
        """Return the constant answer."""
        return Answer(self.failed, '' if self.failed else SUCCESS_EXPLANATION)


@dataclass(frozen=True, slots=True)
class StatusBaseline:
    """
    Repeats what the robot's own stack said: SUCCEEDED is success, ABORTED failure.

    Of other tasks it says nothing. Its explanation of a failure is the stack's message.
    """

    name: str = 'status'
    parallel: int = 1

    def check(self) -> None:
        """Nothing can be missing."""

    def answer(self, episode: Episode) -> Answer:
        """Return the status of the task's end as an answer."""
        task = episode.task
        if task.status is TaskStatus.SUCCEEDED:
            return Answer(False, SUCCESS_EXPLANATION)
        return Answer(True if task.status is TaskStatus.ABORTED else None, task.message)
