# SPDX-License-Identifier: Apache-2.0
"""The plan of a data set: shares are met, splits never share a seed, shards are the whole."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armor_ros.configuration import config_from_dict
from armor_ros.simulation.recipe import Recipe
from armor_ros.simulation.splits import apportion, plan_pairs, shard_of, spread, stable_seed


def plan(**split) -> list:
    split = {'tasks': {'transport': 1}} | split
    return list(plan_pairs(config_from_dict(Recipe, {'splits': {'train': split}})))


def test_the_same_recipe_gives_the_same_plan() -> None:
    assert plan(episodes=60, dense=0.3, twins=0.2) == plan(episodes=60, dense=0.3, twins=0.2)


@pytest.mark.parametrize(
    ('success', 'counts'), [(0.5, (50, 50)), (0.2, (20, 80)), (1.0, (100, 0))]
)
def test_successes_and_failures_are_counted(success: float, counts: tuple[int, int]) -> None:
    kept = Counter(kind for pair in plan(episodes=100, success=success) for kind in pair.keeps)
    assert (kept['success'], kept['failure']) == counts


def test_modes_come_by_their_weights() -> None:
    pairs = plan(episodes=200, modes={'slip': 3, 'wrong_object': 1})
    assert Counter(pair.mode for pair in pairs) == {'slip': 75, 'wrong_object': 25}


def test_a_small_split_has_several_modes_and_tasks() -> None:
    data = {'splits': {f'split{n}': {'episodes': 2} for n in range(40)}}
    pairs = plan_pairs(config_from_dict(Recipe, data))
    assert len({pair.task for pair in pairs}) >= 4
    assert len({pair.mode for pair in pairs}) >= 6


def test_shares_are_counted_and_mixed() -> None:
    pairs = plan(episodes=400, dense=0.1, twins=0.25, perturbed=0.5)
    assert sum(pair.dense for pair in pairs) == 20
    assert sum(pair.twins for pair in pairs) == 50
    assert sum(pair.perturbed for pair in pairs) == 100
    both = sum(pair.twins and pair.perturbed for pair in pairs)
    assert 10 < both < 40
    turning = {pair.mode for pair in pairs if pair.twins}
    assert turning == {'wrong_object', 'wrong_destination'}
    assert {pair.mode for pair in pairs if not pair.twins} > turning


def test_noise_is_on_sparse_samples_only_and_at_its_rate() -> None:
    noise = {'false_success': 0.25, 'false_failure': 0.1}
    pairs = plan(episodes=200, dense=0.2, noise=noise)
    lies = Counter(kind for pair in pairs for kind in pair.lies)
    assert lies == {'failure': 20, 'success': 8}  # of 80 sparse pairs
    assert not any(pair.lies for pair in pairs if pair.dense)


def test_shards_are_the_whole() -> None:
    pairs = plan(episodes=26)
    parts = [shard_of(pairs, index, 3) for index in (1, 2, 3)]
    assert sorted(pair.name for part in parts for pair in part) == sorted(p.name for p in pairs)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_seeds_differ_between_splits_pairs_and_recipes() -> None:
    seeds = {
        stable_seed(recipe, split, number, attempt)
        for recipe in range(3)
        for split in ('train', 'test_seen')
        for number in range(200)
        for attempt in range(4)
    }
    assert len(seeds) == 3 * 2 * 200 * 4
    assert stable_seed(0, 'train', 1, 2) == 152136795728173


@given(
    st.integers(0, 300),
    st.dictionaries(st.text(max_size=3), st.floats(0.1, 10), min_size=1, max_size=6),
)
def test_apportion_keeps_the_proportion(count: int, weights: dict[str, float]) -> None:
    names = apportion(count, weights)
    assert len(names) == count
    for name, weight in weights.items():
        share = weight / sum(weights.values()) * count
        assert abs(names.count(name) - share) < len(weights)


@given(st.integers(0, 100), st.integers(0, 100))
def test_spread_chooses_as_many_as_asked(first: int, second: int) -> None:
    chosen, count = sorted((first, second))
    places = spread(chosen, count)
    assert len(places) == chosen
    assert places == sorted(set(places))
    assert all(0 <= place < count for place in places)
