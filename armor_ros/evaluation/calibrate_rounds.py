# SPDX-License-Identifier: Apache-2.0
"""
How many rounds of refinement a checkpoint is worth, chosen on labelled tasks it has answered.

Algorithm 2 stops by entropy, which does not know what is right; whether its rounds earn their
cost is a question to data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from armor_ros.episodes.diagnosis import ReturnPolicy
from armor_ros.errors import ArmorError
from armor_ros.evaluation.intervals import Array, Bootstrap, Flags, divide
from armor_ros.evaluation.lines import Line, answer_within, cluster_of, has_reference, rounds_run
from armor_ros.evaluation.reasoning import rouge_l

# What rounding leaves of a difference of nothing.
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class RoundsScore:
    """
    What refinement by at most ``rounds`` rounds answers.

    ``ran`` counts the tasks that took so many. ``accuracy`` is balanced, the mean of the shares
    of failures and of successes told right; ``rouge_l`` the mean of the explanations that there
    is a reference for, None without any; ``score`` the mean of both, or the accuracy alone.
    ``behind`` is the best score minus this one, ``error`` the standard error of that difference.
    ``seconds`` is the mean time of the rounds, None where it was not taken.
    """

    rounds: int
    ran: int
    accuracy: float
    rouge_l: float | None
    score: float
    behind: float
    error: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class RoundsChoice:
    """Scores of 1, 2, ... rounds, and how many were chosen."""

    scores: tuple[RoundsScore, ...]
    rounds: int


def choose_rounds(lines: Sequence[Line], policy: ReturnPolicy) -> RoundsChoice:
    """
    Choose the smallest number of rounds that is within one standard error of the best.

    The number with the highest score (see ``RoundsScore``) is the best one. Each number's
    standard error is that of its paired difference to the best: both are scored on the same
    tasks, and on the same bootstrap draws of whole recordings. One round, which is no refinement
    at all, is a possible choice. Lines need a label and an answer, of both classes.
    """
    most = max(rounds_run(line) for line in lines)
    failed = np.array([line['label'] == 'failure' for line in lines], np.bool_)
    referenced = np.array([has_reference(line) for line in lines], np.bool_)
    bootstrap = Bootstrap([cluster_of(line) for line in lines])
    columns = [_columns(lines, failed, referenced, 1 + n, policy) for n in range(most)]
    figures = [_figures(each.sum(axis=1)) for each in columns]
    draws = [_score(_figures(bootstrap.replicate_sums(each, np.asarray))) for each in columns]
    values = [float(_score(each)) for each in figures]
    best = int(np.argmax(values))
    scores = [
        RoundsScore(
            rounds=1 + n,
            ran=sum(rounds_run(line) > n for line in lines),
            accuracy=float(figures[n][0]),
            rouge_l=float(figures[n][1]) if referenced.any() else None,
            score=values[n],
            behind=values[best] - values[n],
            error=_spread(draws[best] - draws[n]),
            seconds=_seconds(lines, 1 + n),
        )
        for n in range(most)
    ]
    chosen = next(each.rounds for each in scores if each.behind <= each.error + _NOTHING)
    return RoundsChoice(tuple(scores), chosen)


def check_rounds(rounds: int, most: int) -> None:
    """Raise ArmorError for a number of rounds that a run of at most ``most`` did not try."""
    if not 1 <= rounds <= most:
        raise ArmorError(
            f'rounds is {rounds}; the run was answered with at most {most}: give a number from 1 '
            f'to {most}, or evaluate again with the parameter rounds set to {rounds}'
        )


def _columns(
    lines: Sequence[Line], failed: Flags, referenced: Flags, rounds: int, policy: ReturnPolicy
) -> Array:
    """Return (6, tasks): told right and all, of failures and of successes; ROUGE-L and all."""
    answers = [answer_within(line, rounds, policy) or {} for line in lines]
    right = np.array([bool(answer.get('failed')) for answer in answers]) == failed
    rouge = [
        rouge_l(line['label_explanation'], answer.get('explanation') or '') if known else 0.0
        for line, answer, known in zip(lines, answers, referenced, strict=True)
    ]
    rows = [right & failed, failed, right & ~failed, ~failed, np.array(rouge), referenced]
    return np.stack(rows).astype(np.float64)


def _figures(sums: Array) -> Array:
    """Return (2, ...) balanced accuracy and ROUGE-L of (..., 6) sums; NaN for what is not."""
    accuracy = (divide(sums[..., 0], sums[..., 1]) + divide(sums[..., 2], sums[..., 3])) / 2
    return np.stack([accuracy, divide(sums[..., 4], sums[..., 5])])


def _score(figures: Array) -> Array:
    """Return the mean of both figures, the accuracy where there is no ROUGE-L."""
    accuracy, rouge = figures
    score: Array = np.where(np.isnan(rouge), accuracy, (accuracy + rouge) / 2)
    return score


def _spread(differences: Array) -> float:
    """Return the standard deviation over the draws in which both classes came."""
    known = differences[np.isfinite(differences)]
    return float(known.std(ddof=1)) if len(known) > 1 else 0.0


def _seconds(lines: Sequence[Line], rounds: int) -> float | None:
    taken = [(line.get('timing') or {}).get('round_seconds') or [] for line in lines]
    sums = [sum(seconds[:rounds]) for seconds in taken if seconds]
    return float(np.mean(sums)) if sums else None
