# SPDX-License-Identifier: Apache-2.0
"""Figures with their doubt: Wilson intervals, and a bootstrap that resamples whole recordings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from armor_ros.evaluation.wilson import wilson

CONFIDENCE = 0.95
REPLICATES = 2000
SEED = 0
# Digits of a figure: what differs beyond them is rounding, not measurement.
DIGITS = 6

# Weights of all replicates together, and products with them that are held at a time.
_MAX_WEIGHTS = 8_000_000
_CHUNK = 2_000_000
_MIN_REPLICATES = 200
# Of the replicates, at least as many must have a value (not, for instance, one class only).
_LEAST_DEFINED = 0.9
_SMALLEST_SPREAD = 1e-9

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Figure = dict[str, Any]


def figure(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    n: int,
    interval: str = '',
    reason: str = '',
) -> Figure:
    """
    Return a figure: its value, the bounds of its 95 % interval, and of how many tasks it is.

    ``interval`` is 'wilson', 'bootstrap' or ''. What is not known is None, and ``reason``, which
    is a key only then, says why. Numbers that are not finite become None.
    """
    numbers = [_rounded(number) for number in (value, low, high)]
    result: Figure = dict(zip(('value', 'low', 'high'), numbers, strict=True))
    result.update(n=int(n), interval=interval if None not in numbers else '')
    if None in numbers:
        result['reason'] = reason or 'there is no interval'
    return result


def no_figure(reason: str, n: int = 0) -> Figure:
    """Return a figure that has no value, and why."""
    return figure(None, n=n, reason=reason)


class Bootstrap:
    """
    Draws recordings with replacement; everything that is drawn together shares the draws.

    Figures from one Bootstrap are therefore paired, replicate by replicate. Tasks of one cluster
    (a recording, a group) are drawn together, because they are not independent. Intervals are
    percentiles of the replicates, widened for few clusters as Student's t is wider than the
    normal distribution (Hesterberg's expanded percentile interval).
    """

    def __init__(
        self, clusters: Sequence[str], *, replicates: int = REPLICATES, seed: int = SEED
    ) -> None:
        """``clusters`` names each task's cluster, in the order of all arrays that are given."""
        _, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
        self._index: npt.NDArray[np.intp] = index
        self.tasks = len(index)
        self.clusters = int(index.max()) + 1 if self.tasks else 0
        bound = max(_MIN_REPLICATES, _MAX_WEIGHTS // max(1, self.clusters))
        self.replicates = min(replicates, bound)
        self.seed = seed
        self._weights: Array | None = None

    @property
    def weights(self) -> Array:
        """How often each cluster was drawn, (replicates, clusters)."""
        if self._weights is None:
            rng = np.random.default_rng(self.seed)
            count = self.clusters
            drawn = rng.integers(0, count, (self.replicates, count))
            drawn += count * np.arange(self.replicates)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=self.replicates * count)
            self._weights = counts.reshape(self.replicates, count).astype(np.float64)
        return self._weights

    def proportion(self, hits: Flags, among: Flags, nothing: str = 'there is no such task') -> Any:
        """
        Return the share of ``hits`` in the tasks ``among``, as a figure.

        Wilson's interval where each of these tasks is a cluster of its own, else the bootstrap's;
        where all are hits or none is, which no resampling would ever change, Wilson's with a
        cluster counting once. ``nothing`` is the reason when ``among`` is empty.
        """
        n = int(among.sum())
        if not n:
            return no_figure(nothing)
        count = int((hits & among).sum())
        clusters = self.count_clusters(among)
        if clusters == n:
            return figure(count / n, *wilson(count, n), n=n, interval='wilson')
        if count in (0, n):
            bounds = wilson(clusters * count / n, clusters)
            return figure(count / n, *bounds, n=n, interval='wilson')
        return self.mean(hits.astype(np.float64), among)

    def mean(self, values: Array, among: Flags, nothing: str = 'there is no such task') -> Figure:
        """Return the mean of ``values`` over the tasks ``among``, with a bootstrap interval."""
        if not among.any():
            return no_figure(nothing)
        columns = np.stack([np.where(among, values, 0.0), among.astype(np.float64)])
        return self.of_sums(columns, _ratio, among)

    def of_sums(
        self,
        columns: Array,
        statistic: Callable[[Array], Array],
        among: Flags,
        undefined: str = 'it is not defined for these tasks',
    ) -> Figure:
        """
        Return a statistic of sums over tasks, as a figure with a bootstrap interval.

        ``columns`` is (K, tasks), zero where a task does not count; ``statistic`` takes (..., K)
        sums to (...) values, NaN where it is not defined. ``among`` are the tasks that count.
        """
        value = float(statistic(columns.sum(axis=1)))
        replicates = self.replicate_sums(columns, statistic)
        return self.summary(value, replicates, among, undefined)

    def replicate_sums(self, columns: Array, statistic: Callable[[Array], Array]) -> Array:
        """Return the statistic of each replicate, (replicates,); see ``of_sums``."""
        by_cluster = np.stack(
            [np.bincount(self._index, column, minlength=self.clusters) for column in columns]
        )
        return statistic(self.weights @ by_cluster.T)

    def replicate_weights(self, statistic: Callable[[Array], Array]) -> Array:
        """
        Return the statistic of each replicate, for one that needs every task.

        ``statistic`` takes (b, tasks) weights to (b,) values, NaN where it is not defined.
        """
        step = max(1, _CHUNK // max(1, self.tasks))
        parts = [
            statistic(self.weights[start : start + step, self._index])
            for start in range(0, self.replicates, step)
        ]
        return np.concatenate(parts)

    def summary(
        self,
        value: float,
        replicates: Array,
        among: Flags,
        undefined: str = 'it is not defined for these tasks',
    ) -> Figure:
        """Return a figure of a value and its replicates."""
        n, clusters = int(among.sum()), self.count_clusters(among)
        if not math.isfinite(value):
            return no_figure(undefined, n)
        if clusters < 2:
            return figure(value, n=n, reason='all tasks are of one recording: no interval')
        bounds = interval(replicates, clusters)
        if bounds is None:
            return figure(value, n=n, reason='too few tasks of one kind for an interval')
        if bounds[1] - bounds[0] < _SMALLEST_SPREAD:
            # no doubt among these tasks, which says nothing of others
            return figure(value, n=n, reason='resampling does not change it: no interval')
        return figure(value, *bounds, n=n, interval='bootstrap')

    def count_clusters(self, among: Flags) -> int:
        """Return how many clusters the tasks ``among`` belong to."""
        return len(np.unique(self._index[among]))


def interval(replicates: Array, clusters: int) -> tuple[float, float] | None:
    """
    Return the 95 % interval from the replicates of a bootstrap over ``clusters`` >= 2 clusters.

    None when too many replicates are NaN.
    """
    defined = replicates[np.isfinite(replicates)]
    if not len(defined) or len(defined) < _LEAST_DEFINED * len(replicates):
        return None
    widened = stats.t.ppf((1 + CONFIDENCE) / 2, clusters - 1)
    tail = 100 * stats.norm.sf(math.sqrt(clusters / (clusters - 1)) * widened)
    low, high = (float(bound) for bound in np.percentile(defined, [tail, 100 - tail]))
    return low, high


def _ratio(sums: Array) -> Array:
    """Return the first sum over the second one."""
    return divide(sums[..., 0], sums[..., 1])


def divide(numerator: Any, denominator: Any) -> Array:
    """Divide; NaN where the denominator is zero."""
    above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    empty = below == 0
    return np.where(empty, np.nan, above / np.where(empty, 1.0, below))


def _rounded(number: float | None) -> float | None:
    if number is None or not math.isfinite(number):
        return None
    return round(float(number), DIGITS) + 0.0
