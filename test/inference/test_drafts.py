# SPDX-License-Identifier: Apache-2.0
"""Drafts save steps and never change a text, for greedy decoding and for sampling alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.episodes.episode import Episode
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.inference.drafts import DraftBudget, Drafter
from armor_ros.inference.generation import Generated, generate
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.inference.sampling import uniforms
from armor_ros.model.armor import ArmorModel
from armor_ros.model.decoder import Decoder
from armor_ros.model.prompts import PreviousAnswer

LIMIT = 14
FREE = DraftBudget(token_cost=1e-9)
ANSWERS = (
    PreviousAnswer(True, 'The robot dropped the object halfway between the two bins.'),
    PreviousAnswer(False, 'It fell.'),
    PreviousAnswer(True, 'It fell.'),
)


@pytest.fixture(scope='module')
def prefix(model: ArmorModel, make_episode: Callable[..., Episode]) -> SharedPrefix:
    return Diagnoser(model).prefill(make_episode(), RefinementSettings(), lambda: False)


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of tokens of each forward through all layers."""
    sizes: list[int] = []
    late = Decoder.late_layers

    def record(self: Decoder, run: object, cache: object) -> torch.Tensor:
        hidden = late(self, run, cache)  # type: ignore[arg-type]
        sizes.append(len(hidden))
        return hidden

    monkeypatch.setattr(Decoder, 'late_layers', record)
    return sizes


def say(
    prefix: SharedPrefix, temperature: float, seed: int = 0, drafter: Drafter | None = None
) -> list[Generated]:
    numbers = torch.stack([uniforms(seed, 'token', 1, row, LIMIT) for row in range(3)])
    suffixes = [prefix.model.prompts.reasoning_suffix(answer) for answer in ANSWERS]
    with torch.inference_mode():
        return generate(prefix, suffixes, numbers, temperature, lambda: False, drafter=drafter)


def drafter_of(
    texts: Sequence[Sequence[int]],
    budget: DraftBudget = FREE,
    usual: Sequence[Sequence[int]] = (),
) -> Drafter:
    drafter = Drafter(budget, usual)
    drafter.begin_round(texts)
    return drafter


def with_end(prefix: SharedPrefix, text: Generated) -> list[int]:
    tokens = list(text.tokens)
    return tokens if len(tokens) == LIMIT else [*tokens, prefix.model.prompts.end_id]


def assert_same_texts(ours: list[Generated], theirs: list[Generated]) -> None:
    assert [text.tokens for text in ours] == [text.tokens for text in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.entropy == pytest.approx(other.entropy, abs=1e-4)


@pytest.mark.parametrize('temperature', [0.0, 0.7, 1.3])
def test_a_perfect_draft_takes_one_step(
    prefix: SharedPrefix, forwards: list[int], temperature: float
) -> None:
    plain = say(prefix, temperature)
    assert len(forwards) > 5
    forwards.clear()
    drafted = say(
        prefix, temperature, drafter=drafter_of([with_end(prefix, text) for text in plain])
    )
    assert len(forwards) == 1
    assert_same_texts(drafted, plain)


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    temperature=st.sampled_from([0.0, 0.7, 1.3]),
    seed=st.integers(0, 3),
    cost=st.sampled_from([1e-9, 0.05, 0.3]),
)
def test_wrong_drafts_change_nothing(
    prefix: SharedPrefix, data: st.DataObject, temperature: float, seed: int, cost: float
) -> None:
    plain = say(prefix, temperature, seed)
    drafts = []
    for text in plain:
        draft = with_end(prefix, text)
        for place in data.draw(st.lists(st.integers(0, len(draft) - 1), max_size=3)):
            draft[place] = data.draw(st.integers(0, 300))
        drafts.append(data.draw(st.sampled_from([draft, draft[1:], draft[:4], draft * 2])))
    budget = DraftBudget(token_cost=cost)
    assert_same_texts(say(prefix, temperature, seed, drafter_of(drafts, budget)), plain)


def test_a_text_is_followed_again_after_a_difference(
    prefix: SharedPrefix, forwards: list[int]
) -> None:
    plain = say(prefix, 0.7)
    steps = len(forwards)
    forwards.clear()
    drafts = [with_end(prefix, text) for text in plain]
    for draft in drafts:
        draft[min(2, len(draft) - 1)] = 7
    assert_same_texts(say(prefix, 0.7, drafter=drafter_of(drafts)), plain)
    longest = max(len(draft) for draft in drafts)
    assert longest > 8, 'or there is nothing to follow'
    assert len(forwards) < steps


@pytest.mark.parametrize('cost', [0.05, 0.3])
def test_useless_drafts_cost_no_more_than_the_allowance(
    prefix: SharedPrefix, forwards: list[int], cost: float
) -> None:
    say(prefix, 0.7)
    plain_steps, plain_tokens = len(forwards), sum(forwards)
    budget = DraftBudget(token_cost=cost, allowance=2.0, renewal=0.0)
    drafter = Drafter(budget)
    # One drafter for several rounds: what is lost is lost once.
    for _ in range(3):
        forwards.clear()
        drafter.begin_round([[5] * LIMIT] * 3)
        say(prefix, 0.7, drafter=drafter)
        assert len(forwards) == plain_steps
        extra = sum(forwards) - plain_tokens
        assert extra * cost <= budget.allowance
    assert extra == 0


def test_savings_pay_for_longer_drafts(prefix: SharedPrefix, forwards: list[int]) -> None:
    plain = say(prefix, 0.7)
    steps = len(forwards)
    forwards.clear()
    budget = DraftBudget(token_cost=0.25, allowance=2.0)
    drafts = [with_end(prefix, text) for text in plain]
    assert_same_texts(say(prefix, 0.7, drafter=drafter_of(drafts, budget)), plain)
    # Two tokens a row at first, then as far as these two lead.
    assert len(forwards) < steps / 2


def test_rows_without_a_draft_keep_the_others_from_drafting() -> None:
    drafter = drafter_of([[1, 2, 3], [], [4, 5, 6]], FREE)
    assert drafter.propose([(0, []), (1, [])], [9, 9]) == [[1, 2, 3], [1, 2, 3]]
    assert drafter.propose([(0, [1]), (1, [8])], [9, 9]) == [[], []]
    assert drafter.propose([(0, [1]), (2, [4])], [9, 1]) == [[2, 3], [5]]


def test_usual_explanations_are_drafts_of_the_first_round(
    model: ArmorModel, make_episode: Callable[..., Episode], forwards: list[int]
) -> None:
    wanted = RefinementSettings(rounds=1, trajectories=1, max_new_tokens=30, temperature=0.0)
    episode = make_episode(seed=4)
    plain = Diagnoser(model).diagnose(episode, wanted)
    steps = len(forwards)
    forwards.clear()
    usual = ('It fell.', plain.explanation)
    drafted = Diagnoser(model, usual_explanations=usual[::-1]).diagnose(episode, wanted)
    assert drafted.explanation == plain.explanation
    # What was said is not quite what it is read as: the model's noise is no clean text.
    assert len(forwards) < 0.8 * steps
    other = Diagnoser(model, usual_explanations=usual).diagnose(episode, wanted)
    assert other.explanation == plain.explanation


def test_a_usual_text_is_followed_from_its_middle() -> None:
    drafter = drafter_of([[1, 2, 3, 4]], FREE, usual=[[7, 8], [5, 6, 7, 8, 9], [6, 7, 8, 2]])
    assert drafter.propose([(0, [])], [9]) == [[1, 2, 3, 4]]
    assert drafter.propose([(0, [5, 6])], [9]) == [[7, 8, 9]]
    assert drafter.propose([(0, [3, 6, 7, 8])], [9]) == [[9]]
    assert drafter.propose([(0, [0, 1, 2, 3])], [9]) == [[4]]
    assert drafter.propose([(0, [5, 5, 7, 8])], [9]) == [[]]


@pytest.mark.parametrize('temperature', [0.0, 0.7])
def test_usual_explanations_never_change_an_answer(
    model: ArmorModel, make_episode: Callable[..., Episode], temperature: float
) -> None:
    settings = RefinementSettings(max_new_tokens=20, tolerance=0.0, temperature=temperature)
    for seed in range(3):
        episode = make_episode(seed=seed)
        plain = Diagnoser(model, drafts=False).diagnose(episode, settings)
        right = [answer.explanation for answer in plain.trace[:2]]
        for usual in (right, ['It fell.', ' ', 'x' * 300], [right[0][:30], *right]):
            ours = Diagnoser(model).diagnose(episode, settings, usual_explanations=usual)
            assert ours.selected == plain.selected
            for one, other in zip(ours.trace, plain.trace, strict=True):
                assert one.explanation.encode() == other.explanation.encode()
                assert one.failed == other.failed
                # Other shapes of the products round otherwise, in the last digit.
                assert one.failure_probability == pytest.approx(
                    other.failure_probability, abs=1e-6
                )
                assert one.combined_entropy == pytest.approx(other.combined_entropy, abs=1e-6)


@pytest.mark.parametrize('temperature', [0.0, 0.7])
def test_diagnoses_with_and_without_drafts(
    model: ArmorModel, make_episode: Callable[..., Episode], temperature: float
) -> None:
    wanted = RefinementSettings(max_new_tokens=20, tolerance=0.0, temperature=temperature)
    for seed in range(4):
        settings = dataclasses.replace(wanted, seed=seed)
        episode = make_episode(seed=seed)
        drafted = Diagnoser(model).diagnose(episode, settings)
        plain = Diagnoser(model, drafts=False).diagnose(episode, settings)
        assert [r.explanation for r in drafted.trace] == [r.explanation for r in plain.trace]
        assert drafted.selected == plain.selected


def test_sampled_frequencies_with_drafts(prefix: SharedPrefix) -> None:
    """Whatever is drafted, a token's frequency is its probability."""
    suffix = prefix.model.prompts.reasoning_suffix(ANSWERS[0])
    count = 400
    numbers = ((torch.arange(count) + 0.5) / count)[:, None].double().repeat(1, 2)
    with torch.inference_mode():
        plain = generate(prefix, [suffix], torch.zeros(1, 1), 0.0, lambda: False)
        likely = list(plain[0].tokens) or [5]
        drafter = Drafter(FREE)
        drafter.begin_round([[*likely, 5]] * count)
        drafted = generate(prefix, [suffix] * count, numbers, 1.0, lambda: False, drafter=drafter)
        undrafted = generate(prefix, [suffix] * count, numbers, 1.0, lambda: False)
    ours = torch.tensor([text.tokens[0] if text.tokens else -1 for text in drafted])
    theirs = torch.tensor([text.tokens[0] if text.tokens else -1 for text in undrafted])
    assert torch.equal(ours, theirs)
    assert len(ours.unique()) > 10
