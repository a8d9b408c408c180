# SPDX-License-Identifier: Apache-2.0
"""The search for pairs, on outcomes made up by the tests: what is taken, tried again, given up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from armor_ros.configuration import config_from_dict
from armor_ros.simulation import pairs
from armor_ros.simulation.episode import Setup, draw_setup
from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures import FAILURES
from armor_ros.simulation.recipe import Recipe
from armor_ros.simulation.splits import Pair, plan_pairs

MODES = {'slip': 1, 'wrong_object': 1, 'wrong_destination': 1, 'missed_grasp': 1}


@dataclass
class FakeTake:
    kind: str
    mode: str
    seconds: float = 6.0

    @property
    def cause(self) -> EventKind | None:
        """As if each mode led to the kind of failure that it is meant to."""
        if self.kind == 'success':
            return None
        return min(FAILURES[self.mode].kinds) if self.mode in FAILURES else EventKind.MISSED


def recipe(**changes: Any) -> Recipe:
    split = {'episodes': 2, 'modes': MODES, 'tasks': {'transport': 1}}
    return config_from_dict(Recipe, {'attempts': 4, 'splits': {'train': split}} | changes)


def first_pair(what: Recipe, *, perturbed: bool, mode: str = 'slip') -> Pair:
    return replace(plan_pairs(what)[0], perturbed=perturbed, mode=mode)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, int], FakeTake]], list]:
    """Return a function that replaces physics, and returns the list of (seed, mode) run."""

    def use(outcome: Callable[[str, int], FakeTake]) -> list:
        seen: list[tuple[int, str]] = []

        def run(recipe: Any, setup: Setup, tried: list) -> FakeTake:
            seen.append((setup.seed, setup.mode))
            take = outcome(setup.mode, len(seen))
            tried.append((setup.mode, take.kind))
            return take

        monkeypatch.setattr(pairs, '_run', run)
        return seen

    return use


def ideal(mode: str, _: int) -> FakeTake:
    return FakeTake('success' if mode == 'nominal' else 'failure', mode)


def test_the_planned_mode_and_a_nominal_attempt_of_one_scene(runs: Any) -> None:
    seen = runs(ideal)
    found = pairs.find_pair(recipe(), first_pair(recipe(), perturbed=False))
    assert [mode for _, mode in seen] == ['slip', 'nominal']
    assert len({seed for seed, _ in seen}) == 1
    assert (found.takes['failure'].mode, found.takes['success'].mode) == ('slip', 'nominal')
    assert found.tried == (('slip', 'failure'), ('nominal', 'success'))


@pytest.mark.parametrize('mode', ['item_opened', 'multi_pick', 'collision'])
@pytest.mark.parametrize('perturbed', [False, True])
def test_a_mode_that_needs_a_certain_scene_shares_it_with_the_success(
    monkeypatch: pytest.MonkeyPatch, mode: str, perturbed: bool
) -> None:
    what = recipe(
        splits={'train': {'episodes': 2, 'tasks': {'transport': 1}, 'modes': MODES | {mode: 1}}}
    )
    seen: list[list[Setup]] = []

    def run(recipe: Any, setup: Setup, tried: list) -> FakeTake:
        seen[-1].append(setup)
        return ideal('nominal' if 'weak' in setup.mode else setup.mode, 0)

    monkeypatch.setattr(pairs, '_run', run)
    pair = first_pair(what, perturbed=perturbed, mode=mode)
    for number in range(12):
        seen.append([])
        assert pairs.find_pair(what, replace(pair, number=number)).takes
    assert all(len({id(s.scene) for s in setups}) == 1 for setups in seen)
    assert all(setups[0].mode == mode for setups in seen)
    drawn = [draw_setup(setups[0].seed, 'nominal', 'transport') for setups in seen]
    assert any(a.scene != b[0].scene for a, b in zip(drawn, seen, strict=True))


def test_a_perturbed_success_is_taken_for_the_success(runs: Any) -> None:
    runs(lambda mode, _: FakeTake('success' if mode in ('slip', 'nominal') else 'failure', mode))
    found = pairs.find_pair(recipe(), first_pair(recipe(), perturbed=False))
    assert found.takes['success'].mode == 'slip'
    assert found.takes['failure'].mode not in ('slip', 'nominal')


def test_a_weakened_injection_is_tried_where_a_perturbed_success_is_asked_for(runs: Any) -> None:
    seen = runs(lambda mode, _: FakeTake('success' if 'weak' in mode else 'failure', mode))
    found = pairs.find_pair(recipe(), first_pair(recipe(), perturbed=True))
    assert seen[0][1] == 'slip'
    assert len(seen) == 2
    assert found.takes['success'].mode.startswith('weak_')


@pytest.mark.parametrize('perturbed', [False, True])
def test_a_second_try_that_succeeds_beside_one_that_does_not(runs: Any, perturbed: bool) -> None:
    # two tries take longer than the one of an undisturbed attempt
    def twice(mode: str, _: int) -> FakeTake:
        kind = 'success' if mode.startswith(('nominal', 'recovered', 'weak')) else 'failure'
        return FakeTake(kind, mode, 8.5 if 'missed_grasp' in mode else 6.0)

    seen = runs(twice)
    pair = first_pair(recipe(), perturbed=perturbed, mode='missed_grasp')
    found = pairs.find_pair(recipe(), pair)
    assert found.takes['failure'].mode == 'missed_grasp'
    assert found.takes['success'].mode == 'recovered_missed_grasp'
    expected = ['missed_grasp', 'recovered_missed_grasp']
    if not perturbed:
        expected.insert(1, 'nominal')
    assert [mode for _, mode in seen] == expected


def test_the_nominal_attempt_where_weakened_ones_fail_too(runs: Any) -> None:
    seen = runs(ideal)
    found = pairs.find_pair(recipe(), first_pair(recipe(), perturbed=True))
    assert found.takes['success'].mode == 'nominal'
    assert len(seen) == 4
    assert sum(mode.startswith('weak_') for _, mode in seen) == 2


def test_another_scene_where_the_nominal_attempt_fails(runs: Any) -> None:
    seen = runs(lambda mode, count: FakeTake('success' if count > 3 else 'failure', mode))
    runs_before = pairs.find_pair(recipe(), first_pair(recipe(), perturbed=False))
    assert len({seed for seed, _ in seen}) >= 2
    assert runs_before.takes == {} or set(runs_before.takes) == {'success', 'failure'}


def test_lengths_that_differ_too_much_are_refused(runs: Any) -> None:
    def short(mode: str, _: int) -> FakeTake:
        return replace(ideal(mode, 0), seconds=3.5 if mode == 'slip' else 6.0)

    seen = runs(short)
    found = pairs.find_pair(recipe(), first_pair(recipe(), perturbed=False))
    # after half of the attempts the planned mode is preferred no more
    assert found.takes == {} or found.takes['failure'].mode != 'slip'
    assert len({seed for seed, _ in seen}) > 2
    wide = recipe(length_difference=2.6)
    found = pairs.find_pair(wide, first_pair(wide, perturbed=False))
    assert found.takes['failure'].mode == 'slip'


def test_the_search_is_bounded(runs: Any) -> None:
    seen = runs(lambda mode, _: FakeTake('failure', mode))
    found = pairs.find_pair(recipe(attempts=3), first_pair(recipe(), perturbed=False))
    assert found.takes == {}
    assert len({seed for seed, _ in seen}) == 3
    assert len(found.tried) == len(seen) <= 9  # an injection, the ideal attempt, a second try


def test_failures_of_a_held_out_kind_are_taken_only_where_they_are_asked_for(runs: Any) -> None:
    seen = runs(ideal)
    splits = {
        'train': {'episodes': 2, 'tasks': {'transport': 1}},
        'unseen_failure': {
            'episodes': 2,
            'tasks': {'transport': 1},
            'modes': {'wrong_object': 1, 'slip': 1},
        },
    }
    what = config_from_dict(
        Recipe, {'held_out_modes': ['wrong_object'], 'attempts': 4, 'splits': splits}
    )
    train, unseen = plan_pairs(what)
    # as when an injected slip ends with another item in the hand
    planned = replace(train, mode='slip', perturbed=False)
    assert pairs.find_pair(what, planned).takes['failure'].mode == 'slip'
    seen.clear()
    found = pairs.find_pair(what, replace(unseen, mode='slip', perturbed=False))
    assert found.takes['failure'].mode == 'wrong_object'
    assert [mode for _, mode in seen] == ['slip', 'wrong_object', 'nominal']
    assert not what.takes_failure('train', EventKind.WRONG_OBJECT)
    assert what.takes_failure('train', EventKind.DROPPED)
    assert not what.takes_failure('unseen_failure', EventKind.DROPPED)
