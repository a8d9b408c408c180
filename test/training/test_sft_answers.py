# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy_training import make_recipe, make_trainer

from armor_ros.datasets.manifest import read_manifest
from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.episodes.episode import Episode
from armor_ros.model.armor import ArmorModel
from armor_ros.training.conditioning import SFT_REQUEST, Truth, sft_answer
from armor_ros.training.rollout import say
from armor_ros.training.samples import TrainingData, sample_episode
from armor_ros.training.sft_answers import SftAnswers

CAMERAS = ('front', 'wrist')


@pytest.fixture(scope='module')
def taught(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ArmorModel:
    """A model that was taught the format by many sparse samples, and few dense ones."""
    torch.set_num_threads(1)
    recipe = make_recipe({'kind': 'sft', 'epochs': 40, 'learning_rate': 4e-3}, dropout=0.0)
    return make_trainer(recipe, toy_data, tmp_path_factory.mktemp('sft')).train()


@pytest.fixture(scope='module')
def episodes(toy_data: Path) -> list[Episode]:
    samples = read_manifest(toy_data)[:4]
    return [sample_episode(toy_data, sample, CAMERAS) for sample in samples]


def test_what_is_written_is_what_training_saw(
    taught: ArmorModel, toy_data: Path, episodes: list[Episode]
) -> None:
    answers = SftAnswers(taught, max_new_tokens=60)
    data = TrainingData(toy_data, read_manifest(toy_data)[:4], taught, CAMERAS)
    suffix = taught.prompts.free_suffix(SFT_REQUEST)
    texts = say(taught, [sample.clip for sample in data], suffix, 60)
    assert [answers.answer(episode).raw for episode in episodes] == [(text,) for text in texts]


def test_answers_are_read_and_sure(taught: ArmorModel, episodes: list[Episode]) -> None:
    found = [SftAnswers(taught, max_new_tokens=60).answer(episode) for episode in episodes]
    assert not any(answer.unparsable for answer in found)
    for answer in found:
        assert answer.failure_probability is not None
        assert (answer.failure_probability >= 0.5) == answer.failed


def test_an_empty_thought_can_be_forced(taught: ArmorModel, episodes: list[Episode]) -> None:
    free = [SftAnswers(taught, max_new_tokens=60).answer(episode) for episode in episodes]
    forced = [
        SftAnswers(taught, thinks=True, max_new_tokens=60).answer(episode) for episode in episodes
    ]
    assert '' in [answer.explanation for answer in free]
    for answer in forced:
        assert answer.raw[0].startswith('<think>')
        assert answer.raw[0].removeprefix('<think>').strip()[0].isalnum()


def test_the_probability_is_that_of_the_whole_text(
    taught: ArmorModel, episodes: list[Episode]
) -> None:
    answers = SftAnswers(taught)
    settings = RefinementSettings(trajectories=1)
    with torch.inference_mode():
        prefix = answers._diagnoser.prefill(episodes[0], settings, lambda: False)
        found = answers._failure_probability(prefix, 'the can is on the shelf')
        chances = []
        for failed in (True, False):
            # token by token, each behind all that precede it
            text = sft_answer(Truth(failed, 'the can is on the shelf'))
            said = list(answers._suffix)
            total = 0.0
            for token in taught.prompts.explanation_tokens(text):
                logits = answers._logits(prefix, said)[-1].double()
                total += float(logits.log_softmax(-1)[token])
                said.append(token)
            chances.append(total)
    assert found == pytest.approx(float(torch.tensor(chances).softmax(0)[0]), abs=1e-4)


@pytest.mark.parametrize('length', [1900, 1973, 2500, 9000])
def test_a_long_thought_never_costs_the_answer(model: ArmorModel, length: int) -> None:
    text = model.prompts.decode(
        model.prompts.explanation_tokens(sft_answer(Truth(True, 'word ' * (length // 5))))
    )
    assert text.startswith('<think>word word ')
    assert text.endswith('</think> <answer>No</answer>')


def test_a_model_that_never_learned_the_format_gives_no_answer(
    model: ArmorModel, episodes: list[Episode]
) -> None:
    answer = SftAnswers(model, max_new_tokens=8).answer(episodes[0])
    assert (answer.failed, answer.unparsable) == (None, True)
