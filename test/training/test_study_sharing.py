# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from toy_training import make_recipe, smaller

from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.run import TrainingRequest, train
from armor_ros.training.study_sharing import shared_part, train_sharing

SEE = {'kind': 'perception', 'epochs': 1}
WARM = {'kind': 'warmup', 'epochs': 1, 'auxiliary': 0.5}
ONLINE = {'kind': 'online', 'epochs': 1, 'rounds': 2, 'max_new_tokens': 4}
PLAIN = smaller(make_recipe(SEE, WARM, WARM), name='plain')
ARMOR = smaller(make_recipe(SEE, WARM, ONLINE), name='armor')
SFT = smaller(make_recipe(SEE, {'kind': 'sft'}), name='sft')


def weights_in(checkpoint: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(checkpoint.glob('*.safetensors')):
        found |= {f'{file.name}/{name}': value for name, value in load_file(file).items()}
    return found


def test_what_is_shared_is_trained_once_and_changes_no_bit(toy_data: Path, tmp_path: Path) -> None:
    trained: list[tuple[str, int]] = []

    def teach(recipe: TrainingRecipe, folder: Path) -> Path:
        if not (folder / 'checkpoint').is_dir():
            trained.append((recipe.name, len(recipe.phases)))
        return train(TrainingRequest(recipe, toy_data, folder, tracker='none', check=False))

    recipes = (SFT, PLAIN, ARMOR)
    shared = tmp_path / 'shared'
    checkpoints = [
        train_sharing(recipe, tmp_path / recipe.name, recipes, shared, teach) for recipe in recipes
    ]
    assert trained == [('shared', 1), ('sft', 2), ('shared', 2), ('plain', 3), ('armor', 3)]
    alone = weights_in(teach(ARMOR, tmp_path / 'alone'))
    found = weights_in(checkpoints[2])
    assert len(found) > 20
    assert [name for name in alone if not torch.equal(alone[name], found[name])] == []
    # the log tells of all steps, as that of a run by itself does
    steps = [
        [(line['phase'], line['step']) for line in map(json.loads, log.read_text().splitlines())]
        for log in (tmp_path / name / 'training.jsonl' for name in ('armor', 'alone'))
    ]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 6


def test_what_is_shared() -> None:
    recipes = (SFT, PLAIN, ARMOR)
    first = shared_part(ARMOR, recipes)
    assert first is not None
    assert first.phases == ARMOR.phases[:2]
    again = shared_part(first, recipes)
    assert again is not None
    assert again.phases == ARMOR.phases[:1]
    assert shared_part(again, recipes) is None
    assert shared_part(ARMOR, [ARMOR]) is None
    # quoting less begins with the first prompt that may quote both answers
    masked = smaller(ARMOR, model=dataclasses.replace(ARMOR.model, quotes='other'))
    for recipe, others in ((masked, [ARMOR]), (ARMOR, [masked]), (masked, recipes)):
        assert shared_part(recipe, others) == first
    longer = smaller(masked, phases=(*masked.phases, masked.phases[-1]))
    assert shared_part(longer, [ARMOR]) == first
    assert shared_part(longer, [masked]) == smaller(masked, name='shared')
    # of another seed, and of a model without a head for the state
    assert shared_part(ARMOR, [smaller(PLAIN, seed=1)]) is None
    stateless = make_recipe({'kind': 'warmup'}, {'kind': 'expert'})
    assert shared_part(stateless, [make_recipe({'kind': 'warmup'}, WARM)]) is None
