# SPDX-License-Identifier: Apache-2.0
"""FailureReport messages: made of an episode and a diagnosis, and kept for those who ask."""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass

from diagnostic_msgs.msg import KeyValue

from armor_msgs.msg import FailureReport
from armor_ros.episodes.diagnosis import Diagnosis, ReportStatus, Verdict
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.outcome import disagrees
from armor_ros.episodes.task import MAX_TEXT_LENGTH, TaskStatus
from armor_ros.node.conversions import (
    NOT_COMPUTED,
    event_to_message,
    evidence_to_message,
    finite,
    rounds_to_messages,
    to_duration,
    to_time,
)

# Frames are encoded in pairs, so that the last one or two always wait for the end.
FRAMES_AT_THE_END = 2


@dataclass(frozen=True, slots=True)
class Timing:
    """Spans of one task in nanoseconds of the steady clock."""

    queue_ns: int = 0
    inference_ns: int = 0
    total_ns: int = 0


def base_report(episode: Episode, now_ns: int, timing: Timing) -> FailureReport:
    """Return a report of the task and its evidence, with the verdict UNKNOWN."""
    report = FailureReport(
        task=event_to_message(episode.task),
        task_start=to_time(episode.start_ns),
        failure_probability=0.5,
        detection_entropy=NOT_COMPUTED,
        explanation_entropy=NOT_COMPUTED,
        combined_entropy=NOT_COMPUTED,
        cameras=[evidence_to_message(clip.evidence) for clip in episode.clips],
        clip_start=to_time(episode.clip_start_ns),
        clip_end=to_time(episode.clip_end_ns),
        truncated=episode.truncated,
        queue_time=to_duration(timing.queue_ns),
        inference_time=to_duration(timing.inference_ns),
        total_time=to_duration(timing.total_ns),
    )
    report.header.stamp = to_time(now_ns)
    return report


def unknown_report(
    episode: Episode, status: ReportStatus, text: str, now_ns: int, timing: Timing
) -> FailureReport:
    """Return the report of a task on which no answer could be made."""
    report = base_report(episode, now_ns, timing)
    report.status = int(status)
    report.status_text = text[:MAX_TEXT_LENGTH]
    return report


def diagnosis_report(
    episode: Episode, diagnosis: Diagnosis, config_hash: str, now_ns: int, timing: Timing
) -> FailureReport:
    """
    Return the report of a diagnosis.

    A probability that is not a finite number makes it UNKNOWN with MODEL_ERROR.
    """
    if not math.isfinite(diagnosis.failure_probability):
        text = 'the model answered with a probability that is not a number'
        return unknown_report(episode, ReportStatus.MODEL_ERROR, text, now_ns, timing)
    report = base_report(episode, now_ns, timing)
    report.verdict = int(diagnosis.verdict)
    report.failure_probability = diagnosis.failure_probability
    report.calibrated = diagnosis.calibrated
    report.target_error = diagnosis.target_error
    report.detection_entropy = finite(diagnosis.detection_entropy)
    report.explanation_entropy = finite(diagnosis.explanation_entropy)
    report.combined_entropy = finite(diagnosis.combined_entropy)
    report.explanation = diagnosis.explanation[:MAX_TEXT_LENGTH]
    report.disagrees_with_status = disagrees(episode.task.status, diagnosis.verdict)
    report.rounds = diagnosis.rounds
    report.trajectories = diagnosis.settings.trajectories
    report.temperature = diagnosis.settings.temperature
    report.trace = rounds_to_messages(diagnosis.trace)
    report.selected = diagnosis.selected
    model = diagnosis.model
    report.model_id = model.model_id
    report.model_revision = model.revision
    report.weights_hash = model.weights_hash
    report.quantization = model.quantization
    report.config_hash = config_hash
    report.extra = [KeyValue(key=key, value=value) for key, value in _extra(diagnosis)]
    return report


def _extra(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """Return what else is to be said of a diagnosis; what is as it should be goes unsaid."""
    extra = [('model_trained', str(diagnosis.model.trained).lower())]
    if diagnosis.deadline_reached:
        extra.append(('deadline_reached', 'true'))
    if diagnosis.frame_stride > 1:
        extra.append(('frame_stride', str(diagnosis.frame_stride)))
    if diagnosis.late_frames > FRAMES_AT_THE_END:
        extra.append(('late_frames', str(diagnosis.late_frames)))
    if diagnosis.account:
        extra.append(('account', diagnosis.account[:MAX_TEXT_LENGTH]))
    return extra


def provisional_report(
    episode: Episode, failure_probability: float, now_ns: int, timing: Timing
) -> FailureReport:
    """Return the report of a first detection, before any explanation."""
    report = base_report(episode, now_ns, timing)
    verdict = Verdict.FAILURE if failure_probability >= 0.5 else Verdict.SUCCESS
    report.verdict = int(verdict)
    report.failure_probability = failure_probability
    report.disagrees_with_status = disagrees(episode.task.status, verdict)
    report.provisional = True
    return report


def one_line(report: FailureReport) -> str:
    """Return what a person wants to read of a report in a log."""
    verdict = Verdict(report.verdict).name
    line = f'task {report.task.task_id}: '
    line += f'provisionally {verdict}' if report.provisional else verdict
    if report.verdict == FailureReport.UNKNOWN:
        return f'{line}, {ReportStatus(report.status).name}: {report.status_text}'
    robot = TaskStatus(report.task.status).name
    line += f' (probability of failure {report.failure_probability:.2f}; the robot said {robot})'
    return f'{line}: {report.explanation}' if report.explanation else line


class ReportHistory:
    """
    The last reports, bounded in number: ``size`` final ones, and as many provisional ones.

    However many provisional reports come, they never cost a final one its place.
    """

    def __init__(self, size: int) -> None:
        self._numbers = itertools.count()
        self._final: deque[tuple[int, FailureReport]] = deque(maxlen=size)
        self._provisional: deque[tuple[int, FailureReport]] = deque(maxlen=size)

    def __len__(self) -> int:
        """Return the number of final reports."""
        return len(self._final)

    def add(self, report: FailureReport) -> None:
        """Keep a report; the oldest of its kind goes when there are too many."""
        kept = self._provisional if report.provisional else self._final
        kept.append((next(self._numbers), report))

    def find(
        self, task_id: str = '', count: int = 1, include_provisional: bool = False
    ) -> list[FailureReport]:
        """Return at most ``count`` reports, newest first, of one task or (empty id) of any."""
        kept = [*self._final, *self._provisional] if include_provisional else list(self._final)
        kept.sort(key=lambda entry: entry[0], reverse=True)
        found = [report for _, report in kept if not task_id or report.task.task_id == task_id]
        return found[:count]
