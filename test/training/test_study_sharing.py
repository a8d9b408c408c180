# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from toy_training import make_recipe, smaller

from armor_ros.configuration import config_from_dict
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.recipe_files import recipe_digest, recipe_text
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


def test_where_shared_phases_are_kept_depends_on_what_recipes_say_alone() -> None:
    digests = {
        recipe_digest(recipe)
        for recipe in (
            ARMOR,
            PLAIN,
            smaller(ARMOR, seed=1),
            smaller(ARMOR, model=dataclasses.replace(ARMOR.model, quotes='other')),
            smaller(ARMOR, data=dataclasses.replace(ARMOR.data, dense=3)),
        )
    }
    assert len(digests) == 5
    # as noted by a version whose recipes said less: no quotes, and no rounds of a warm-up
    plain = yaml.safe_load(recipe_text(ARMOR))
    del plain['model']['quotes'], plain['phases'][1]['rounds'], plain['model']['config']['fps']
    assert recipe_digest(config_from_dict(TrainingRecipe, plain)) == recipe_digest(ARMOR)
    assert recipe_digest(ARMOR) == '2b78a9ef19a85253'
