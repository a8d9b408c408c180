# SPDX-License-Identifier: Apache-2.0
"""How well the explanations explain: ROUGE-L, and what judges say (section 5, appendix B.3)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rouge_score import rouge_scorer
from sklearn import metrics as sklearn_metrics

from armor_ros.evaluation.intervals import (
    Array,
    Bootstrap,
    Figure,
    Flags,
    divide,
    figure,
    no_figure,
)
from armor_ros.evaluation.judgements import Judgements, texts_of
from armor_ros.evaluation.labelled import flags
from armor_ros.evaluation.lines import Line, cluster_of, has_reference

_LEVELS = (0.0, 0.5, 1.0)
_NO_REFERENCE = 'no task has an explanation to compare with'


class Referenced:
    """Tasks with an explanation to compare with, and scores of answers to them."""

    def __init__(self, lines: Sequence[Line], judgements: Mapping[str, Judgements]) -> None:
        """Choose the lines that have a reference; judgements may come from several judges."""
        self.lines = [line for line in lines if has_reference(line)]
        self.judgements = judgements
        self.failed = flags(self.lines, lambda line: line['label'] == 'failure')
        self.bootstrap = Bootstrap([cluster_of(line) for line in self.lines])

    def rouge(self, answers: Sequence[str]) -> Array:
        """Return ROUGE-L of an answer to each task, in [0, 1]; 0 for an empty one."""
        scores = [
            rouge_l(line['label_explanation'], answer)
            for line, answer in zip(self.lines, answers, strict=True)
        ]
        return np.array(scores, np.float64)

    def judged(self, judge: str, answers: Sequence[str]) -> Array:
        """Return a judge's score of an answer to each task, NaN where it gave none."""
        known = self.judgements[judge]
        # no answer is not worth asking about
        scores = [
            (known.get(texts_of(line, answer)) if answer else 0.0)
            for line, answer in zip(self.lines, answers, strict=True)
        ]
        return np.array([np.nan if score is None else score for score in scores], np.float64)

    def mean(self, scores: Array, among: Flags | None = None) -> Figure:
        """Return the mean score; what was not scored counts 0."""
        chosen = np.ones(len(self.lines), np.bool_) if among is None else among
        return self.bootstrap.mean(np.nan_to_num(scores), chosen, _NO_REFERENCE)


def reasoning(tasks: Referenced) -> dict[str, Any]:
    """
    Return the scores of the reported explanations, of all tasks and of the failures alone.

    Successes often share one constant reference, which makes a total look better than the
    explanations of failures are. What a judge could not judge counts 0 and is told.
    """
    answers = [line.get('explanation') or '' for line in tasks.lines]
    scores = {judge: tasks.judged(judge, answers) for judge in sorted(tasks.judgements)}
    rouge = tasks.rouge(answers)
    kappas = [
        _kappa(tasks.bootstrap, pair, scores[pair[0]], scores[pair[1]])
        for pair in itertools.combinations(scores, 2)
    ]
    return {
        'rouge_l': _both(tasks, rouge),
        'judges': {
            judge: {
                **_both(tasks, values),
                'judged': int(np.isfinite(values).sum()),
                'unjudged': int(np.isnan(values).sum()),
            }
            for judge, values in scores.items()
        },
        'kappa': kappas[0] if kappas else None,
        'kappas': kappas,
    }


@functools.lru_cache(maxsize=65536)
def rouge_l(reference: str, answer: str) -> float:
    """Return the F-measure of ROUGE-L with stemming, as rouge_score computes it."""
    return float(_scorer().score(reference, answer)['rougeL'].fmeasure)


@functools.cache
def _scorer() -> Any:
    return rouge_scorer.RougeScorer(['rougeL'], use_stemmer=True)


def _both(tasks: Referenced, scores: Array) -> dict[str, Figure]:
    return {'total': tasks.mean(scores), 'failures': tasks.mean(scores, tasks.failed)}


def _kappa(
    bootstrap: Bootstrap, judges: tuple[str, str], first: Array, second: Array
) -> dict[str, Any]:
    """Return Cohen's kappa, unweighted, of two judges on what both have judged."""
    both = np.isfinite(first) & np.isfinite(second)
    named = {'judges': list(judges)}
    if not both.any():
        return {**no_figure('no answer was judged by both'), **named}
    if len(np.unique(np.concatenate([first[both], second[both]]))) == 1:
        return {**figure(None, n=int(both.sum()), reason='both always say the same'), **named}
    value = float(
        sklearn_metrics.cohen_kappa_score(
            (2 * first[both]).astype(int), (2 * second[both]).astype(int), labels=[0, 1, 2]
        )
    )
    cells = [both & (first == one) & (second == two) for one in _LEVELS for two in _LEVELS]
    replicates = bootstrap.replicate_sums(np.stack(cells).astype(np.float64), _kappa_of_cells)
    return {**bootstrap.summary(value, replicates, both), **named}


def _kappa_of_cells(sums: Array) -> Array:
    """Return kappa of (..., 9) counts of a 3 x 3 table; NaN where chance alone agrees wholly."""
    table = sums.reshape(*sums.shape[:-1], 3, 3)
    total = table.sum(axis=(-2, -1))
    agreed = np.trace(table, axis1=-2, axis2=-1) / np.maximum(total, 1.0)
    chance = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1) / np.maximum(total, 1.0) ** 2
    return divide(agreed - chance, 1 - chance)
