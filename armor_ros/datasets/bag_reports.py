# SPDX-License-Identifier: Apache-2.0
"""What a monitor said while a recording was made: its FailureReports as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass

from armor_ros.datasets.cdr import deserialize, nanoseconds
from armor_ros.datasets.storage import Problems, RawMessage
from armor_ros.datasets.typestore import armor_types
from armor_ros.episodes.diagnosis import Verdict
from armor_ros.episodes.text import clean_task_id, clean_text

REPORT_TYPE = 'armor_msgs/msg/FailureReport'


@dataclass(frozen=True, slots=True)
class BagReport:
    """
    A final report; ``end_ns`` is the task's end as the monitor knew it.

    ``failure_probability`` is in [0, 1]; ``evidence`` is the picture's URI, '' where none was
    stored.
    """

    task_id: str
    end_ns: int
    verdict: Verdict
    failure_probability: float
    explanation: str
    evidence: str


def report_from(message: RawMessage, problems: Problems) -> BagReport | None:
    """Return a serialized report; None for a provisional one, and for what is none (counted)."""
    told = deserialize(message, armor_types(), problems)
    if told is None or told.provisional:
        return None
    probability = float(told.failure_probability)
    if told.verdict not in set(Verdict) or not 0 <= probability <= 1 or math.isnan(probability):
        problems[f'{message.topic}: a report has no possible verdict or probability'] += 1
        return None
    return BagReport(
        task_id=clean_task_id(told.task.task_id),
        end_ns=nanoseconds(told.task.header.stamp),
        verdict=Verdict(told.verdict),
        failure_probability=round(probability, 6),
        explanation=clean_text(told.explanation),
        evidence=clean_text(told.evidence_uri),
    )
