# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import (
    ITEMS,
    distance,
    losses_of,
    make_model,
    make_recipe,
    make_trainer,
    smaller,
)

from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.training import trainer
from armor_ros.training.conditioning import Truth
from armor_ros.training.export import export_checkpoint
from armor_ros.training.packing import PackedBatch
from armor_ros.training.phase_recipe import PhaseRecipe
from armor_ros.training.schedule import StepReport, plan_phase, rate_at, steps_of
from armor_ros.training.steps import BatchMaker
from armor_ros.training.trainer import Interrupted, Trainer

SFT = {'kind': 'sft', 'only_dense': True, 'epochs': 2}
MIXED = {'kind': 'expert', 'conditioning': 'mixed'}
# Of the toy recipe: detection, language and auxiliary loss, a row a step.
GOLDEN = [
    [0.0000, 0.0000, 47.1158],
    [0.0000, 0.0000, 43.0915],
    [0.7559, 5.9498, 45.1878],
    [0.6852, 5.9314, 41.2779],
    [0.6930, 5.3586, 0.0000],
    [0.7441, 0.0000, 0.0000],
    [0.7308, 5.4213, 0.0000],
    [0.7103, 5.0636, 0.0000],
]


def weights_of(model: ArmorModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert list(one) == list(other)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_tower_is_standardized_by_samples_of_all_the_data(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, 'MEASURED_CLIPS', 3)
    made = make_trainer(make_recipe({'kind': 'perception'}), toy_data, tmp_path)
    measured: list[Any] = []
    monkeypatch.setattr(trainer, 'standardize_vision', lambda _, clips: measured.extend(clips))
    made.train()
    wanted = [made._data[index].clip.vision.patches for index in (0, 2, 4)]
    assert len(measured) == 3
    assert all(torch.equal(a.vision.patches, b) for a, b in zip(measured, wanted, strict=True))


def test_losses_of_all_phases_are_those_of_before(toy_data: Path, tmp_path: Path) -> None:
    found = losses_of(make_recipe(), toy_data, tmp_path)
    for row, expected in zip(found, GOLDEN, strict=True):
        assert row[:3] == pytest.approx(expected, rel=2e-3, abs=2e-3)


@pytest.fixture(scope='module')
def uninterrupted(
    toy_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    output = tmp_path_factory.mktemp('whole')
    return weights_of(make_trainer(make_recipe(), toy_data, output).train())


@pytest.mark.parametrize('stop', [1, 4, 7])
def test_an_interrupted_run_ends_with_the_same_bits(
    toy_data: Path, tmp_path: Path, uninterrupted: dict[str, torch.Tensor], stop: int
) -> None:
    recipe = make_recipe()
    steps: list[StepReport] = []
    first = make_trainer(
        recipe, toy_data, tmp_path / 'parts',
        on_step=steps.append, should_stop=lambda: len(steps) == stop,
    )  # fmt: skip
    with pytest.raises(Interrupted):
        first.train()
    torch.manual_seed(99)
    torch.rand(7)
    rest = make_trainer(recipe, toy_data, tmp_path / 'parts', on_step=steps.append)
    model = rest.train()
    assert [(s.phase, s.step) for s in steps] == [(p, s) for p in range(4) for s in range(2)]
    assert_same(weights_of(model), uninterrupted)


def test_a_killed_run_goes_on_from_what_was_kept(toy_data: Path, tmp_path: Path) -> None:
    recipe = make_recipe({'kind': 'warmup', 'epochs': 3})
    whole = weights_of(make_trainer(recipe, toy_data, tmp_path / 'whole').train())

    def fail(report: StepReport) -> None:
        if report.step == 4:
            raise RuntimeError

    killed = make_trainer(recipe, toy_data, tmp_path / 'parts', on_step=fail, save_seconds=0.0)
    with pytest.raises(RuntimeError):
        killed.train()
    steps: list[StepReport] = []
    rest = make_trainer(recipe, toy_data, tmp_path / 'parts', on_step=steps.append)
    assert_same(weights_of(rest.train()), whole)
    assert [report.step for report in steps] == [4, 5]


def test_a_finished_run_has_nothing_left_to_do(toy_data: Path, tmp_path: Path) -> None:
    recipe = make_recipe({'kind': 'warmup'})
    whole = weights_of(make_trainer(recipe, toy_data, tmp_path).train())
    steps: list[StepReport] = []
    again = make_trainer(recipe, toy_data, tmp_path, on_step=steps.append)
    assert_same(weights_of(again.train()), whole)
    assert steps == []


def test_damaged_state_is_named(toy_data: Path, tmp_path: Path) -> None:
    recipe = make_recipe({'kind': 'warmup'})
    make_trainer(recipe, toy_data, tmp_path).train()
    state = tmp_path / 'state'
    (state / 'phase-0-step-2').rename(state / 'elsewhere')
    with pytest.raises(ArmorError, match='phase-0-step-2 is missing; remove'):
        make_trainer(recipe, toy_data, tmp_path).train()
    (state / 'progress.json').write_text('{"phase": 0,')
    with pytest.raises(ArmorError, match='damaged'):
        make_trainer(recipe, toy_data, tmp_path).train()


@pytest.mark.parametrize('kind', ['warmup', 'expert', 'online', 'sft'])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    toy_data: Path, tmp_path: Path, kind: str
) -> None:
    phase = {'kind': kind, 'epochs': 2, 'rounds': 2, 'max_new_tokens': 6}
    recipe = make_recipe(phase, dropout=0.0)
    weights = []
    for size in (1, 4):
        trainer = make_trainer(
            smaller(recipe, micro_batch_size=size), toy_data, tmp_path / str(size)
        )
        weights.append(weights_of(trainer.train()))
    assert distance(*weights) < 1e-4


def test_checkpointed_activations_change_nothing(toy_data: Path, tmp_path: Path) -> None:
    recipe = make_recipe({'kind': 'warmup'}, {'kind': 'online', 'rounds': 2, 'max_new_tokens': 6})
    plain = losses_of(recipe, toy_data, tmp_path / 'a')
    thrifty = losses_of(smaller(recipe, gradient_checkpointing=True), toy_data, tmp_path / 'b')
    assert thrifty == [pytest.approx(row, abs=1e-5) for row in plain]


def test_bf16_is_near_to_float32(toy_data: Path, tmp_path: Path) -> None:
    recipe = make_recipe({'kind': 'warmup'}, {'kind': 'online', 'rounds': 2, 'max_new_tokens': 6})
    plain = losses_of(recipe, toy_data, tmp_path / 'a')
    rough = losses_of(smaller(recipe, precision='bf16'), toy_data, tmp_path / 'b')
    assert rough != plain
    assert [row[0] for row in rough] == [pytest.approx(row[0], abs=0.05) for row in plain]
    # and float32 again, in the same process
    assert losses_of(recipe, toy_data, tmp_path / 'c') == plain


def test_a_rate_of_0_freezes_the_vision_tower(toy_data: Path, tmp_path: Path) -> None:
    recipe = make_recipe({'kind': 'warmup', 'vision_learning_rate': 0.0})
    before = weights_of(make_model(recipe, toy_data))
    after = weights_of(make_trainer(recipe, toy_data, tmp_path).train())
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert not any('.visual.' in name for name in changed)
    assert any('.language_model.layers.4.' in name for name in changed)
    nothing = make_recipe({'kind': 'perception', 'learning_rate': 0, 'vision_learning_rate': 0})
    with pytest.raises(ArmorError, match='no weight has a learning rate above 0'):
        make_trainer(nothing, toy_data, tmp_path / 'nothing').train()


@pytest.mark.parametrize(
    ('phase', 'words'),
    [
        ({'kind': 'warmup', 'learning_rate': 0.0}, 'warmup: learning_rate is 0, so neither'),
        ({'kind': 'warmup', 'learning_rate': -1e-4}, 'learning_rate is -0.0001; give a number'),
        ({'kind': 'online', 'vision_learning_rate': 11}, 'vision_learning_rate is 11.0; give a'),
        ({'kind': 'sft', 'epochs': 0}, 'epochs is 0.0; give a number'),
        ({'kind': 'warmup', 'conditioning': 'mixed'}, r"is 'mixed', .*ways \(paper, contrast\)"),
        ({'kind': 'online', 'conditioning': 'contrast'}, r"'contrast', .*ways \(paper\); choose"),
        ({'kind': 'sft', 'conditioning': 'mixed'}, r"'mixed', .*ways \(paper\); choose"),
    ],
)
def test_values_that_no_phase_could_follow_are_named(phase: dict[str, Any], words: str) -> None:
    with pytest.raises(ArmorError, match=words):
        make_recipe(phase)


def test_a_run_that_comes_apart_is_no_checkpoint(toy_data: Path, tmp_path: Path) -> None:
    recipe = make_recipe({'kind': 'warmup', 'epochs': 4})
    steps: list[StepReport] = []
    trainer = make_trainer(recipe, toy_data, tmp_path, on_step=steps.append, save_seconds=0.0)

    def spoil(report: StepReport) -> None:
        steps.append(report)
        if len(steps) == 3:
            with torch.no_grad():
                trainer.module.model.head.cls_token.fill_(torch.inf)

    trainer._on_step = spoil
    with pytest.raises(ArmorError, match=r'phase warmup, step 3: the losses are nan.*come apart'):
        trainer.train()
    assert len(steps) == 3
    with pytest.raises(ArmorError, match=r'are no finite numbers, so training'):
        export_checkpoint(trainer.module.model, recipe, tmp_path / 'out', 'card')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('sizes', 'words'),
    [
        ({'vision_hidden_size': -4}, 'vision_hidden_size is -4; give a number'),
        ({'vision_hidden_size': 33}, 'vision_hidden_size is 33; make it a multiple of 8'),
        ({'patch_size': 0}, 'patch_size is 0; give a number'),
        ({'merge_size': 0}, 'merge_size is 0; give a number'),
    ],
)
def test_sizes_that_no_model_has_are_named(sizes: dict[str, int], words: str) -> None:
    with pytest.raises(ArmorError, match=words):
        make_recipe({'kind': 'warmup'}, model={'random': sizes})


@pytest.mark.parametrize('phase', [SFT, MIXED, {'kind': 'warmup', 'only_dense': True}])
def test_other_phases_learn(toy_data: Path, tmp_path: Path, phase: dict[str, object]) -> None:
    recipe = make_recipe({**phase, 'epochs': 12}, dropout=0.0)
    losses = losses_of(recipe, toy_data, tmp_path)
    first, last = (sum(row[0] + row[1] for row in rows) for rows in (losses[:2], losses[-2:]))
    assert last < 0.9 * first


def test_phases_report_to_whom_it_concerns(toy_data: Path, tmp_path: Path) -> None:
    phases: list[tuple[int, bool]] = []
    trainer: Trainer = make_trainer(
        make_recipe({'kind': 'warmup'}, SFT), toy_data, tmp_path,
        on_phase=lambda index, model: phases.append((index, isinstance(model, ArmorModel))),
    )  # fmt: skip
    assert not trainer.train().training
    assert phases == [(0, True), (1, True)]


def test_rates_warm_up_and_then_follow_a_cosine() -> None:
    rates = [rate_at(step, 100, 0.03) for step in range(100)]
    assert rates[:4] == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0, 1.0]
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[51] == pytest.approx(0.5, abs=0.02)
    assert 0 < rates[-1] < 1e-3


def test_steps_of_a_phase() -> None:
    recipe = make_recipe({'kind': 'warmup', 'epochs': 2.5}, SFT)
    assert [steps_of(phase, 8, 4) for phase in recipe.phases] == [5, 4]
    dense = [True, False, True, False, False, True, False, True]
    plans = [plan_phase(recipe, index, dense) for index in range(2)]
    assert [plan.steps for plan in plans] == [5, 2]
    assert plans[1].chosen == (0, 2, 5, 7)
    assert [plans[0].tries_after(step) for step in range(5)] == [False, True, False, True, True]
    taken = [place for step in range(2) for turn in plans[0].turns(step, 0, 1) for place in turn]
    assert sorted(taken) == [(index, 0) for index in range(8)]
    shared = [{*itertools.chain(*plans[0].turns(0, rank, 2))} for rank in range(2)]
    assert shared[0] | shared[1] == {*itertools.chain(*plans[0].turns(0, 0, 1))}
    assert not shared[0] & shared[1]


def test_a_warmup_may_ask_for_facts(toy_data: Path, tmp_path: Path) -> None:
    """Every clip has something to say then, even where no explanation is known."""
    plain, asked = (
        make_recipe({'kind': 'warmup', 'only_dense': False, 'facts': facts})
        for facts in (False, True)
    )
    model = make_model(asked, toy_data)
    trainer = make_trainer(asked, toy_data, tmp_path / 'asked')
    samples = [trainer._data[index] for index in range(4)]
    names = {name for sample in samples for name, _ in sample.facts.named}
    assert {len(sample.facts.timeline) for sample in samples} == {samples[0].clip.vision.grid[0]}
    assert names == {*ITEMS, 'above the left bin', 'above the right bin'}
    counts = []
    for recipe in (plain, asked):
        maker = BatchMaker(model, recipe.phases[0], [], 'seed')
        counts.append(len(maker.make(samples, [0] * 4).packed.reasonings))
    # names, a line of time, and a story
    assert counts[1] == counts[0] + 4 * 3
    losses = losses_of(asked, toy_data, tmp_path / 'run')
    assert losses[-1][1] < losses[0][1]


def test_facts_alone_tell_neither_label_nor_explanation(toy_data: Path, tmp_path: Path) -> None:
    """What is learned from them is the same whatever the labels and explanations are."""
    recipe = make_recipe({'kind': 'facts', 'epochs': 2})
    trainer = make_trainer(recipe, toy_data, tmp_path / 'asked')
    samples = [trainer._data[index] for index in range(4)]
    others = [
        dataclasses.replace(sample, truth=Truth(not sample.truth.failed, 'Another one.'))
        for sample in samples
    ]
    maker = BatchMaker(make_model(recipe, toy_data), recipe.phases[0], [], 'seed')
    first, second = (maker.make(own, [0] * 4).packed for own in (samples, others))
    assert torch.equal(first.ids, second.ids)
    assert torch.equal(first.targets, second.targets)
    assert torch.equal(first.failed, second.failed)
    assert len(first.reasonings) == 4 * 3
    assert len(first.detections) == 4 * 3
    losses = losses_of(recipe, toy_data, tmp_path / 'run')
    assert losses[-1][1] < losses[0][1]


def test_facts_are_compared_where_that_is_asked_for(toy_data: Path, tmp_path: Path) -> None:
    counts = []
    for asked_for in ({}, {'compare': True}, {'read': True}, {'compare': True, 'read': True}):
        recipe = make_recipe({'kind': 'facts', **asked_for})
        samples = [make_trainer(recipe, toy_data, tmp_path)._data[index] for index in range(4)]
        maker = BatchMaker(make_model(recipe, toy_data), recipe.phases[0], [], 'seed')
        counts.append(len(maker.make(samples, [0] * 4).packed.detections))
    asked = [len(sample.facts.compared) for sample in samples]
    assert all(asked)
    # each once from the clip, and one of them behind the story; or each behind a text alone
    seen, read = sum(asked) + 4, sum(asked)
    assert [count - 4 * 3 for count in counts] == [0, seen, read, seen + read]


def test_explanations_are_asked_for_without_labels(toy_data: Path, tmp_path: Path) -> None:
    """Beside the facts each explained sample is explained; no label makes a difference."""
    recipe = make_recipe({'kind': 'facts', 'epochs': 2, 'explain': True})
    trainer = make_trainer(recipe, toy_data, tmp_path / 'asked')
    samples = [trainer._data[index] for index in range(3)]
    model = make_model(recipe, toy_data)
    silent = dataclasses.replace(recipe.phases[0], explain=False)

    def made(phase: PhaseRecipe, *truths: Truth) -> PackedBatch:
        own = [
            dataclasses.replace(sample, truth=truth)
            for sample, truth in zip(samples, truths, strict=True)
        ]
        return BatchMaker(model, phase, [], 'seed').make(own, [0] * 3).packed

    truths = (Truth(True, 'It fell.'), Truth(True), Truth(False, 'It stands.'))
    found = made(recipe.phases[0], *truths)
    without = made(silent, *truths)
    turned = made(
        recipe.phases[0], *(dataclasses.replace(each, failed=not each.failed) for each in truths)
    )
    assert torch.equal(found.failed, without.failed)
    assert torch.equal(found.failed, turned.failed)
    assert torch.equal(found.targets, turned.targets)
    prompts = model.prompts
    texts = sum(len(prompts.explanation_tokens(each.explanation)) for each in truths[::2])
    assert found.target_tokens - without.target_tokens == texts
    losses = losses_of(recipe, toy_data, tmp_path / 'run')
    assert losses[-1][1] < losses[0][1]


def test_facts_are_for_warmup_alone() -> None:
    with pytest.raises(ArmorError, match='only warmup asks for them'):
        make_recipe({'kind': 'online', 'facts': True})
    for name in ('compare', 'read'):
        with pytest.raises(ArmorError, match=f'{name} is on, but no facts are asked for'):
            make_recipe({'kind': 'warmup', name: True})
    with pytest.raises(ArmorError, match='explain is on, but that is for facts alone'):
        make_recipe({'kind': 'warmup', 'explain': True})
