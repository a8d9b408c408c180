# SPDX-License-Identifier: Apache-2.0
"""What the desk tells of a task that has ended: news on the way, and how it came out."""

from __future__ import annotations

from dataclasses import dataclass

from armor_ros.episodes.diagnosis import Diagnosis, ReportStatus, Round
from armor_ros.episodes.episode import Episode


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    The end of one task: a diagnosis, or the status and text that say why there is none.

    Spans are nanoseconds of the steady clock: waiting, inference, and all since the end of the
    task was received.
    """

    episode: Episode
    diagnosis: Diagnosis | None
    status: ReportStatus
    text: str
    queue_ns: int
    inference_ns: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class Progress:
    """
    News of a task on its way to its outcome.

    ``failure_probability``, ``rounds`` and ``diagnosis`` are empty when inference has just begun;
    then comes the first detection, then the answers of each round and what they, with those
    before, amount to. Spans as in ``Outcome``.
    """

    episode: Episode
    queue_ns: int
    inference_ns: int
    total_ns: int
    failure_probability: float | None = None
    rounds: tuple[Round, ...] = ()
    diagnosis: Diagnosis | None = None
