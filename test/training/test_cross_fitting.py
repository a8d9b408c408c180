# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from toy_training import make_recipe, make_trainer

from armor_ros.datasets.manifest import Sample
from armor_ros.errors import ArmorError
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.training import cross_fitting
from armor_ros.training.checks import read_splits
from armor_ros.training.cross_fitting import fold_of, fold_recipe
from armor_ros.training.folds import fold_numbers, without_fold
from armor_ros.training.recipe import DataRecipe
from armor_ros.training.rollout import rollout
from armor_ros.training.run import Silent, TrainingRequest, train
from armor_ros.training.run_folder import RunFolder
from armor_ros.training.sampled import add_seconds, fold_file, read_history, read_sampled
from armor_ros.training.samples import TrainingData, read_samples
from armor_ros.training.schedule import plan_phase
from armor_ros.training.steps import rollout_settings
from armor_ros.training.trainer import Interrupted

ONLINE = {'kind': 'online', 'epochs': 1.5, 'rounds': 3, 'max_new_tokens': 5, 'folds': 2}
RECIPE = make_recipe({'kind': 'warmup', 'epochs': 2}, ONLINE, dropout=0.0)
SAMPLES = tuple(f's{index}' for index in range(8))


class Stopping(Silent):
    """Asks to stop the first time it is asked after so many steps."""

    def __init__(self, most: int) -> None:
        self.steps: list[int] = []
        self._most = most

    def step(self, report: Any) -> None:
        self.steps.append(report.phase)

    def should_stop(self) -> bool:
        return len(self.steps) >= self._most


def request(data: Path, output: Path, listener: Silent | None = None) -> TrainingRequest:
    return TrainingRequest(RECIPE, data, output, tracker='none', listener=listener or Silent())


def weights_in(checkpoint: Path) -> dict[str, torch.Tensor]:
    files = sorted(checkpoint.glob('*.safetensors'))
    return {f'{f.name}/{name}': value for f in files for name, value in load_file(f).items()}


@pytest.fixture(scope='module')
def run(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp('cross')
    train(request(toy_data, output))
    return output


def test_clips_are_answered_by_models_that_have_not_seen_them(
    toy_data: Path, run: Path, tmp_path: Path
) -> None:
    samples = read_samples(toy_data, RECIPE.data)
    plan = plan_phase(RECIPE, 1, [sample.dense for sample in samples])
    lines = [read_sampled(fold_file(run, 1, fold)) for fold in range(2)]
    asked = Counter((line['sample'], line['epoch']) for fold in lines for line in fold)
    assert asked == {(sample, epoch): 1 for sample in SAMPLES for epoch in range(2)}
    for fold in range(2):
        members = fold_of(samples, plan, fold)
        own = fold_recipe(plan, fold)
        others = read_samples(toy_data, own.data)
        assert {s.id for s in members} | {s.id for s in others} == {*SAMPLES}
        assert len(members) == len(others) == 4
        # the same by hand
        checkpoint = train(TrainingRequest(own, toy_data, tmp_path / str(fold), tracker='none'))
        model = load_checkpoint(checkpoint, device='cpu', dtype='float32')
        data = TrainingData(toy_data, members, model, RECIPE.data.cameras)
        for epoch in range(2):
            found = rollout(
                model, [each.clip for each in data],
                [f'{plan.seed}/{epoch}/{each.id}' for each in members],
                rollout_settings(plan.phase), 0,
            )  # fmt: skip
            told = [line for line in lines[fold] if line['epoch'] == epoch]
            assert [line['rounds'] for line in told] == [
                [[answer.failed, answer.explanation, ''] for answer in answers]
                for answers in found
            ]
    assert not (run / 'folds' / '0').exists()
    noted = RunFolder(run).lines('sampling')
    assert [(line['phase'], line['asked'], line['kept']) for line in noted] == [(1, 16, 16)]
    assert noted[0]['seconds'] > 0


def test_a_phase_of_explained_samples_is_answered_by_models_without_them(
    toy_data: Path, tmp_path: Path
) -> None:
    recipe = make_recipe({'kind': 'warmup'}, ONLINE | {'only_dense': True})
    samples = read_samples(toy_data, recipe.data)
    explained = {sample.id for sample in samples if sample.dense}
    plan = plan_phase(recipe, 1, [sample.dense for sample in samples])
    answered: set[str] = set()
    for fold in range(2):
        members = {sample.id for sample in fold_of(samples, plan, fold)}
        learned = {sample.id for sample in read_samples(toy_data, fold_recipe(plan, fold).data)}
        assert not members & learned
        answered |= members
    assert answered == explained
    # and so it is run
    train(TrainingRequest(recipe, toy_data, tmp_path, tracker='none'))
    files = [fold_file(tmp_path, 1, fold) for fold in range(2)]
    assert {line['sample'] for file in files for line in read_sampled(file)} == explained


def test_folds_that_leave_nothing_to_learn_are_refused_at_once(toy_data: Path) -> None:
    recipe = make_recipe({'kind': 'warmup', 'verified': 1}, ONLINE | {'folds': 4})
    with pytest.raises(ArmorError, match=r'without fold \d of 4, .*explained failures'):
        read_splits(toy_data, recipe)


def test_an_interrupted_run_ends_with_the_same_bits(
    toy_data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []

    def count(file: Path, seconds: float) -> None:
        counted.append(file.name)
        add_seconds(file, seconds)

    monkeypatch.setattr(cross_fitting, 'add_seconds', count)
    # in the second fold's model, in what it answers, and in the phase itself
    listeners = [Stopping(3), Stopping(1), Stopping(0), Stopping(5)]
    answered = []
    for listener in listeners:
        with pytest.raises(Interrupted):
            train(request(toy_data, tmp_path, listener))
        answered.append([len(read_sampled(fold_file(tmp_path, 1, fold))) for fold in range(2)])
    assert answered == [[8, 0], [8, 0], [8, 2], [8, 8]]
    assert [listener.steps for listener in listeners] == [[0] * 3, [0], [], [0] * 4 + [1]]
    listener = Stopping(99)
    train(request(toy_data, tmp_path, listener))
    assert listener.steps == [1, 1]
    # what a fold's model took, which equal compute has to match
    assert counted == [fold_file(tmp_path, 1, fold).name for fold in range(2)]
    for fold in range(2):
        assert fold_file(tmp_path, 1, fold).read_text() == fold_file(run, 1, fold).read_text()
    whole, parts = (weights_in(folder / 'checkpoint') for folder in (run, tmp_path))
    assert len(whole) > 20
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert RunFolder(tmp_path).lines('sampling')[0]['asked'] == 16


def test_what_is_quoted_matters(toy_data: Path, run: Path, tmp_path: Path) -> None:
    file = fold_file(tmp_path, 1, 0)
    file.parent.mkdir()
    for fold in range(2):
        text = fold_file(run, 1, fold).read_text()
        fold_file(tmp_path, 1, fold).write_text(text)
    same = make_trainer(RECIPE, toy_data, tmp_path).train().state_dict()
    lines = read_sampled(file)
    for line in lines:
        line['rounds'][1] = [True, 'all is lost']
    for folder, told in ((tmp_path / 'other', lines), (tmp_path / 'less', lines[1:])):
        (folder / 'sampled').mkdir(parents=True)
        fold_file(folder, 1, 1).write_text(fold_file(run, 1, 1).read_text())
        fold_file(folder, 1, 0).write_text(''.join(json.dumps(line) + '\n' for line in told))
    other = make_trainer(RECIPE, toy_data, tmp_path / 'other').train().state_dict()
    assert any(not torch.equal(same[name], other[name]) for name in same)
    with pytest.raises(ArmorError, match=r'has 15 answers of models .* of 16; remove'):
        make_trainer(RECIPE, toy_data, tmp_path / 'less').train()


def test_each_pass_quotes_its_own_answers(toy_data: Path, tmp_path: Path) -> None:
    two = make_recipe({'kind': 'warmup'}, {'kind': 'online', 'rounds': 1, 'epochs': 2, 'folds': 2})
    plan = plan_phase(two, 1, [True])
    file = fold_file(tmp_path, 1, 0)
    file.parent.mkdir()
    said = [
        {'sample': 's', 'epoch': epoch, 'rounds': [[bool(epoch), f'pass {epoch}']]}
        for epoch in range(2)
    ]
    file.write_text(''.join(json.dumps(line) + '\n' for line in said))
    history = read_history(tmp_path, plan)
    told = [history('s', epoch)[0].explanation for epoch in range(3)]
    # a last batch may begin a third
    assert told == ['pass 0', 'pass 1', 'pass 0']


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(2, 4), st.integers(0, 3))
@settings(deadline=None)
def test_recordings_stay_whole(groups: list[int], folds: int, seed: int) -> None:
    sample = Sample(id='a', instruction='', views={'v': 'v'}, fps=5.0, frames=1, label='success')
    samples = [
        dataclasses.replace(sample, id=str(index), group=f'g{group}')
        for index, group in enumerate(groups)
    ]
    numbers = fold_numbers(samples, folds, seed)
    owners = dict(zip(groups, numbers, strict=True))
    assert [owners[group] for group in groups] == numbers
    sizes = [list(owners.values()).count(fold) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= 1
    kept = [without_fold(samples, DataRecipe(folds=folds, left_out=k, seed=seed))
            for k in range(folds)]  # fmt: skip
    count = Counter(sample.id for part in kept for sample in part)
    assert all(count[sample.id] == folds - 1 for sample in samples)


def test_each_seed_cuts_other_folds() -> None:
    base = Sample(id='a', instruction='', views={'v': 'v'}, fps=5.0, frames=1, label='success')
    samples = [dataclasses.replace(base, id=str(index)) for index in range(20)]
    assert len({tuple(fold_numbers(samples, 2, seed)) for seed in range(4)}) == 4


@pytest.mark.parametrize(
    ('phases', 'more', 'words'),
    [
        ([ONLINE], {}, 'folds is set in the first phase'),
        ([{'kind': 'warmup'}, ONLINE, ONLINE], {}, 'set more than once'),
        ([{'kind': 'warmup'}, ONLINE], {'data': {'folds': 2}}, 'set more than once'),
        ([{'kind': 'warmup', 'folds': 2}], {}, 'folds is 2, for online phases'),
        ([{'kind': 'warmup'}, ONLINE | {'folds': 1}], {}, 'folds is 1; give a number from 2'),
        ([{'kind': 'warmup'}], {'data': {'folds': 2, 'left_out': 2}}, 'left_out is 2; give a'),
    ],
)  # fmt: skip
def test_mistakes_are_named(
    phases: list[dict[str, Any]], more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ArmorError, match=words):
        make_recipe(*phases, **more)


def test_a_run_from_before_an_option_was_there_is_gone_on_with(
    toy_data: Path, tmp_path: Path
) -> None:
    recipe = make_recipe({'kind': 'warmup'})
    first = TrainingRequest(recipe, toy_data, tmp_path, tracker='none')
    checkpoint = train(first)
    noted = yaml.safe_load((tmp_path / 'recipe.yaml').read_text())
    for name in ('folds', 'verified', 'quoted_errors'):
        del noted['phases'][0][name]
    (tmp_path / 'recipe.yaml').write_text(yaml.safe_dump(noted))
    assert train(first) == checkpoint
