# SPDX-License-Identifier: Apache-2.0
"""A trial says how the model does by itself: its likeliest answers from the clip, undisturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import make_recipe, make_trainer

from armor_ros.training.rollout import RolloutSettings
from armor_ros.training.schedule import plan_phase
from armor_ros.training.validation import Trial

SEEN = {'samples': 7, 'shown': 7}
# seven of the samples that are learned from, so that right and wrong never balance
SPLIT = {'cameras': ['front', 'wrist'], 'validation': 'train'}


@pytest.mark.parametrize(
    'phase',
    [{'kind': 'warmup'}, {'kind': 'online', 'rounds': 2, 'max_new_tokens': 6}],
    ids=['warmup', 'online'],
)
def test_what_is_shown_is_what_the_model_answers(
    toy_data: Path, tmp_path: Path, phase: dict[str, Any]
) -> None:
    trials: list[Trial] = []
    recipe = make_recipe({**phase, 'epochs': 3}, dropout=0.5, data=SPLIT, evaluation=SEEN)
    trainer = make_trainer(recipe, toy_data, tmp_path, on_trial=trials.append)
    assert trainer._validation is not None
    trainer.train()
    shown = trials[-1].shown
    data = {sample.id: sample for sample in trainer._validation.data}
    samples = [data[each.sample] for each in shown]
    # what the prompts of a round quote is the answer of the round before
    rounds = 1 + recipe.phases[0].rounds if phase['kind'] == 'online' else 2
    limit = recipe.phases[0].max_new_tokens
    answered = trainer.module.answer(
        [sample.clip for sample in samples],
        [sample.id for sample in samples],
        RolloutSettings(rounds, 0.0, limit, sample_label=False),
    )
    expected = {s.id: tuple(answers[1:]) for s, answers in zip(samples, answered, strict=True)}
    assert {each.sample: each.answers for each in shown} == expected
    right = [each.answers[0].failed == each.truth.failed for each in shown]
    assert trials[-1].accuracy == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize(
    'phase',
    [
        {'kind': 'warmup', 'conditioning': 'contrast'},
        {'kind': 'expert'},
        {'kind': 'expert', 'conditioning': 'mixed'},
        {'kind': 'expert', 'conditioning': 'contrast'},
        {'kind': 'online', 'rounds': 3, 'max_new_tokens': 6},
    ],
    ids=lambda phase: '-'.join(map(str, phase.values())),
)
def test_trials_ask_the_same_whatever_a_phase_quotes(
    toy_data: Path, tmp_path: Path, phase: dict[str, Any]
) -> None:
    trials: list[Trial] = []
    for kind in ({'kind': 'warmup'}, phase):
        # next to nothing is learned, so that all that could differ is what is asked
        recipe = make_recipe(
            {**kind, 'learning_rate': 1e-12, 'vision_learning_rate': 0.0},
            data=SPLIT,
            evaluation={'samples': 7},
        )
        output = tmp_path / kind['kind'] / str(len(kind))
        make_trainer(recipe, toy_data, output, on_trial=trials.append).train()
    first, other = trials[0], trials[-1]
    assert first.accuracy == other.accuracy
    assert first.detection == pytest.approx(other.detection, abs=1e-5)
    assert first.language == pytest.approx(other.language, abs=1e-5)


def test_a_trial_is_undisturbed_by_dropout(toy_data: Path, tmp_path: Path) -> None:
    trials: list[Trial] = []
    recipe = make_recipe({'kind': 'warmup'}, dropout=0.9, data=SPLIT, evaluation=SEEN)
    trainer = make_trainer(recipe, toy_data, tmp_path, on_trial=trials.append)
    validation, found = trainer._validation, []
    assert validation is not None
    trainer.train()
    for seed in range(3):
        torch.manual_seed(seed)
        trainer.module.train()
        found.append(validation.run(trainer.module, trainer.module, plan_phase(recipe, 0, []), 0))
        assert trainer.module.training
    assert found[0] == found[1] == found[2]
    assert found[0].detection == pytest.approx(trials[-1].detection, abs=1e-6)
