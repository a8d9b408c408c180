# SPDX-License-Identifier: Apache-2.0
"""Whether the reported doubt is the doubt there is: calibration, and entropies as alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from armor_ros.evaluation.intervals import (
    DIGITS,
    Array,
    Figure,
    Flags,
    divide,
    interval,
    no_figure,
)
from armor_ros.evaluation.labelled import Labelled, numbers
from armor_ros.evaluation.ranking import Ranking, auroc_figure, replicated

BINS = 10
# Probabilities are held away from 0 and 1 by this in the negative log-likelihood, which is
# therefore 13.8 nats at most for one task.
NLL_CLIP = 1e-6
# Points of the reported risk-coverage curve, at most.
CURVE_POINTS = 100

_NO_PROBABILITY = 'no task has a probability'


def doubt(tasks: Labelled) -> dict[str, Any]:
    """
    Return calibration, reliability, entropies as error detectors, and risk by coverage.

    Of tasks with an answer and a probability of failure; the probability is the reported one,
    calibrated where the line says so.
    """
    return {
        'ece': expected_calibration_error(tasks),
        'brier': _mean(tasks, (tasks.probability - tasks.failed) ** 2),
        'nll': _mean(tasks, negative_log_likelihood(tasks.probability, tasks.failed)),
        'nll_clip': NLL_CLIP,
        'reliability': reliability(tasks),
        'error_auroc': error_auroc(tasks),
        'risk_coverage': risk_coverage(tasks),
    }


def equal_mass_bins(probability: Array, count: int = BINS) -> npt.NDArray[np.intp]:
    """
    Return each task's bin, 0 to ``count`` - 1, such that bins hold about equally many tasks.

    Tasks with equal probabilities share a bin, by their mean rank; a bin may be empty.
    """
    rank = stats.rankdata(probability, method='average')
    bins = np.minimum((rank - 0.5) * count / max(1, len(rank)), count - 1)
    return np.asarray(bins, np.intp)


def negative_log_likelihood(probability: Array, failed: Flags) -> Array:
    """Return each task's negative log-likelihood in nats, clipped by ``NLL_CLIP``."""
    clipped = np.clip(probability, NLL_CLIP, 1 - NLL_CLIP)
    return -np.log(np.where(failed, clipped, 1 - clipped))


def expected_calibration_error(tasks: Labelled) -> Figure:
    """
    Return the expected calibration error of the probability of failure, bins of equal mass.

    The mean distance between the mean probability and the share of failures in each of ten bins.
    Finite bins make it larger than the truth, by no more than the bins' own noise: the lower
    bound takes off what that noise adds up to in 97.5 % of the replicates, so the interval covers
    the truth at least as often as it says.
    """
    among = tasks.scored
    if not among.any():
        return no_figure(_NO_PROBABILITY)
    bins = np.full(len(tasks), -1)
    bins[among] = equal_mass_bins(tasks.probability[among])
    surplus = np.where(among, tasks.probability - tasks.failed, 0.0)
    columns = [np.where(bins == index, surplus, 0.0) for index in range(BINS)]
    columns.append(among.astype(np.float64))
    distances = _distances(np.sum(columns, axis=1))
    drawn = tasks.bootstrap.replicate_sums(np.stack(columns), _distances)
    result = tasks.bootstrap.summary(
        float(np.abs(distances).sum()), np.abs(drawn).sum(axis=1), among
    )
    noise = interval(
        np.abs(drawn - distances).sum(axis=1), max(2, tasks.bootstrap.count_clusters(among))
    )
    if result['low'] is not None and noise is not None:
        result['low'] = round(max(0.0, result['value'] - noise[1]), DIGITS)
    return result


def reliability(tasks: Labelled) -> list[dict[str, Any]]:
    """
    Return what happened at each level of probability, in bins of equal mass; empty ones left out.

    ``low`` and ``high`` are the smallest and largest probability in the bin; ``fraction_low`` and
    ``fraction_high`` bound the share of failures with 95 %.
    """
    among = tasks.scored
    if not among.any():
        return []
    bins = np.full(len(tasks), -1)
    bins[among] = equal_mass_bins(tasks.probability[among])
    return [_reliability_bin(tasks, bins == index) for index in np.unique(bins[among])]


def error_auroc(tasks: Labelled) -> dict[str, Figure]:
    """
    Return how well each measure of doubt tells wrong answers from right ones (area under ROC).

    ``probability_margin`` is 1 - |2 p - 1|. 0.5 is chance: the measure says nothing of errors.
    """
    measures = {
        name: numbers(tasks.lines, name)
        for name in ('detection_entropy', 'explanation_entropy', 'combined_entropy')
    }
    measures['probability_margin'] = _margin(tasks)
    return {
        name: auroc_figure(
            tasks.bootstrap, values, ~tasks.right, tasks.answered & np.isfinite(values)
        )
        for name, values in measures.items()
    }


def risk_coverage(tasks: Labelled) -> dict[str, Any]:
    """
    Return the share of wrong answers among the most confident ones, at every coverage.

    Confidence is the probability of the likelier label. Tasks of equal confidence come together,
    so the curve has a point for each distinct confidence, thinned to 100; ``area`` is the mean of
    its risk over the tasks, from all of its points.
    """
    among = tasks.scored
    if not among.any():
        return {'coverage': [], 'risk': [], 'area': no_figure(_NO_PROBABILITY)}
    confidence = 1 - _margin(tasks)
    ranking = Ranking(confidence, ~tasks.right, among)
    once = np.ones((1, len(tasks)))
    wrong, right = (counts[0] for counts in ranking.counts(once))
    kept = np.cumsum(wrong + right)
    risk = np.cumsum(wrong) / kept
    last = len(kept) - 1
    points = np.unique(np.linspace(0, last, min(last + 1, CURVE_POINTS)).round().astype(int))
    area = replicated(
        tasks.bootstrap, float(ranking.area_of_risk(once)[0]), ranking.area_of_risk, among
    )
    return {
        'coverage': [round(float(kept[point] / kept[-1]), 6) for point in points],
        'risk': [round(float(risk[point]), 6) for point in points],
        'area': area,
    }


def _margin(tasks: Labelled) -> Array:
    """Return 1 - |2 p - 1|, equal for p and 1 - p in spite of rounding."""
    return np.round(1 - np.abs(2 * tasks.probability - 1), 12)


def _mean(tasks: Labelled, values: Array) -> Figure:
    return tasks.bootstrap.mean(np.nan_to_num(values), tasks.scored, _NO_PROBABILITY)


def _distances(sums: Array) -> Array:
    """Return the signed distance in each bin, times the bin's share of the tasks."""
    return divide(sums[..., :-1], sums[..., -1:])


def _reliability_bin(tasks: Labelled, among: Flags) -> dict[str, Any]:
    probability = tasks.probability[among]
    fraction = tasks.bootstrap.proportion(tasks.failed, among)
    return {
        'low': round(float(probability.min()), 6),
        'high': round(float(probability.max()), 6),
        'mean_probability': round(float(probability.mean()), 6),
        'fraction_failed': fraction['value'],
        'fraction_low': fraction['low'],
        'fraction_high': fraction['high'],
        'n': fraction['n'],
    }
