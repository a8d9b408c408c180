# SPDX-License-Identifier: Apache-2.0
"""One line of predictions.jsonl: a task, its evidence, and what was made of it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from armor_ros.episodes.diagnosis import Diagnosis, ReportStatus, Round, Verdict
from armor_ros.episodes.episode import CameraClip, Episode
from armor_ros.episodes.outcome import disagrees


@dataclass(frozen=True, slots=True)
class Prediction:
    """
    What was made of one Episode.

    ``diagnosis`` is None where ``status`` is not OK; ``status_text`` then says why. ``picture`` is
    the evidence's path relative to the output folder, '' without. ``inference_seconds`` is what
    inference took; it is the only value that differs from run to run.
    """

    bag: str
    episode: Episode
    status: ReportStatus
    status_text: str
    diagnosis: Diagnosis | None
    config_hash: str
    picture: str
    inference_seconds: float

    @property
    def verdict(self) -> Verdict:
        """The verdict; UNKNOWN without a diagnosis."""
        return Verdict.UNKNOWN if self.diagnosis is None else self.diagnosis.verdict

    @property
    def disagrees(self) -> bool:
        """Whether the verdict contradicts what the robot's stack said."""
        return disagrees(self.episode.task.status, self.verdict)

    def to_json(self) -> str:
        """
        Return the line without its end; keys always come in the same order.

        Names and meanings are those of FailureReport. Times are integers of nanoseconds; values
        that only a model can give are null without a diagnosis.
        """
        record = {**self._task(), **self._answer(), **self._evidence()}
        record['timing'] = {'inference_seconds': round(self.inference_seconds, 6)}
        return json.dumps(record, ensure_ascii=False, allow_nan=False)

    def _task(self) -> dict[str, Any]:
        task = self.episode.task
        return {
            'bag': self.bag,
            'task_id': task.task_id,
            'task_name': task.name,
            'instruction': task.instruction,
            'task_status': task.status.name,
            'task_status_message': task.message,
            'context': dict(task.context),
            'task_start_ns': self.episode.start_ns,
            'task_end_ns': self.episode.end_ns,
        }

    def _answer(self) -> dict[str, Any]:
        diagnosis = self.diagnosis
        model = diagnosis and diagnosis.model
        return {
            'verdict': self.verdict.name,
            'status': self.status.name,
            'status_text': self.status_text,
            'disagrees_with_status': self.disagrees,
            'failure_probability': diagnosis and diagnosis.failure_probability,
            'calibrated': bool(diagnosis and diagnosis.calibrated),
            'target_error': diagnosis and diagnosis.target_error,
            'detection_entropy': diagnosis and diagnosis.detection_entropy,
            'explanation_entropy': diagnosis and diagnosis.explanation_entropy,
            'combined_entropy': diagnosis and diagnosis.combined_entropy,
            'explanation': diagnosis.explanation if diagnosis else '',
            'rounds': diagnosis.rounds if diagnosis else 0,
            'trajectories': diagnosis.settings.trajectories if diagnosis else 0,
            'temperature': diagnosis and diagnosis.settings.temperature,
            'frame_stride': diagnosis and diagnosis.frame_stride,
            'deadline_reached': bool(diagnosis and diagnosis.deadline_reached),
            'trace': [_round(entry) for entry in diagnosis.trace] if diagnosis else [],
            'selected': diagnosis and diagnosis.selected,
            'model': model
            and {
                'model_id': model.model_id,
                'revision': model.revision,
                'weights_hash': model.weights_hash,
                'quantization': model.quantization,
                'trained': model.trained,
            },
            'config_hash': self.config_hash,
        }

    def _evidence(self) -> dict[str, Any]:
        return {
            'clip_start_ns': self.episode.clip_start_ns,
            'clip_end_ns': self.episode.clip_end_ns,
            'truncated': self.episode.truncated,
            'cameras': [_camera(clip) for clip in self.episode.clips],
            'evidence': self.picture,
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
