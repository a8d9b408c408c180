# SPDX-License-Identifier: Apache-2.0
"""
How well a score ranks: AUROC, average precision and the like, for many weightings at once.

scikit-learn gives the figures themselves; these give their bootstrap replicates, which would take
minutes one by one. Tasks with equal scores cannot be told apart: a threshold takes all or none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from armor_ros.evaluation.intervals import Array, Bootstrap, Figure, Flags, divide, no_figure

# The rate of false alarms at which the share of failures found is reported.
FALSE_ALARMS = 0.05


class Ranking:
    """Scores in descending order, with the bounds between distinct ones."""

    def __init__(self, scores: Array, positive: Flags, among: Flags) -> None:
        """Rank the tasks ``among``; all arrays have one entry a task."""
        chosen = np.flatnonzero(among)
        self._order = chosen[np.argsort(-scores[chosen], kind='stable')]
        self._positive = positive[self._order]
        ranked = scores[self._order]
        self._starts: npt.NDArray[np.intp] = np.flatnonzero(
            np.concatenate([[True], ranked[1:] != ranked[:-1]])[: len(ranked)]
        )

    def counts(self, weights: Array) -> tuple[Array, Array]:
        """Return the weight of positives and negatives at each distinct score, (b, scores)."""
        ranked = weights[:, self._order]
        positive = np.add.reduceat(ranked * self._positive, self._starts, axis=1)
        negative = np.add.reduceat(ranked * ~self._positive, self._starts, axis=1)
        return positive, negative

    def auroc(self, weights: Array) -> Array:
        """Return the area under the ROC curve, ties counting half; NaN with one class only."""
        positive, negative = self.counts(weights)
        below = negative.sum(axis=1, keepdims=True) - np.cumsum(negative, axis=1)
        won = (positive * (below + negative / 2)).sum(axis=1)
        return divide(won, positive.sum(axis=1) * negative.sum(axis=1))

    def average_precision(self, weights: Array) -> Array:
        """Return the mean of precision over recall, in steps; NaN without positives."""
        positive, negative = self.counts(weights)
        found = np.cumsum(positive, axis=1)
        precision = np.nan_to_num(divide(found, found + np.cumsum(negative, axis=1)))
        return divide((positive * precision).sum(axis=1), positive.sum(axis=1))

    def true_positive_rate(self, weights: Array, false_alarms: float = FALSE_ALARMS) -> Array:
        """
        Return the largest share of positives above a threshold with few enough false alarms.

        The curve is taken in steps, without a line between two thresholds: what is reported can
        be had. Zero where even the highest score has too many false alarms. NaN with one class.
        """
        positive, negative = self.counts(weights)
        found, alarms = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
        rate = divide(alarms, alarms[:, -1:])
        recall = divide(found, found[:, -1:])
        best = np.where(rate <= false_alarms + 1e-12, recall, 0.0).max(axis=1)
        return np.where(np.isnan(rate[:, -1]), np.nan, best)

    def area_of_risk(self, weights: Array) -> Array:
        """
        Return the mean risk over coverages, with errors as positives and confidence as score.

        At each distinct score, the share of errors among the tasks at or above it; their mean is
        weighted by the tasks at each score.
        """
        wrong, right = self.counts(weights)
        mass = wrong + right
        risk = np.nan_to_num(divide(np.cumsum(wrong, axis=1), np.cumsum(mass, axis=1)))
        return divide((mass * risk).sum(axis=1), mass.sum(axis=1))


def auroc_figure(bootstrap: Bootstrap, scores: Array, positive: Flags, among: Flags) -> Figure:
    """Return the area under the ROC curve over the tasks ``among``, as a figure."""
    reason = why_not_ranked(positive, among)
    if reason:
        return no_figure(reason, int(among.sum()))
    value = float(metrics.roc_auc_score(positive[among], scores[among]))
    ranking = Ranking(scores, positive, among)
    return bootstrap.summary(value, bootstrap.replicate_weights(ranking.auroc), among)


def why_not_ranked(positive: Flags, among: Flags) -> str:
    """Return why a ranking of the tasks ``among`` means nothing; '' if it does."""
    if not among.any():
        return 'no task has such a score'
    kinds = np.unique(positive[among])
    return '' if len(kinds) == 2 else 'all tasks are of one kind'


def replicated(
    bootstrap: Bootstrap, value: float, statistic: Callable[[Array], Array], among: Flags
) -> Figure:
    """Return a figure of a value and the statistic's replicates."""
    return bootstrap.summary(value, bootstrap.replicate_weights(statistic), among)
