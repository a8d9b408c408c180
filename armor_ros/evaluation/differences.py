# SPDX-License-Identifier: Apache-2.0
"""Paired differences of two runs on the same tasks, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from armor_ros.evaluation.intervals import (
    Array,
    Bootstrap,
    Figure,
    Flags,
    divide,
    no_figure,
)
from armor_ros.evaluation.labelled import Labelled
from armor_ros.evaluation.ranking import Ranking, why_not_ranked
from armor_ros.evaluation.reasoning import Referenced

# A mean: each task's value, and the tasks that it is over.
Mean = tuple[Array, Flags]


def differences(tasks: Sequence[Labelled], referenced: Sequence[Referenced]) -> dict[str, Figure]:
    """
    Return second minus first, for two runs of which task k is the same one.

    Both runs' clusters must be equal: the same recordings are then drawn for both.
    """
    draw, referenced_draw = tasks[0].bootstrap, referenced[0].bootstrap
    result: dict[str, Figure] = {}
    first, second = (_means(run) for run in tasks)
    for name in first:
        result[name] = _of_means(draw, first[name], second[name])
    result['auroc'] = auroc_difference(draw, tasks)
    scores = [_scores(run) for run in referenced]
    for name in scores[0]:
        if name in scores[1]:
            result[name] = _of_means(referenced_draw, scores[0][name], scores[1][name])
    return result


def _means(tasks: Labelled) -> dict[str, Mean]:
    failed, scored = tasks.failed, tasks.scored
    brier = np.nan_to_num((tasks.probability - failed) ** 2)
    return {
        'accuracy': (tasks.right.astype(np.float64), tasks.everything),
        'recall': (tasks.said_failed.astype(np.float64), failed),
        'specificity': (tasks.said_success.astype(np.float64), ~failed),
        'brier': (brier, scored),
    }


def _scores(tasks: Referenced) -> dict[str, Mean]:
    answers = [line.get('explanation') or '' for line in tasks.lines]
    everything = np.ones(len(answers), np.bool_)
    rouge = tasks.rouge(answers)
    result = {'rouge_l': (rouge, everything), 'rouge_l failures': (rouge, tasks.failed)}
    for judge in sorted(tasks.judgements):
        values = np.nan_to_num(tasks.judged(judge, answers))
        result[f'judge {judge}'] = (values, everything)
        result[f'judge {judge} failures'] = (values, tasks.failed)
    return result


def _of_means(draw: Bootstrap, first: Mean, second: Mean) -> Figure:
    """Return the difference of two means, each over its own tasks."""
    if not (first[1].any() and second[1].any()):
        return no_figure('one of the runs has no such task')
    columns = np.stack(
        [np.where(among, values, 0.0) for values, among in (first, second)]
        + [among.astype(np.float64) for _, among in (first, second)]
    )
    value = float(_difference(columns.sum(axis=1)))
    return draw.summary(value, draw.replicate_sums(columns, _difference), first[1] | second[1])


def _difference(sums: Array) -> Array:
    return divide(sums[..., 1], sums[..., 3]) - divide(sums[..., 0], sums[..., 2])


def auroc_difference(draw: Bootstrap, tasks: Sequence[Labelled]) -> Figure:
    """Return the difference of two runs' areas under the ROC curve; see ``differences``."""
    among = [run.scored for run in tasks]
    for run, chosen in zip(tasks, among, strict=True):
        reason = why_not_ranked(run.failed, chosen)
        if reason:
            return no_figure(reason, int(chosen.sum()))
    first, second = (
        Ranking(run.probability, run.failed, chosen)
        for run, chosen in zip(tasks, among, strict=True)
    )

    def difference(weights: Array) -> Array:
        return second.auroc(weights) - first.auroc(weights)

    value = float(difference(np.ones((1, len(tasks[0]))))[0])
    return draw.summary(value, draw.replicate_weights(difference), among[0] | among[1])
