# SPDX-License-Identifier: Apache-2.0
"""
Which tasks a person should look at first: where one word is worth the most.

A robot that contradicts the cameras is wrong more often than one that agrees with them, so these
come first, the surest contradictions before the others. Then the tasks on which the monitor
abstained; those of a split to validate or test with, all of them, since the robot's own word
measures nothing, and disagreements alone would mislead; those without any label; failures without
explanation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from armor_ros.datasets.files import split_of
from armor_ros.datasets.manifest import write_whole
from armor_ros.episodes.diagnosis import Verdict
from armor_ros.episodes.outcome import disagrees
from armor_ros.episodes.task import TaskStatus
from armor_ros.evaluation.case import TaskLabel
from armor_ros.evaluation.opinions import Opinion
from armor_ros.evaluation.recorded import RecordedTask

TO_LABEL_FILE = 'to_label.jsonl'
VALIDATION_SPLIT = 'validation'

Reason = Literal['disagreement', 'abstention', 'validation', 'no label', 'no explanation']
_ORDER: tuple[Reason, ...] = (
    'disagreement',
    'abstention',
    'validation',
    'no label',
    'no explanation',
)


@dataclass(frozen=True, slots=True)
class Question:
    """
    A task to look at, and why; a line of to_label.jsonl.

    ``verdict``, ``failure_probability``, ``report`` (the monitor's words) and ``evidence`` are the
    monitor's, empty where it said nothing. ``views`` are the clips to watch, relative to the data
    set. ``confidence`` orders those of one reason.
    """

    reason: Reason
    task_id: str
    source: str
    split: str
    task: str
    instruction: str
    status: str
    verdict: str
    failure_probability: float | None
    report: str
    evidence: str
    views: dict[str, str]
    confidence: float


def question(
    task: RecordedTask, source: str, split: str, label: TaskLabel, opinion: Opinion | None
) -> Question | None:
    """Return what is to be asked about a task, None where nothing is worth asking."""
    reason = _reason(task, split, label, opinion)
    if reason is None:
        return None
    told = opinion or Opinion(task.task_id, task.end_ns, '')
    confidence = told.confidence
    if reason == 'abstention':
        # the closer to even, the more a label tells
        confidence = 1 - abs((told.failure_probability or 0.5) - 0.5)
    return Question(
        reason=reason,
        task_id=task.task_id,
        source=source,
        split=split,
        task=task.name,
        instruction=task.instruction,
        status=task.status,
        verdict=told.verdict,
        failure_probability=told.failure_probability,
        report=told.explanation,
        evidence=told.evidence,
        views=task.views,
        confidence=round(confidence, 6),
    )


def write_questions(root: Path, questions: Iterable[Question]) -> list[Question]:
    """Write to_label.jsonl, whole or not at all; return the questions in its order."""
    ordered = sorted(
        questions,
        key=lambda each: (_ORDER.index(each.reason), -each.confidence, each.source, each.task_id),
    )
    lines = [json.dumps(asdict(each), ensure_ascii=False, allow_nan=False) for each in ordered]
    write_whole(root / TO_LABEL_FILE, ''.join(f'{line}\n' for line in lines))
    return ordered


def _reason(
    task: RecordedTask, split: str, label: TaskLabel, opinion: Opinion | None
) -> Reason | None:
    if not task.views or not task.moved:
        # nothing to see
        return None
    is_open = label.label is None or label.weak
    verdict = Verdict[opinion.verdict] if opinion else Verdict.UNKNOWN
    if is_open and disagrees(TaskStatus[task.status], verdict):
        return 'disagreement'
    if is_open and verdict is Verdict.ABSTAIN:
        return 'abstention'
    if is_open and split_of(split) in ('val', 'test'):
        return 'validation'
    if label.label is None:
        return 'no label'
    if label.label == 'failure' and not label.explanation:
        return 'no explanation'
    return None
