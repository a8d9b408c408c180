# SPDX-License-Identifier: Apache-2.0
"""One line of predictions.jsonl: a task, its evidence, and what was made of it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from armor_ros.episodes.diagnosis import Diagnosis, ReportStatus, Round, Verdict
from armor_ros.episodes.episode import CameraClip
from armor_ros.episodes.outcome import disagrees
from armor_ros.evaluation.baselines.answer import Answer
from armor_ros.evaluation.case import Case


@dataclass(frozen=True, slots=True)
class Timing:
    """
    Seconds, from the start of inference: to its end, to round 0's detection (None without one).

    ``rounds`` is what each round took, the first one with everything before it.
    """

    inference: float = 0.0
    first_detection: float | None = None
    rounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """
    What was made of one case: a ``diagnosis`` by the model, or an ``answer`` by a ``baseline``.

    Both are None where ``status`` is not OK; ``status_text`` then says why. ``picture`` is the
    evidence's path relative to the output folder, '' without. ``timing`` is all that differs from
    run to run.
    """

    case: Case
    status: ReportStatus
    status_text: str
    diagnosis: Diagnosis | None = None
    baseline: str = ''
    answer: Answer | None = None
    config_hash: str = ''
    picture: str = ''
    timing: Timing = field(default_factory=Timing)

    @property
    def verdict(self) -> Verdict:
        """The verdict; UNKNOWN without an answer."""
        if self.diagnosis is not None:
            return self.diagnosis.verdict
        if self.answer is None or self.answer.failed is None:
            return Verdict.UNKNOWN
        return Verdict.FAILURE if self.answer.failed else Verdict.SUCCESS

    @property
    def disagrees(self) -> bool:
        """Whether the verdict contradicts what the robot's stack said."""
        return disagrees(self.case.episode.task.status, self.verdict)

    def to_line(self) -> dict[str, Any]:
        """
        Return the line of predictions.jsonl; keys always come in the same order.

        Names and meanings are those of FailureReport where it has them. Times are integers of
        nanoseconds; values that only a model can give are null without a diagnosis.
        """
        return {
            **self._task(),
            **self._label(),
            **self._answer(),
            **self._evidence(),
            'timing': self._timing(),
        }

    def to_json(self) -> str:
        """Return the line as JSON, without its end."""
        text = json.dumps(self.to_line(), ensure_ascii=False, allow_nan=False)
        # half a character, as a broken name has it, is written as JSON escapes it
        return text.encode('utf-8', 'backslashreplace').decode()

    def _task(self) -> dict[str, Any]:
        case, episode = self.case, self.case.episode
        task = episode.task
        return {
            'source': case.source,
            'source_kind': case.source_kind,
            'sample_id': case.sample_id,
            'task_id': task.task_id,
            'task_name': task.name,
            'instruction': task.instruction,
            'task_status': task.status.name,
            'task_status_message': task.message,
            'context': dict(task.context),
            'task_start_ns': episode.start_ns,
            'task_end_ns': episode.end_ns,
            'split': case.split,
            'task_kind': case.task_kind,
            'episode': f'{case.source}/{case.recording or case.id}',
            'group': f'{case.source}/{case.group}' if case.group else '',
            'injected_mode': case.injected_mode,
            'failure_kind': case.failure_kind,
        }

    def _label(self) -> dict[str, Any]:
        label = self.case.label
        return {
            'label': label.label,
            'label_source': label.source,
            'label_weak': label.weak,
            'label_explanation': label.explanation,
        }

    def _answer(self) -> dict[str, Any]:
        diagnosis, answer = self.diagnosis, self.answer
        return {
            'verdict': self.verdict.name,
            'status': self.status.name,
            'status_text': self.status_text,
            'disagrees_with_status': self.disagrees,
            'failure_probability': (diagnosis and diagnosis.failure_probability)
            if answer is None
            else answer.failure_probability,
            'calibrated': bool(diagnosis and diagnosis.calibrated),
            'target_error': diagnosis and diagnosis.target_error,
            'detection_entropy': diagnosis and diagnosis.detection_entropy,
            'explanation_entropy': diagnosis and diagnosis.explanation_entropy,
            'combined_entropy': diagnosis and diagnosis.combined_entropy,
            'explanation': (diagnosis.explanation if diagnosis else '')
            if answer is None
            else answer.explanation,
            'account': diagnosis.account if diagnosis else '',
            'rounds': diagnosis.rounds if diagnosis else 0,
            'trajectories': diagnosis.settings.trajectories if diagnosis else 0,
            'temperature': diagnosis and diagnosis.settings.temperature,
            'frame_stride': diagnosis and diagnosis.frame_stride,
            'deadline_reached': bool(diagnosis and diagnosis.deadline_reached),
            'trace': [_round(entry) for entry in diagnosis.trace] if diagnosis else [],
            'selected': diagnosis and diagnosis.selected,
            'model': self._model(),
            'config_hash': self.config_hash,
            'settings': self._settings(),
            'unparsable': answer is not None and answer.unparsable,
            'raw_answers': list(answer.raw) if answer else [],
        }

    def _settings(self) -> dict[str, Any] | None:
        """Return the settings that the answer was made with, and the clip's rate."""
        if self.diagnosis is None:
            return None
        return {**asdict(self.diagnosis.settings), 'fps': self.case.episode.fps}

    def _model(self) -> dict[str, Any] | None:
        if self.baseline:
            return {'model_id': self.baseline}
        if self.diagnosis is None:
            return None
        model = self.diagnosis.model
        return {
            'model_id': model.model_id,
            'revision': model.revision,
            'weights_hash': model.weights_hash,
            'quantization': model.quantization,
            'trained': model.trained,
            'calibration': model.calibration,
        }

    def _evidence(self) -> dict[str, Any]:
        episode = self.case.episode
        return {
            'clip_start_ns': episode.clip_start_ns,
            'clip_end_ns': episode.clip_end_ns,
            'truncated': episode.truncated,
            'cameras': [_camera(clip) for clip in episode.clips],
            'evidence': self.picture,
        }

    def _timing(self) -> dict[str, Any]:
        timing = self.timing
        first = timing.first_detection
        return {
            'inference_seconds': round(timing.inference, 6),
            'first_detection_seconds': None if first is None else round(first, 6),
            'round_seconds': [round(seconds, 6) for seconds in timing.rounds],
        }


def is_finite(diagnosis: Diagnosis) -> bool:
    """Tell whether every number of a diagnosis is one."""
    entries: list[Diagnosis | Round] = [diagnosis, *diagnosis.trace]
    return all(
        math.isfinite(value)
        for entry in entries
        for value in (
            entry.failure_probability,
            entry.detection_entropy,
            entry.explanation_entropy,
            entry.combined_entropy,
        )
    )


def _round(entry: Round) -> dict[str, Any]:
    return {
        'round': entry.round,
        'trajectory': entry.trajectory,
        'failure_probability': entry.failure_probability,
        'failed': entry.failed,
        'explanation': entry.explanation,
        'detection_entropy': entry.detection_entropy,
        'explanation_entropy': entry.explanation_entropy,
        'combined_entropy': entry.combined_entropy,
        'best': entry.best,
        'agreement': entry.agreement,
        'contradicts': entry.contradicts,
    }


def _camera(clip: CameraClip) -> dict[str, Any]:
    evidence = clip.evidence
    return {
        'camera': evidence.camera,
        'topic': evidence.topic,
        'frames_seen': evidence.frames_seen,
        'frames_used': evidence.frames_used,
        'frames_undecodable': evidence.frames_undecodable,
        'first_stamp_ns': evidence.first_stamp_ns,
        'last_stamp_ns': evidence.last_stamp_ns,
        'largest_gap_ns': evidence.largest_gap_ns,
        'stamps_ns': [int(stamp) for stamp in clip.stamps_ns],
    }
