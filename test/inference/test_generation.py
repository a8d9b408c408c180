# SPDX-License-Identifier: Apache-2.0
"""Texts generated side by side: each ends by itself and is what it would be alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from naive_reference import NaiveReference

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.episodes.episode import Episode
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.inference.errors import Canceled
from armor_ros.inference.generation import Generated, generate
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.inference.sampling import uniforms
from armor_ros.model.armor import ArmorModel
from armor_ros.model.prompts import PreviousAnswer

INSTRUCTION = 'pick up the red cube'
ANSWERS = (
    PreviousAnswer(),
    PreviousAnswer(True, 'The robot dropped the object halfway between the two bins.'),
    PreviousAnswer(False, 'It fell.'),
    PreviousAnswer(None, 'The gripper closed too early.'),
    PreviousAnswer(True, ''),
)
LIMIT = 12


@pytest.fixture(scope='module')
def episode(make_episode: Callable[..., Episode]) -> Episode:
    return make_episode(size=112, instruction=INSTRUCTION)


@pytest.fixture(scope='module')
def prefix(model: ArmorModel, episode: Episode) -> SharedPrefix:
    return Diagnoser(model).prefill(episode, RefinementSettings(), never)


def never() -> bool:
    return False


def texts(model: ArmorModel, prefix: SharedPrefix, rows: list[int]) -> list[Generated]:
    """Generate for some of ANSWERS in one batch, each with the numbers of its own trajectory."""
    numbers = torch.stack([uniforms(0, 'token', 1, row, LIMIT) for row in rows])
    suffixes = [model.prompts.reasoning_suffix(ANSWERS[row]) for row in rows]
    with torch.inference_mode():
        return generate(prefix, suffixes, numbers, 0.7, never)


def test_a_row_is_what_it_would_be_alone(model: ArmorModel, prefix: SharedPrefix) -> None:
    together = texts(model, prefix, [0, 1, 2, 3, 4])
    lengths = [len(text.tokens) for text in together]
    assert min(lengths) < LIMIT, 'some text ends by itself'
    assert len(set(lengths)) > 2, 'at different steps'
    for row, text in enumerate(together):
        alone = texts(model, prefix, [row])[0]
        assert text.tokens == alone.tokens
        assert text.entropy == pytest.approx(alone.entropy, abs=1e-5)


def test_entropy_is_the_mean_over_the_text_and_its_end(
    model: ArmorModel, prefix: SharedPrefix, episode: Episode
) -> None:
    settings = RefinementSettings(max_new_tokens=LIMIT)
    reference = NaiveReference(model, episode)
    for row, text in enumerate(texts(model, prefix, [0, 1, 2, 3, 4])):
        failed = ANSWERS[row].failed
        word = '' if failed is None else 'No' if failed else 'Yes'
        with torch.no_grad():
            tokens, entropy = reference.explain(word, ANSWERS[row].explanation, settings, 1, row)
        assert list(text.tokens) == tokens
        assert text.entropy == pytest.approx(entropy, abs=1e-5)


def test_tokens_end_before_the_end_token(model: ArmorModel, prefix: SharedPrefix) -> None:
    for text in texts(model, prefix, [0, 1, 2, 3, 4]):
        assert not model.prompts.stop_ids & set(text.tokens)


def test_a_shorter_limit_cuts_the_same_text(model: ArmorModel, prefix: SharedPrefix) -> None:
    suffix = [model.prompts.reasoning_suffix(ANSWERS[0])]
    numbers = uniforms(0, 'token', 1, 0, LIMIT)[None]
    with torch.inference_mode():
        whole = generate(prefix, suffix, numbers, 0.7, never)[0].tokens
        short = generate(prefix, suffix, numbers[:, :3], 0.7, never)[0].tokens
    assert short == whole[:3]


def test_stopping_is_asked_before_each_step(model: ArmorModel, prefix: SharedPrefix) -> None:
    answers = iter([False, False, True])
    suffix = [model.prompts.reasoning_suffix(ANSWERS[1])]
    with torch.inference_mode(), pytest.raises(Canceled):
        generate(prefix, suffix, torch.zeros(1, 9), 0.0, lambda: next(answers))
    assert next(answers, None) is None
