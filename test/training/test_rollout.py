# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from training_clips import make_clips

import armor_ros.inference.policy as policy_module
from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.inference.engine import Engine
from armor_ros.inference.policy import ModelPolicy
from armor_ros.inference.sampling import uniforms
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import with_config
from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training.packing import Clip
from armor_ros.training.rollout import BatchPolicy, RolloutSettings, rollout

SETTINGS = RolloutSettings(rounds=3, max_new_tokens=12)
NAMES = ('a', 'b', 'c')
SEED = 7


@torch.inference_mode()
def engine_answers(model: ArmorModel, clip: Clip, rounds: int) -> list[PreviousAnswer]:
    """What inference answers, clip by clip."""
    prefix = Engine(model).new_prefix()
    before, after = (torch.tensor(ids) for ids in (clip.prefix.before, clip.prefix.after))
    embeddings = [model.embed(before), model.encode_vision(clip.vision), model.embed(after)]
    prefix.append(torch.cat(embeddings), clip.positions)
    prefix.next_position = clip.next_position
    settings = RefinementSettings(temperature=0.7, max_new_tokens=SETTINGS.max_new_tokens)
    policy = ModelPolicy(prefix, settings, lambda: False)
    answers = [PreviousAnswer()]
    for index in range(rounds - 1):
        detection = policy.detect(answers[-1:])[0]
        explanation = policy.explain(answers[-1:], index)[0]
        number = policy_module.uniforms(SEED, 'label', index, 0, 1)
        failed = float(number[0]) < detection.failure_probability
        answers.append(PreviousAnswer(failed, explanation.text))
    return answers


@pytest.mark.parametrize(
    'changes', [{}, {'account_task': 'What does the gripper do?'}, {'quotes': 'other'}]
)
def test_answers_are_those_of_inference(
    model: ArmorModel, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    prompts = dataclasses.replace(model.config.prompts, **changes)
    model = with_config(model, dataclasses.replace(model.config, prompts=prompts))
    clips = make_clips(model)
    found = [
        [dataclasses.replace(answer, account='') for answer in answers]
        for answers in rollout(model, clips, NAMES, SETTINGS, SEED)
    ]
    for clip, name, answers in zip(clips, NAMES, found, strict=True):
        monkeypatch.setattr(
            policy_module,
            'uniforms',
            lambda seed, purpose, index, _, count, name=name: uniforms(
                SEED, f'{purpose}/{name}', index, 0, count
            ),
        )
        assert answers == engine_answers(model, clip, SETTINGS.rounds)
    assert all(answers[0] == PreviousAnswer() for answers in found)
    assert len({answer.explanation for answers in found for answer in answers[1:]}) == 6


def test_a_rollout_quotes_what_the_checkpoint_says(model: ArmorModel) -> None:
    prompts = dataclasses.replace(model.config.prompts, quotes='other')
    masking = with_config(model, dataclasses.replace(model.config, prompts=prompts))
    clips = make_clips(model)
    previous = [PreviousAnswer(True, 'it fell')] * len(clips)
    found, plain = (BatchPolicy(own.eval(), clips) for own in (masking, model))
    with torch.no_grad():
        probabilities = found.failure_probabilities(previous)
        assert probabilities == plain.failure_probabilities(
            [PreviousAnswer(None, 'it fell')] * len(clips)
        )
        assert probabilities != plain.failure_probabilities(previous)
        texts = found.likeliest(previous, 12)
        assert texts == plain.likeliest([PreviousAnswer(True)] * len(clips), 12)
        assert texts != plain.likeliest(previous, 12)


def test_answers_do_not_depend_on_the_batch(model: ArmorModel) -> None:
    clips = make_clips(model)
    together = rollout(model, clips, NAMES, SETTINGS, SEED)
    alone = [
        rollout(model, [clip], [name], SETTINGS, SEED)[0]
        for clip, name in zip(clips, NAMES, strict=True)
    ]
    assert together == alone
    assert rollout(model, clips, NAMES, SETTINGS, SEED + 1) != together
    assert rollout(model, clips, ('x', 'y', 'z'), SETTINGS, SEED) != together


def test_one_round_asks_nothing(model: ArmorModel) -> None:
    settings = dataclasses.replace(SETTINGS, rounds=1)
    assert rollout(model, make_clips(model), NAMES, settings, SEED) == [[PreviousAnswer()]] * 3


def test_the_model_answers_in_eval_mode_and_stays_as_it_was(model: ArmorModel) -> None:
    clips = make_clips(model)
    expected = rollout(model, clips, NAMES, SETTINGS, SEED)
    model.train()
    assert rollout(model, clips, NAMES, SETTINGS, SEED) == expected
    assert model.training
    assert model.head.training
    settings = dataclasses.replace(SETTINGS, sample_label=False, temperature=0.0)
    greedy = rollout(model, clips, NAMES, settings, SEED)
    assert greedy == rollout(model, clips, NAMES, settings, SEED + 1)
