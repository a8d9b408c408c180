# SPDX-License-Identifier: Apache-2.0
"""Calibration figures equal scikit-learn's and hand-computed ones; their intervals cover."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from some_lines import a_line, a_round, of_baseline, random_lines, unknown

from armor_ros.evaluation.doubt import (
    NLL_CLIP,
    doubt,
    equal_mass_bins,
    expected_calibration_error,
    reliability,
)
from armor_ros.evaluation.labelled import Labelled


def tasks_of(probabilities: Any, failed: Any) -> Labelled:
    return Labelled.of(
        [
            a_line(number, 'failure' if fail else 'success', float(p))
            for number, (p, fail) in enumerate(zip(probabilities, failed, strict=True))
        ]
    )


def test_brier_and_likelihood_equal_scikit_learns() -> None:
    lines = random_lines(80)
    tasks = Labelled.of(lines)
    result = doubt(tasks)
    brier = metrics.brier_score_loss(tasks.failed, tasks.probability)
    assert result['brier']['value'] == pytest.approx(brier, abs=1e-6)
    clipped = np.clip(tasks.probability, NLL_CLIP, 1 - NLL_CLIP)
    assert result['nll']['value'] == pytest.approx(metrics.log_loss(tasks.failed, clipped))


def test_a_certain_error_has_a_finite_likelihood() -> None:
    result = doubt(tasks_of([0.0, 1.0], [True, False]))
    assert result['nll']['value'] == pytest.approx(-np.log(NLL_CLIP), abs=1e-6)


def test_calibration_error_and_reliability_by_hand() -> None:
    # twenty tasks at 0.2, of which six failed, and twenty at 0.9, of which all failed
    tasks = tasks_of([0.2] * 20 + [0.9] * 20, [True] * 6 + [False] * 14 + [True] * 20)
    assert expected_calibration_error(tasks)['value'] == pytest.approx((0.1 + 0.1) / 2)
    low, high = reliability(tasks)
    assert (low['low'], low['high'], low['mean_probability'], low['n']) == (0.2, 0.2, 0.2, 20)
    assert low['fraction_failed'] == 0.3
    assert low['fraction_low'] < 0.3 < low['fraction_high']
    assert (high['fraction_failed'], high['n']) == (1.0, 20)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=200))
@settings(deadline=None)
def test_bins_hold_equal_masses_and_never_part_ties(values: list[int]) -> None:
    probability = np.array(values) / 20
    bins = equal_mass_bins(probability)
    assert bins.min() >= 0
    assert bins.max() < 10
    for value in np.unique(probability):
        assert len(np.unique(bins[probability == value])) == 1
    order = np.argsort(probability)
    assert (np.diff(bins[order]) >= 0).all()


def test_bins_of_distinct_values_are_equal() -> None:
    assert np.bincount(equal_mass_bins(np.random.default_rng(0).random(200))).tolist() == [20] * 10


@pytest.mark.parametrize(('shift', 'truth'), [(0.0, 0.0), (0.2, 0.2)])
def test_the_interval_of_the_calibration_error_covers(shift: float, truth: float) -> None:
    """Probabilities are uniform in [0.25, 0.75]; what happens is ``shift`` more likely."""
    rng = np.random.default_rng(0)
    covered, widths = [], []
    for _ in range(150):
        probability = 0.25 + 0.5 * rng.random(200)
        failed = rng.random(200) < probability + shift
        lines = [
            a_line(n, 'failure' if fail else 'success', float(p))
            for n, (p, fail) in enumerate(zip(probability, failed, strict=True))
        ]
        result = expected_calibration_error(Labelled.of(lines, replicates=300))
        covered.append(result['low'] <= truth <= result['high'])
        widths.append(result['high'] - result['low'])
    # at least 0.95 by its construction; the standard error of 150 trials is 0.018
    assert np.mean(covered) >= 0.93
    assert np.mean(widths) < 0.22


def test_entropies_as_alarms() -> None:
    lines = [
        a_line(0, 'failure', trace=[a_round(0, 0.95, explanation_entropy=0.1)]),
        a_line(1, 'failure', trace=[a_round(0, 0.90, explanation_entropy=0.9)]),
        # wrong, and in doubt
        a_line(2, 'success', trace=[a_round(0, 0.60, explanation_entropy=0.5)]),
        unknown(3),
    ]
    result = doubt(Labelled.of(lines))['error_auroc']
    assert result['detection_entropy']['value'] == 1.0
    assert result['probability_margin']['value'] == 1.0
    assert result['explanation_entropy']['value'] == 0.5
    assert result['combined_entropy']['n'] == 3


def test_risk_and_coverage_by_hand() -> None:
    tasks = tasks_of([0.95, 0.05, 0.8, 0.2, 0.6], [True, False, False, False, True])
    result = doubt(tasks)['risk_coverage']
    # 0.95 and 0.05 are equally confident, as are 0.8 (wrong) and 0.2
    assert result['coverage'] == [0.4, 0.8, 1.0]
    assert result['risk'] == [0.0, 0.25, 0.2]
    assert result['area']['value'] == pytest.approx((2 * 0 + 2 * 0.25 + 1 * 0.2) / 5)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    rng = np.random.default_rng(0)
    result = doubt(tasks_of(rng.random(1000), rng.random(1000) < 0.5))['risk_coverage']
    assert len(result['coverage']) == 100
    assert (result['coverage'][0], result['coverage'][-1]) == (0.001, 1.0)


@pytest.mark.parametrize('lines', [[], [unknown(0)], [of_baseline(0, 'failure', True)]])
def test_without_probabilities_there_are_reasons(lines: Any) -> None:
    result = doubt(Labelled.of(lines))
    for name in ('ece', 'brier', 'nll'):
        assert result[name]['value'] is None
        assert result[name]['reason']
    assert result['reliability'] == []
    assert result['risk_coverage']['area']['value'] is None
    json.dumps(result, allow_nan=False)
