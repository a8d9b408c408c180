# SPDX-License-Identifier: Apache-2.0
"""Weighted rankings equal scikit-learn's, ties included."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from armor_ros.evaluation.intervals import Bootstrap
from armor_ros.evaluation.ranking import Ranking, auroc_figure

# Few distinct scores, so that ties are common.
TASKS = st.lists(
    st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40
)


def arrays(tasks: list[tuple[int, bool, int]]) -> tuple[Any, Any, Any]:
    scores, positive, weights = zip(*tasks, strict=True)
    return np.array(scores) / 6, np.array(positive), np.array(weights, float)


@settings(max_examples=200, deadline=None)
@given(TASKS)
def test_auroc_and_average_precision_equal_scikit_learns(tasks: Any) -> None:
    scores, positive, weights = arrays(tasks)
    assume(weights[positive].sum() > 0)
    assume(weights[~positive].sum() > 0)
    ranking = Ranking(scores, positive, np.ones(len(tasks), bool))
    both = np.stack([weights, np.ones(len(tasks))])
    for row, sample_weight in enumerate(both):
        expected = metrics.roc_auc_score(positive, scores, sample_weight=sample_weight)
        assert ranking.auroc(both)[row] == pytest.approx(expected, abs=1e-9)
        expected = metrics.average_precision_score(positive, scores, sample_weight=sample_weight)
        assert ranking.average_precision(both)[row] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(TASKS, st.sampled_from([0.0, 0.05, 0.3, 1.0]))
def test_failures_found_at_a_rate_of_false_alarms(tasks: Any, allowed: float) -> None:
    scores, positive, _ = arrays(tasks)
    assume(positive.any())
    assume(not positive.all())
    best = 0.0
    for threshold in scores:
        said = scores >= threshold
        if said[~positive].mean() <= allowed:
            best = max(best, said[positive].mean())
    ranking = Ranking(scores, positive, np.ones(len(tasks), bool))
    found = ranking.true_positive_rate(np.ones((1, len(tasks))), allowed)
    assert found[0] == pytest.approx(best)


def test_steps_are_not_joined_by_lines() -> None:
    # the line from (0, 0.5) to (0.5, 1) would promise 0.55 at 5 %, which no threshold gives
    scores = np.array([0.9, 0.5, 0.5, 0.1])
    positive = np.array([True, True, False, False])
    ranking = Ranking(scores, positive, np.ones(4, bool))
    assert ranking.true_positive_rate(np.ones((1, 4)))[0] == 0.5


def test_one_class_has_no_value() -> None:
    ranking = Ranking(np.array([0.1, 0.2]), np.array([True, True]), np.ones(2, bool))
    weights = np.ones((1, 2))
    assert np.isnan(ranking.auroc(weights)[0])
    assert np.isnan(ranking.true_positive_rate(weights)[0])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert ranking.average_precision(np.zeros((1, 2))) != 1.0


def test_the_area_of_risk_by_hand() -> None:
    # three levels of confidence: one right, then a wrong and a right one, then a wrong one
    confidence = np.array([0.9, 0.6, 0.6, 0.2])
    wrong = np.array([False, True, False, True])
    ranking = Ranking(confidence, wrong, np.ones(4, bool))
    area = ranking.area_of_risk(np.ones((1, 4)))[0]
    assert area == pytest.approx((1 * 0 + 2 * (1 / 3) + 1 * (2 / 4)) / 4)


def test_only_the_chosen_tasks_are_ranked() -> None:
    scores = np.array([0.9, np.nan, 0.1, 0.8])
    positive = np.array([True, True, False, False])
    among = np.array([True, False, True, True])
    result = auroc_figure(Bootstrap(list('abcd')), scores, positive, among)
    assert (result['value'], result['n']) == (1.0, 3)


def test_the_interval_of_auroc_covers_in_simulation() -> None:
    """Scores of a normal distribution, shifted by one for positives: AUROC is 0.76025."""
    rng = np.random.default_rng(0)
    covered = []
    for trial in range(300):
        positive = np.arange(80) % 2 == 0
        scores = rng.normal(size=80) + positive
        draw = Bootstrap([str(i) for i in range(80)], replicates=400, seed=trial)
        result = auroc_figure(draw, scores, positive, np.ones(80, bool))
        covered.append(result['low'] <= 0.76025 <= result['high'])
    # 0.95 nominal; the standard error of 300 trials is 0.013
    assert 0.915 <= np.mean(covered) <= 0.985
