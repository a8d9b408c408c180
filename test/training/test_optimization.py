# SPDX-License-Identifier: Apache-2.0
"""Which weights learn, how fast, and what each loss counts for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy_training import make_model, make_recipe, make_trainer

from armor_ros.training.optimization import make_optimizer
from armor_ros.training.recipe import OptimizerRecipe
from armor_ros.training.steps import TrainingModule


def test_matrices_decay_and_the_tower_has_a_rate_of_its_own(toy_data: Path) -> None:
    module = TrainingModule(make_model(make_recipe(), toy_data))
    optimizer, rates = make_optimizer(module, OptimizerRecipe(weight_decay=0.3), (1e-3, 1e-5))
    assert rates == [group['lr'] for group in optimizer.param_groups]
    found = {
        id(weight): (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for weight in group['params']
    }
    for name, weight in module.named_parameters():
        rate = 1e-5 if '.visual.' in name else 1e-3
        assert found.pop(id(weight)) == (rate, 0.3 if weight.ndim > 1 else 0.0), name
    assert not found


def test_each_step_follows_both_rates(toy_data: Path, tmp_path: Path) -> None:
    recipe = make_recipe({'kind': 'warmup', 'vision_learning_rate': 1e-9})
    before = {k: v.clone() for k, v in make_model(recipe, toy_data).named_parameters()}
    after = dict(make_trainer(recipe, toy_data, tmp_path).train().named_parameters())
    moved = {name: float((after[name] - before[name]).detach().abs().max()) for name in after}
    assert 0 < max(far for name, far in moved.items() if '.visual.' in name) < 1e-7
    assert max(far for name, far in moved.items() if '.visual.' not in name) > 1e-4


@pytest.mark.parametrize('kind', ['warmup', 'online'])
def test_explanations_may_count_for_nothing(toy_data: Path, tmp_path: Path, kind: str) -> None:
    recipe = make_recipe(
        {'kind': kind, 'rounds': 2, 'max_new_tokens': 4},
        language_weight=0.0,
        optimizer={'learning_rate': 1e-3, 'vision_learning_rate': 0.0, 'weight_decay': 0.0},
    )
    before = {k: v.clone() for k, v in make_model(recipe, toy_data).named_parameters()}
    after = make_trainer(recipe, toy_data, tmp_path).train().named_parameters()
    changed = {name for name, weight in after if not torch.equal(weight, before[name])}
    # the fifth layer is behind those that the detection reads
    assert any('layers.3.' in name for name in changed)
    assert not any('layers.4.' in name for name in changed)


def test_a_step_of_rounds_is_their_sum(toy_data: Path, tmp_path: Path) -> None:
    """Beside the loss on the state, which is asked once: of one round and the same twice."""
    shares = []
    for rounds in (1, 2):
        phase = {'kind': 'online', 'rounds': rounds, 'max_new_tokens': 4, 'auxiliary': 0.5}
        trainer = make_trainer(make_recipe(phase, dropout=0.0), toy_data, tmp_path / str(rounds))
        stepper: list[tuple[float, float, float]] = []
        made = trainer._stepper

        def noting(*args: object, made=made, stepper=stepper) -> object:  # type: ignore[no-untyped-def]
            own = made(*args)
            stepper.append(own._weights)
            return own

        trainer._stepper = noting  # type: ignore[method-assign]
        trainer.train()
        shares.append(stepper[0])
    assert shares == [(1, 1.0, 0.5), (2, 2.0, 0.5)]
