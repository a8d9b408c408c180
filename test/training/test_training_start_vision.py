# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from toy_training import make_model, make_recipe

from armor_ros.errors import ArmorError
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.recipe_files import recipe_text
from armor_ros.training.run import TrainingRequest, train
from armor_ros.training.run_folder import RunFolder

SEE = make_recipe({'kind': 'perception'})
ONLINE = {'kind': 'online', 'rounds': 2, 'max_new_tokens': 4, 'folds': 2, 'verified': 2}


def blind(vision: Path, *phases: dict[str, Any], **sizes: int) -> TrainingRecipe:
    """Return a recipe of random weights but for the tower of a checkpoint, which is frozen."""
    model = yaml.safe_load(recipe_text(SEE))['model']
    model['random'] |= {'vision': str(vision), **sizes}
    rates = {'learning_rate': 1e-3, 'vision_learning_rate': 0.0}
    return make_recipe(*phases, model=model, optimizer=rates)


@pytest.fixture(scope='module')
def seeing(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return train(TrainingRequest(SEE, toy_data, tmp_path_factory.mktemp('see'), tracker='none'))


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert list(one) == list(other)
    return [name for name in one if not torch.equal(one[name], other[name])]


def test_a_model_begins_with_a_tower_that_sees(toy_data: Path, seeing: Path) -> None:
    recipe = blind(seeing, {'kind': 'warmup'})
    tower = weights(load_checkpoint(seeing, dtype='float32').backbone.model.visual)
    model, random = make_model(recipe, toy_data), make_model(SEE, toy_data)
    assert differ(weights(model.backbone.model.visual), tower) == []
    assert differ(weights(random.backbone.model.visual), tower)
    assert differ(weights(model.head), weights(random.head)) == []
    language = [weights(own.backbone.model.language_model) for own in (model, random)]
    assert differ(*language) == []
    with pytest.raises(ArmorError, match=r'whose vision tower has other sizes than model\.random'):
        make_model(blind(seeing, {'kind': 'warmup'}, vision_hidden_size=64), toy_data)


def test_what_a_frozen_tower_sees_is_kept_for_folds_too(
    toy_data: Path, seeing: Path, tmp_path: Path
) -> None:
    recipe = blind(seeing, {'kind': 'warmup'}, ONLINE)
    request = TrainingRequest(
        recipe, toy_data, tmp_path / 'run', tracker='none', cache=tmp_path / 'cache'
    )
    found = load_checkpoint(train(request), dtype='float32')
    tower = weights(load_checkpoint(seeing, dtype='float32').backbone.model.visual)
    assert differ(weights(found.backbone.model.visual), tower) == []
    kept = [path.name for path in (tmp_path / 'cache').glob('tower-*')]
    assert len(kept) == 1
    sampling = RunFolder(tmp_path / 'run').lines('sampling')
    # eight answers of others, and five explanations that were asked for
    assert [line['asked'] for line in sampling] == [13]
    again = TrainingRequest(recipe, toy_data, tmp_path / 'again', tracker='none',
                            cache=tmp_path / 'cache')  # fmt: skip
    other = load_checkpoint(train(again), dtype='float32')
    assert differ(weights(found), weights(other)) == []
