# SPDX-License-Identifier: Apache-2.0
"""Intervals hold what they are for as often as they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from armor_ros.evaluation.intervals import Bootstrap, figure, interval
from armor_ros.evaluation.wilson import wilson


def names(count: int, size: int = 1) -> list[str]:
    return [f'recording {index // size}' for index in range(count)]


@pytest.mark.parametrize(
    ('hits', 'n', 'low', 'high'),
    # by hand from (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z = 1.959964
    [(8, 10, 0.490162, 0.943318), (0, 10, 0.0, 0.277533), (1, 1, 0.206549, 1.0)],
)
def test_wilson_by_hand(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(1, 3000), st.floats(0, 1))
def test_wilson_is_that_of_scipy(n: int, share: float) -> None:
    hits = round(share * n)
    theirs = stats.binomtest(hits, n).proportion_ci(0.95, method='wilson')
    assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_covers_in_simulation() -> None:
    rng = np.random.default_rng(0)
    for truth, n in ((0.9, 40), (0.5, 100), (0.97, 200)):
        bounds = [wilson(k, n) for k in range(n + 1)]
        hits = rng.binomial(n, truth, 4000)
        covered = np.mean([bounds[k][0] <= truth <= bounds[k][1] for k in hits])
        # 0.95 nominal; the standard error of 4000 trials is 0.0034, and k is discrete
        assert 0.93 <= covered <= 0.98, (truth, n)


@pytest.mark.parametrize('recordings', [12, 60])
def test_the_clustered_bootstrap_covers_in_simulation(recordings: int) -> None:
    """Recordings of five tasks differ in how hard they are: Beta(4, 1) each, mean 0.8."""
    rng = np.random.default_rng(recordings)
    clustered, naive = [], []
    for trial in range(600):
        hard = rng.beta(4, 1, recordings)
        hits = rng.random((recordings, 5)) < hard[:, None]
        draw = Bootstrap(names(hits.size, 5), replicates=400, seed=trial)
        result = draw.proportion(hits.ravel(), np.ones(hits.size, bool))
        clustered.append(result['low'] <= 0.8 <= result['high'])
        low, high = wilson(hits.sum(), hits.size)
        naive.append(low <= 0.8 <= high)
    # 0.95 nominal; the standard error of 600 trials is 0.009
    assert 0.92 <= np.mean(clustered) <= 0.98
    # taking tasks of one recording for independent would promise too much
    assert np.mean(naive) < 0.92


def test_independent_tasks_get_wilsons_interval() -> None:
    hits = np.array([True] * 8 + [False] * 2)
    result = Bootstrap(names(10)).proportion(hits, np.ones(10, bool))
    assert result == {
        'value': 0.8,
        'low': 0.490162,
        'high': 0.943318,
        'n': 10,
        'interval': 'wilson',
    }


def test_tasks_of_one_recording_count_less() -> None:
    hits = np.repeat([True] * 8 + [False] * 2, 5)
    everything = np.ones(50, bool)
    together = Bootstrap(names(50, 5)).proportion(hits, everything)
    apart = Bootstrap(names(50)).proportion(hits, everything)
    assert together['interval'] == 'bootstrap'
    assert together['high'] - together['low'] > 1.5 * (apart['high'] - apart['low'])


def test_a_share_that_no_resampling_changes_keeps_its_doubt() -> None:
    result = Bootstrap(names(50, 5)).proportion(np.ones(50, bool), np.ones(50, bool))
    # as of ten tasks, not of fifty, and not the [1, 1] of the bootstrap
    assert (result['low'], result['high']) == pytest.approx(wilson(10, 10), abs=1e-6)
    assert result['interval'] == 'wilson'


def test_what_cannot_be_known_is_null_with_a_reason() -> None:
    draw = Bootstrap(['a', 'a', 'a'])
    nothing = np.zeros(3, bool)
    empty = draw.proportion(nothing, nothing, 'there is no failure')
    assert (empty['value'], empty['reason'], empty['n']) == (None, 'there is no failure', 0)
    one = draw.mean(np.array([0.0, 0.5, 1.0]), np.ones(3, bool))
    assert (one['value'], one['low'], one['interval']) == (0.5, None, '')
    assert 'one recording' in one['reason']
    constant = Bootstrap(names(3)).mean(np.ones(3), np.ones(3, bool))
    assert (constant['value'], constant['low']) == (1.0, None)
    assert constant['reason']
    undefined = draw.of_sums(np.zeros((2, 3)), lambda sums: sums[..., 0] * np.nan, ~nothing)
    assert undefined['value'] is None
    assert figure(float('inf'), n=3)['value'] is None
    assert Bootstrap([]).mean(np.zeros(0), np.zeros(0, bool))['value'] is None


def test_replicates_without_a_value_take_the_interval_away() -> None:
    replicates = np.linspace(0, 1, 100)
    assert interval(replicates, 50) is not None
    replicates[:20] = np.nan
    assert interval(replicates, 50) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30))
def test_a_share_lies_within_its_interval(tasks: list[tuple[bool, int]]) -> None:
    hits = np.array([hit for hit, _ in tasks])
    draw = Bootstrap([str(recording) for _, recording in tasks], replicates=200)
    result = draw.proportion(hits, np.ones(len(tasks), bool))
    assert result['value'] == pytest.approx(hits.mean(), abs=1e-6)
    if result['low'] is not None:
        assert -1e-9 <= result['low'] <= result['value'] + 1e-9
        assert result['value'] - 1e-9 <= result['high'] <= 1 + 1e-9
    json.dumps(result, allow_nan=False)


def test_the_same_seed_gives_the_same_draws() -> None:
    values = np.random.default_rng(0).random(40)
    everything = np.ones(40, bool)
    first, again = (Bootstrap(names(40, 2)).mean(values, everything) for _ in range(2))
    assert first == again
    assert Bootstrap(names(40, 2), seed=1).mean(values, everything) != first


def test_many_recordings_are_drawn_less_often() -> None:
    few, many = Bootstrap(names(10)), Bootstrap(names(40_000))
    assert few.replicates == 2000
    assert many.replicates == 200
    assert few.weights.shape == (2000, 10)
    assert (few.weights.sum(axis=1) == 10).all()
