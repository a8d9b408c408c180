# SPDX-License-Identifier: Apache-2.0
"""Recipes as YAML: found by path or by name, read, and written whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from armor_ros.configuration import read_yaml_config
from armor_ros.errors import ArmorError
from armor_ros.training.recipe import TrainingRecipe


def read_training_recipe(name: str | Path) -> TrainingRecipe:
    """
    Read a recipe by its file, or by the name of one in ``config/training`` ('smoke').

    Without a name of its own it has its file's. Raises ArmorError naming the file and the mistake.
    """
    path = find_training_recipe(name)
    recipe = read_yaml_config(TrainingRecipe, path)
    return recipe if recipe.name else dataclasses.replace(recipe, name=path.stem)


def find_training_recipe(name: str | Path) -> Path:
    """Return the file of a recipe given by path or name; ArmorError lists the known names."""
    if Path(name).suffix or Path(name).is_file():
        return Path(name)
    folders = [Path(__file__).parents[2] / 'config' / 'training']
    prefixes = [*os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix]
    folders += [Path(p, 'share', 'armor_ros', 'config', 'training') for p in prefixes if p]
    known: set[str] = set()
    for folder in folders:
        if (folder / f'{name}.yaml').is_file():
            return folder / f'{name}.yaml'
        known |= {path.stem for path in folder.glob('*.yaml')}
    listed = ', '.join(sorted(known)) or 'none'
    raise ArmorError(f'no recipe {str(name)!r}; give a YAML file, or one of these names: {listed}')


def recipe_text(recipe: TrainingRecipe) -> str:
    """Return a recipe as YAML with every field, defaults included."""
    plain = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def recipe_digest(recipe: TrainingRecipe) -> str:
    """
    Return what tells recipes apart: a hash of all that is not as it is by default.

    So it stays as it is when recipes learn to say more.
    """
    said = json.dumps(_said(recipe), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _said(value: Any) -> Any:
    """Return a value of a recipe without the fields that have their defaults."""
    if isinstance(value, (list, tuple)):
        return [_said(each) for each in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = {field.name: field for field in dataclasses.fields(value)}
    return {
        name: _said(getattr(value, name))
        for name, field in fields.items()
        if getattr(value, name) != _default(field)
    }


def _default(field: dataclasses.Field[Any]) -> Any:
    """Return what a field is by default; MISSING, which nothing equals, where it is required."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()
