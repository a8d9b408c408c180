# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import make_recipe, make_trainer
from training_clips import make_clips

from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.training import trainer
from armor_ros.training.conditioning import Truth
from armor_ros.training.reading import ReadAhead
from armor_ros.training.rollout import RolloutSettings, propose
from armor_ros.training.sampled import SamplingReport, explanations_file
from armor_ros.training.schedule import PhasePlan
from armor_ros.training.trainer import Interrupted
from armor_ros.training.verification import verdict_of

# Long enough that some texts are those of the three explained samples.
LEARNED = [{'kind': 'warmup', 'epochs': 20, 'learning_rate': 3e-3}]
VERIFIED = {'kind': 'warmup', 'verified': 4, 'max_new_tokens': 14}
RECIPE = make_recipe(*LEARNED, VERIFIED, dropout=0.0)
STEPS = 40


def test_the_first_accepted_text_is_taken(model: ArmorModel) -> None:
    clips, names = make_clips(model), ('a', 'b', 'c')
    options = RolloutSettings(max_new_tokens=6)
    heard: list[tuple[int, str]] = []

    def third(place: int, text: str) -> bool:
        heard.append((place, text))
        return place != 1 and sum(own == place for own, _ in heard) == 3

    found = propose(model, clips, names, third, 4, options)
    texts = [[text for own, text in heard if own == place] for place in range(3)]
    assert [len(own) for own in texts] == [3, 4, 3]
    assert found == [texts[0][2], '', texts[2][2]]
    assert len({text for own in texts for text in own}) > 6
    # in other company, and with a model that was training
    model.train()
    alone = propose(model, clips[2:], names[2:], lambda _, text: text == texts[2][2], 4, options)
    assert alone == found[2:]
    assert model.training
    heard.clear()
    assert propose(model, clips, names, lambda *said: bool(said), 4, options) == [
        own[0] for own in texts
    ]


def trained(data: Path, output: Path, **options: Any) -> dict[str, torch.Tensor]:
    model = make_trainer(RECIPE, data, output, **options).train()
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture(scope='module')
def uninterrupted(
    toy_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, torch.Tensor], list[SamplingReport]]:
    torch.set_num_threads(1)
    output, reports = tmp_path_factory.mktemp('verified'), []
    return output, trained(toy_data, output, on_sampling=reports.append), reports


def test_a_phase_learns_from_verified_explanations(
    toy_data: Path,
    uninterrupted: tuple[Path, dict[str, torch.Tensor], list[SamplingReport]],
    tmp_path: Path,
) -> None:
    output, weights, reports = uninterrupted
    file = explanations_file(output, 1)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line['sample'] for line in lines] == ['s2', 's3', 's4', 's6', 's7']
    kept = [line for line in lines if line['explanation']]
    slipped = Truth(True, 'the can slipped out of the gripper')
    verdict = verdict_of([slipped, slipped, Truth(False, 'the can is on the shelf')])
    for line in kept:
        failed = line['sample'] in ('s3', 's7')
        assert verdict.agrees(line['explanation'], failed)
    assert kept
    assert [(r.phase, r.asked, r.kept) for r in reports] == [(1, 5, len(kept))]
    assert reports[0].seconds > 0
    plain = make_trainer(
        make_recipe(*LEARNED, VERIFIED | {'verified': 0}, dropout=0.0), toy_data, tmp_path
    )
    other = plain.train().state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in weights.items())


def test_what_was_sampled_counts_as_explained_where_batches_are_made(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[PhasePlan] = []

    class Noting(ReadAhead):
        def __init__(self, data: Any, plan: PhasePlan, *place: int) -> None:
            plans.append(plan)
            super().__init__(data, plan, *place)

    monkeypatch.setattr(trainer, 'ReadAhead', Noting)
    found = {'s2': 'it fell', 's3': '', 's4': 'it stands', 's6': '', 's7': ''}
    monkeypatch.setattr(trainer, 'verified_explanations', lambda *_: found)
    recipe = make_recipe(VERIFIED, dropout=0.0)
    made = make_trainer(recipe, toy_data, tmp_path)
    made.train()
    assert plans[0].dense == (True, True, True, False, True, True, False, False)


def test_each_seed_samples_others(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[set[str]] = []
    for seed in (0, 1):
        recipe = dataclasses.replace(make_recipe(VERIFIED, dropout=0.0), seed=seed)
        made = make_trainer(recipe, toy_data, tmp_path / str(seed))
        own: set[str] = set()

        def propose(clips: Any, asked: list[str], *_: Any, own: set[str] = own) -> list[str]:
            own.update(asked)
            return [''] * len(asked)

        monkeypatch.setattr(made.module, 'propose', propose)
        made.train()
        names.append(own)
    assert len(names[0]) == len(names[1]) == 5
    assert not names[0] & names[1]


def test_an_interrupted_run_samples_nothing_twice(
    toy_data: Path,
    uninterrupted: tuple[Path, dict[str, torch.Tensor], list[SamplingReport]],
    tmp_path: Path,
) -> None:
    whole, weights, _ = uninterrupted
    file = explanations_file(tmp_path, 1)

    def stopping_after(count: int) -> Any:
        calls: list[None] = []
        return lambda: calls.append(None) or len(calls) == count

    with pytest.raises(Interrupted):
        trained(toy_data, tmp_path, should_stop=stopping_after(STEPS + 1))
    first = file.read_text()
    assert first.count('\n') == 2
    # a line that a crash has cut off is asked for again
    file.write_text(first + '{"sample": "s4", "expl')
    with pytest.raises(Interrupted):
        # after the other two turns and a step
        trained(toy_data, tmp_path, should_stop=stopping_after(3))
    assert file.read_text() == explanations_file(whole, 1).read_text()
    moved = file.rename(tmp_path / 'elsewhere')
    with pytest.raises(ArmorError, match=r'phase-1-explanations.jsonl is missing, from which'):
        trained(toy_data, tmp_path)
    moved.rename(file)
    reports: list[SamplingReport] = []
    found = trained(toy_data, tmp_path, on_sampling=reports.append)
    assert reports == []
    assert [name for name, value in weights.items() if not torch.equal(value, found[name])] == []


@pytest.mark.parametrize(
    ('phase', 'words'),
    [
        ({'kind': 'sft', 'verified': 2}, 'phase sft: verified is 2, for phases of all samples'),
        ({'kind': 'warmup', 'verified': 2, 'only_dense': True}, 'only_dense false'),
        ({'kind': 'warmup', 'verified': -1}, 'verified is -1; give a number from 0'),
        ({'kind': 'warmup', 'quoted_errors': 1.5}, 'quoted_errors is 1.5; give a number from 0'),
    ],
)
def test_mistakes_are_named(phase: dict[str, Any], words: str) -> None:
    with pytest.raises(ArmorError, match=words):
        make_recipe(phase)
