# SPDX-License-Identifier: Apache-2.0
"""A model that tells what it sees before it judges, in training."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import ACCOUNT_TASK as TASK
from toy_training import make_recipe, make_trainer, with_account
from training_clips import make_clips

from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import save_checkpoint, with_config
from armor_ros.model.prompts import PreviousAnswer, PromptEncoder
from armor_ros.training.conditioning import (
    Truth,
    account_branches,
    contrast_branches,
    expert_branches,
    mixed_branches,
    online_branches,
    warmup_branches,
)
from armor_ros.training.packing import Branch
from armor_ros.training.phase_recipe import PhaseKind, PhaseRecipe
from armor_ros.training.recipe import ModelRecipe
from armor_ros.training.rollout import RolloutSettings, rollout, say, tell
from armor_ros.training.sampled import Sampled, SamplingReport, accounts_file
from armor_ros.training.samples import TrainingSample
from armor_ros.training.start import starting_model
from armor_ros.training.steps import BatchMaker
from armor_ros.training.trainer import Interrupted
from armor_ros.training.validation import Trial

TOLD = Truth(True, 'the can fell', 'takes the can')
OTHERS = (Truth(True, 'it slipped'), Truth(False, 'it stands'))
PHASES = [
    {'kind': 'warmup', 'epochs': 2, 'max_new_tokens': 8},
    {'kind': 'expert', 'conditioning': 'mixed', 'max_new_tokens': 8},
    {'kind': 'online', 'rounds': 2, 'max_new_tokens': 8},
]


def asking(model: ArmorModel) -> ArmorModel:
    prompts = dataclasses.replace(model.config.prompts, account_task=TASK)
    return with_config(model, dataclasses.replace(model.config, prompts=prompts))


@pytest.mark.parametrize(
    'branches',
    [
        lambda prompts, rng: warmup_branches(prompts, TOLD),
        lambda prompts, rng: expert_branches(prompts, TOLD, rng),
        lambda prompts, rng: mixed_branches(prompts, TOLD, ['it slipped'], rng),
        lambda prompts, rng: contrast_branches(prompts, TOLD, OTHERS, 0.1, rng),
        lambda prompts, rng: online_branches(
            prompts, TOLD, [PreviousAnswer(True, 'it fell', account='takes the can')] * 2
        ),
    ],
)
def test_whatever_is_asked_quotes_the_account_first(
    model: ArmorModel, branches: Callable[[PromptEncoder, random.Random], list[Branch]]
) -> None:
    prompts = model.prompts
    line = tuple(prompts.encode_text('Given the account is takes the can\n'))
    for seed in range(8):
        made = branches(prompts, random.Random(seed))
        assert made
        assert {branch.suffix[: len(line)] for branch in made} == {line}


def test_a_rollout_that_told_nothing_is_quoted_so(model: ArmorModel) -> None:
    history = [PreviousAnswer(), PreviousAnswer(True, 'it fell')]
    told, untold = (online_branches(model.prompts, truth, history) for truth in (
        TOLD, dataclasses.replace(TOLD, account='')))  # fmt: skip
    assert told == untold


def test_an_account_is_asked_for_again_now_and_then(model: ArmorModel) -> None:
    prompts = model.prompts
    asked = [
        account_branches(prompts, TASK, 'takes the can', random.Random(seed))
        for seed in range(400)
    ]
    expected = Branch(
        tuple(prompts.free_suffix(TASK)), answer=tuple(prompts.explanation_tokens('takes the can'))
    )
    assert all(branches in ([], [expected]) for branches in asked)
    # 100 expected, with a deviation of 9
    assert 70 < sum(map(len, asked)) < 130
    assert account_branches(prompts, TASK, '', random.Random(1)) == []


@pytest.mark.parametrize('kind', ['warmup', 'online'])
def test_phases_ask_again_for_what_was_told(model: ArmorModel, kind: PhaseKind) -> None:
    own = asking(model)
    samples = [
        TrainingSample(f's{number}', clip, Truth(False))
        for number, clip in enumerate(make_clips(model) * 6)
    ]
    accounts = {sample.id: 'takes the can' for sample in samples}
    phase = PhaseRecipe(kind, rounds=1, max_new_tokens=4)
    counts = [
        len(
            BatchMaker(own, phase, (), 'seed', sampled=sampled)
            .make(samples, [0] * len(samples))
            .packed.reasonings
        )
        for sampled in (Sampled(), Sampled(accounts=accounts))
    ]
    assert counts[0] == 0
    assert 0 < counts[1] < len(samples) / 2


def test_where_no_account_is_asked_for_nothing_runs(
    model: ArmorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = make_clips(model)
    monkeypatch.setattr('armor_ros.training.rollout.BatchPolicy', None)
    assert tell(model, clips, 12) == [''] * len(clips)


def test_all_rounds_of_a_rollout_quote_the_account(model: ArmorModel) -> None:
    clips, names = make_clips(model), ('a', 'b', 'c')
    settings = RolloutSettings(rounds=3, max_new_tokens=12)
    own = asking(model)
    suffix = model.prompts.free_suffix(TASK)
    expected = [say(model, [clip], suffix, 12)[0] for clip in clips]
    assert all(expected)
    assert tell(own, clips, 12) == expected
    assert tell(model, clips, 12) == ['', '', '']
    found = rollout(own, clips, names, settings, 0)
    for account, answers in zip(expected, found, strict=True):
        assert answers[0] == PreviousAnswer(account=account)
        assert [answer.account for answer in answers] == [account] * 3
        assert all(answer.explanation for answer in answers[1:])
    plain = rollout(model, clips, names, settings, 0)
    assert [
        [dataclasses.replace(answer, account='') for answer in answers] for answers in found
    ] != plain


def test_a_recipe_may_replace_what_a_checkpoint_is_asked(
    model: ArmorModel, tmp_path: Path
) -> None:
    folder = str(save_checkpoint(asking(model), tmp_path / 'checkpoint'))
    for task, expected in ((None, TASK), ('', ''), ('What is there?', 'What is there?')):
        recipe = dataclasses.replace(
            make_recipe({'kind': 'warmup'}), model=ModelRecipe(folder, account_task=task)
        )
        assert starting_model(recipe, ()).config.prompts.account_task == expected
    masking = dataclasses.replace(recipe, model=ModelRecipe(folder, quotes='other'))
    prompts = starting_model(masking, ()).config.prompts
    assert (prompts.account_task, prompts.quotes) == (TASK, 'other')


def recipe_of(task: str, **changes: Any) -> Any:
    return with_account(make_recipe(*PHASES, dropout=0.0, **changes), task)


def trained(data: Path, output: Path, task: str = TASK, **options: Any) -> dict[str, torch.Tensor]:
    model = make_trainer(recipe_of(task), data, output, **options).train()
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture(scope='module')
def uninterrupted(
    toy_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, torch.Tensor], list[SamplingReport]]:
    torch.set_num_threads(1)
    output, reports = tmp_path_factory.mktemp('accounts'), []
    return output, trained(toy_data, output, on_sampling=reports.append), reports


def test_phases_learn_behind_what_the_model_told_before(
    toy_data: Path,
    uninterrupted: tuple[Path, dict[str, torch.Tensor], list[SamplingReport]],
    tmp_path: Path,
) -> None:
    output, weights, reports = uninterrupted
    assert [(r.phase, r.asked, r.kept) for r in reports] == [(0, 8, 8), (1, 8, 8), (2, 8, 8)]
    lines = [
        [json.loads(line) for line in accounts_file(output, phase).read_text().splitlines()]
        for phase in (0, 1)
    ]
    assert [line['sample'] for line in lines[0]] == [f's{index}' for index in range(8)]
    # the model has learned something in between
    assert lines[0] != lines[1]
    start = make_trainer(recipe_of(TASK), toy_data, tmp_path)
    clips = [sample.clip for sample in start._data]
    assert [line['account'] for line in lines[0]] == tell(start._model, clips, 8)
    other = trained(toy_data, tmp_path / 'plain', task='')
    assert any(not torch.equal(value, other[name]) for name, value in weights.items())
    assert not accounts_file(tmp_path / 'plain', 0).exists()


@pytest.mark.parametrize('stop', [3, 7])
def test_an_interrupted_run_ends_with_the_same_bits(
    toy_data: Path,
    uninterrupted: tuple[Path, dict[str, torch.Tensor], list[SamplingReport]],
    tmp_path: Path,
    stop: int,
) -> None:
    _, weights, _ = uninterrupted
    steps: list[None] = []
    with pytest.raises(Interrupted):
        trained(
            toy_data, tmp_path, on_step=lambda _: steps.append(None),
            should_stop=lambda: len(steps) == stop,
        )  # fmt: skip
    if stop == 3:
        moved = accounts_file(tmp_path, 0).rename(tmp_path / 'elsewhere')
        with pytest.raises(ArmorError, match=r'phase-0-accounts\.jsonl is missing, from'):
            trained(toy_data, tmp_path)
        moved.rename(accounts_file(tmp_path, 0))
    found = trained(toy_data, tmp_path)
    assert [name for name, value in weights.items() if not torch.equal(value, found[name])] == []


def test_a_trial_asks_as_the_checkpoint_will_be_asked(toy_data: Path, tmp_path: Path) -> None:
    trials: dict[str, list[Trial]] = {'': [], TASK: []}
    for task, own in trials.items():
        recipe = recipe_of(task, evaluation={'samples': 2, 'shown': 2}, optimizer={
            'learning_rate': 1e-12, 'vision_learning_rate': 0.0})  # fmt: skip
        recipe = dataclasses.replace(recipe, phases=recipe.phases[:1])
        make_trainer(recipe, toy_data, tmp_path / (task or 'plain'), on_trial=own.append).train()
    asked, plain = trials[TASK], trials['']
    # nothing was learned, so it is the account that makes the difference
    assert asked[0].detection == pytest.approx(asked[-1].detection, abs=1e-6)
    assert abs(asked[0].detection - plain[0].detection) > 1e-5
    assert all(answer.account for shown in asked[0].shown for answer in shown.answers)
    assert not any(answer.account for shown in plain[0].shown for answer in shown.answers)
