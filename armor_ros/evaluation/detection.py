# SPDX-License-Identifier: Apache-2.0
"""
How well failures are detected; the positive class is failure.

A task without an answer (UNKNOWN, or a text that could not be read) is answered wrongly: a failure
among them was not found, a success was not confirmed. ABSTAIN counts here as the answer beneath
it; what abstaining costs and gains is told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sklearn_metrics

from armor_ros.evaluation.intervals import Array, Bootstrap, Figure, Flags, divide, no_figure
from armor_ros.evaluation.labelled import Labelled, flags
from armor_ros.evaluation.lines import Line, cluster_of
from armor_ros.evaluation.ranking import Ranking, auroc_figure, replicated, why_not_ranked

GROUPS = ('split', 'task_kind', 'injected_mode', 'source')


def detection(tasks: Labelled) -> dict[str, Figure]:
    """
    Return the figures of detection.

    AUROC, average precision and the rate of failures found at 5 % false alarms rank tasks by
    their probability of failure; their ``n`` leaves out the tasks without one.
    """
    draw, everything = tasks.bootstrap, tasks.everything
    failures, successes = tasks.failed, ~tasks.failed
    return {
        'accuracy': draw.proportion(tasks.right, everything),
        'balanced_accuracy': _of_confusion(
            tasks, _balanced_accuracy, 'there are tasks of one kind only'
        ),
        'precision': draw.proportion(
            failures, tasks.said_failed, 'no task was said to have failed'
        ),
        'recall': draw.proportion(tasks.said_failed, failures, 'there is no failure'),
        'specificity': draw.proportion(tasks.said_success, successes, 'there is no success'),
        'f1': _of_confusion(tasks, _f1, 'no task failed, and none was said to'),
        **_ranked(tasks),
    }


def confusion(tasks: Labelled) -> dict[str, int]:
    """Count labels and answers; "true failure" is a failure that was found."""
    failed, answered = tasks.failed, tasks.answered
    return {
        'true_failure': int((failed & tasks.said_failed).sum()),
        'false_failure': int((~failed & tasks.said_failed).sum()),
        'true_success': int((~failed & tasks.said_success).sum()),
        'false_success': int((failed & tasks.said_success).sum()),
        'unanswered_failure': int((failed & ~answered).sum()),
        'unanswered_success': int((~failed & ~answered).sum()),
    }


def abstention(tasks: Labelled) -> dict[str, Any]:
    """
    Return how many tasks got a verdict of SUCCESS or FAILURE, and how many of these are wrong.

    ``error_by_class`` is what a target error bounds: of the tasks of one class, the share with
    the wrong verdict; an abstention is not one. ``target_error`` is that of the verdicts, None
    when they have none or different ones.
    """
    draw = tasks.bootstrap
    given = flags(tasks.lines, lambda line: line['verdict'] in ('SUCCESS', 'FAILURE'))
    wrong = given & ~tasks.right
    targets = {line.get('target_error') or 0.0 for line in tasks.lines if line.get('calibrated')}
    classes = {'failure': tasks.failed, 'success': ~tasks.failed}
    return {
        'coverage': draw.proportion(given, tasks.everything),
        'error_answered': draw.proportion(wrong, given, 'no task got a verdict'),
        'target_error': targets.pop() or None if len(targets) == 1 else None,
        'coverage_by_class': {
            name: draw.proportion(given, among, f'there is no {name}')
            for name, among in classes.items()
        },
        'error_by_class': {
            name: draw.proportion(wrong, among, f'there is no {name}')
            for name, among in classes.items()
        },
    }


def disagreement(lines: Sequence[Line]) -> dict[str, Any]:
    """
    Return how often the verdict contradicts what the robot's own stack said, and who was right.

    Of all lines, labelled or not, with SUCCEEDED or ABORTED on the one side and SUCCESS or FAILURE
    on the other. ``confirmed`` is the share of contradictions in which a strong label is on the
    side of the video.
    """
    chosen = [
        line
        for line in lines
        if line.get('task_status') in ('SUCCEEDED', 'ABORTED')
        and line['verdict'] in ('SUCCESS', 'FAILURE')
    ]
    draw = Bootstrap([cluster_of(line) for line in chosen])
    succeeded = flags(chosen, lambda line: line['task_status'] == 'SUCCEEDED')
    failed = flags(chosen, lambda line: line['verdict'] == 'FAILURE')
    contradicts = succeeded == failed
    strong = flags(chosen, lambda line: bool(line['label']) and not line.get('label_weak'))
    truth = flags(chosen, lambda line: line['label'] == 'failure')
    return {
        'n': len(chosen),
        'said_succeeded_video_failed': int((contradicts & succeeded).sum()),
        'said_aborted_video_succeeded': int((contradicts & ~succeeded).sum()),
        'agreement': draw.proportion(
            ~contradicts,
            np.ones(len(chosen), np.bool_),
            "no task has both the robot's word and a verdict",
        ),
        'confirmed': draw.proportion(
            truth == failed, contradicts & strong, 'no contradiction has a strong label'
        ),
    }


def groups(tasks: Labelled) -> dict[str, dict[str, Any]]:
    """Return detection by split, kind of task, injected mode and source, where they are named."""
    result: dict[str, dict[str, Any]] = {}
    for key in GROUPS:
        names = np.array([str(line.get(key) or '') for line in tasks.lines], dtype=str)
        result[key] = {
            str(name): _group(tasks, names == name) for name in np.unique(names) if name
        }
    return result


def _group(tasks: Labelled, among: Flags) -> dict[str, Any]:
    draw, failures = tasks.bootstrap, among & tasks.failed
    successes = among & ~tasks.failed
    return {
        'n': int(among.sum()),
        'failures': int(failures.sum()),
        'accuracy': draw.proportion(tasks.right, among),
        'recall': draw.proportion(tasks.said_failed, failures, 'there is no failure'),
        'specificity': draw.proportion(tasks.said_success, successes, 'there is no success'),
    }


def _ranked(tasks: Labelled) -> dict[str, Figure]:
    among, failed = tasks.scored, tasks.failed
    names = ('auroc', 'average_precision', 'tpr_at_fpr_05')
    reason = why_not_ranked(failed, among)
    if reason:
        return {name: no_figure(reason, int(among.sum())) for name in names}
    ranking = Ranking(tasks.probability, failed, among)
    precision = float(
        sklearn_metrics.average_precision_score(failed[among], tasks.probability[among])
    )
    found = float(ranking.true_positive_rate(np.ones((1, len(tasks))))[0])
    figures = (
        auroc_figure(tasks.bootstrap, tasks.probability, failed, among),
        replicated(tasks.bootstrap, precision, ranking.average_precision, among),
        replicated(tasks.bootstrap, found, ranking.true_positive_rate, among),
    )
    return dict(zip(names, figures, strict=True))


def _of_confusion(tasks: Labelled, statistic: Any, undefined: str) -> Figure:
    """Return a statistic of failures, successes, failures found, successes found, false alarms."""
    columns = np.stack(
        [
            tasks.failed,
            ~tasks.failed,
            tasks.failed & tasks.said_failed,
            ~tasks.failed & tasks.said_success,
            ~tasks.failed & tasks.said_failed,
        ]
    ).astype(np.float64)
    return tasks.bootstrap.of_sums(columns, statistic, tasks.everything, undefined=undefined)


def _balanced_accuracy(sums: Array) -> Array:
    failures, successes, found, confirmed, _ = np.moveaxis(sums, -1, 0)
    return (divide(found, failures) + divide(confirmed, successes)) / 2


def _f1(sums: Array) -> Array:
    failures, _, found, _, alarms = np.moveaxis(sums, -1, 0)
    return divide(2 * found, failures + found + alarms)
