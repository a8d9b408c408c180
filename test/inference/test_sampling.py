# SPDX-License-Identifier: Apache-2.0
"""Entropies by hand, and sampling that follows its distribution and its seed alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armor_ros.inference.errors import ModelError
from armor_ros.inference.sampling import choose_tokens, entropies, uniforms


def test_entropies_in_nats() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.5, 1e-30], [0.25, 0.25, 0.5], [1.0, 1e-30, 1e-30]]))
    expected = [math.log(2), 1.5 * math.log(2), 0.0]
    assert entropies(logits).tolist() == pytest.approx(expected, abs=1e-6)


def test_entropy_is_computed_in_float32() -> None:
    logits = torch.tensor([[3.0, 1.0, -2.0]])
    exact = entropies(logits)
    assert entropies(logits.to(torch.bfloat16)).dtype == torch.float32
    assert torch.equal(entropies(logits.to(torch.bfloat16)), exact)


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite(bad: float) -> None:
    with pytest.raises(ModelError, match='not finite'):
        entropies(torch.tensor([[0.0, bad, 1.0]]))


def test_greedy_takes_the_first_of_equals() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0], [2.0, 1.0, 0.0]])
    assert choose_tokens(logits, 0.0, torch.rand(2)).tolist() == [1, 0]


def test_choice_inverts_the_cumulative_distribution() -> None:
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3])).repeat(5, 1)
    numbers = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71], dtype=torch.float64)
    assert choose_tokens(logits, 1.0, numbers).tolist() == [0, 0, 1, 1, 2]


def test_temperature_sharpens() -> None:
    logits = torch.log(torch.tensor([[0.4, 0.6]]))
    # At temperature 0.5 the odds are squared: 0.16 to 0.36.
    bound = 0.16 / 0.52
    for number, token in ((bound - 1e-6, 0), (bound + 1e-6, 1)):
        numbers = torch.tensor([number], dtype=torch.float64)
        assert choose_tokens(logits, 0.5, numbers).tolist() == [token]


def test_impossible_tokens_are_never_chosen() -> None:
    logits = torch.tensor([[-1e9, 0.0, -1e9, 0.0, -1e9]]).repeat(1000, 1)
    numbers = torch.linspace(0, 1 - 1e-16, 1000, dtype=torch.float64)
    assert set(choose_tokens(logits, 0.7, numbers).tolist()) == {1, 3}


def test_sampled_frequencies() -> None:
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.4])
    numbers = uniforms(5, 'token', 0, 0, 20_000)
    chosen = choose_tokens(probabilities.log().repeat(20_000, 1), 1.0, numbers)
    frequencies = chosen.bincount(minlength=4) / 20_000
    torch.testing.assert_close(frequencies, probabilities, rtol=0, atol=0.015)


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63), st.integers(0, 20), st.integers(0, 20))
def test_numbers_depend_on_their_place_alone(seed: int, index: int, trajectory: int) -> None:
    numbers = uniforms(seed, 'token', index, trajectory, 5)
    assert torch.equal(numbers[:3], uniforms(seed, 'token', index, trajectory, 3))
    assert numbers.dtype == torch.float64
    assert 0 <= numbers.min() <= numbers.max() < 1
    for other in (
        uniforms(seed + 1, 'token', index, trajectory, 5),
        uniforms(seed, 'label', index, trajectory, 5),
        uniforms(seed, 'token', index + 1, trajectory, 5),
        uniforms(seed, 'token', index, trajectory + 1, 5),
    ):
        assert not torch.equal(numbers, other)


def test_the_global_generator_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    uniforms(0, 'token', 0, 0, 10)
    assert torch.equal(torch.random.get_rng_state(), state)
