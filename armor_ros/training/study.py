# SPDX-License-Identifier: Apache-2.0
"""A study: recipes that differ from one base in a few values, read from YAML and checked."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from armor_ros.configuration import config_from_dict, read_yaml_config
from armor_ros.errors import ArmorError
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.recipe_files import read_training_recipe, recipe_text

# How a trained model is asked: see ``armor_ros.training.study_answers``.
Way = Literal[
    'single', 'round_0', 'agreeing_0', 'consensus_0', 'last', 'best', 'likeliest', 'agreeing',
    'consensus', 'written', 'made_to_think',
]  # fmt: skip
WAYS: tuple[Way, ...] = (
    'single', 'round_0', 'agreeing_0', 'consensus_0', 'last', 'best', 'likeliest', 'agreeing',
    'consensus',
)  # fmt: skip
# Those of a recipe that names none.
USUAL_WAYS: tuple[Way, ...] = ('single', 'round_0', 'last', 'best', 'likeliest')
SFT_WAYS: tuple[Way, ...] = ('written', 'made_to_think')

_EPOCHS_APART = 1e-6
_FOLDER_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._+-]*')


@dataclass(frozen=True, slots=True)
class StudyRecipe:
    """
    One recipe of a study.

    ``changes`` are values that differ from the base recipe, by dotted key: ``data.dense``,
    ``phases.1.epochs``, or ``phases`` whole. With ``trained_as`` nothing is trained: it is the
    model of that recipe, asked in other ways. ``compute_of`` lengthens the last phase until
    training takes as much computation as that recipe's. ``ways`` are those of which the table
    has a row, the usual ones when empty. ``reference`` is what its answers are compared with, the
    study's when empty.
    """

    name: str
    about: str = ''
    changes: dict[str, Any] = field(default_factory=dict)
    trained_as: str = ''
    compute_of: str = ''
    ways: tuple[Way, ...] = ()
    reference: str = ''

    def __post_init__(self) -> None:
        if not _FOLDER_NAME.fullmatch(self.name):
            raise ArmorError(
                f'a recipe is named {self.name!r}; use letters, digits, "-", "_", "+" and "."'
            )
        if self.trained_as and (self.changes or self.compute_of):
            raise ArmorError(
                f'{self.name} is trained as {self.trained_as}; leave its changes and compute_of '
                'out, or trained_as'
            )


@dataclass(frozen=True, slots=True)
class StudyEvaluation:
    """
    How models are evaluated: on which ``splits``, and with which settings of Algorithm 2.

    ``samples`` bounds how many of each split (0: all), by whole recordings.
    ``sft_tokens`` is the most that a fine-tuned model writes. Up to ``probes`` samples of each
    split show whether the heads listen to each other (see ``study_probes``; 0: none).
    """

    splits: tuple[str, ...] = ('test_seen',)
    samples: int = 0
    rounds: int = 4
    trajectories: int = 3
    temperature: float = 0.7
    max_new_tokens: int = 80
    sft_tokens: int = 120
    probes: int = 200

    def __post_init__(self) -> None:
        if not self.splits:
            raise ArmorError('evaluation.splits is empty; name at least one, such as test_seen')
        for name in ('rounds', 'trajectories', 'max_new_tokens', 'sft_tokens'):
            if getattr(self, name) < 1:
                raise ArmorError(f'evaluation.{name} is {getattr(self, name)}; give at least 1')
        if self.samples < 0:
            raise ArmorError(f'evaluation.samples is {self.samples}; give 0 for all, or more')
        if self.probes < 0:
            raise ArmorError(f'evaluation.probes is {self.probes}; give 0 for none, or more')


@dataclass(frozen=True, slots=True)
class Study:
    """
    Recipes to compare.

    ``base`` is a recipe by name or path (relative to the study's file), ``changes`` are made to it
    for all. ``reference`` is the recipe whose answers the others' are subtracted from, task by
    task. ``step_costs`` says how many plain steps a step of a kind of phase costs, where that is
    not to be measured, and ``sampling`` in it all that is sampled before phases; see
    ``compute_of``. All recipes must have the same total of epochs, but
    those of equal compute; the vision tower's own phase (perception) counts too.
    """

    base: str
    recipes: tuple[StudyRecipe, ...]
    name: str = ''
    about: str = ''
    changes: dict[str, Any] = field(default_factory=dict)
    evaluation: StudyEvaluation = field(default_factory=StudyEvaluation)
    reference: str = ''
    equal_epochs: bool = True
    step_costs: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.recipes:
            raise ArmorError('recipes is empty; name at least one')
        names = [recipe.name for recipe in self.recipes]
        for name in names:
            if names.count(name) > 1:
                raise ArmorError(f'{names.count(name)} recipes are named {name!r}; rename them')
        for recipe in self.recipes:
            for other in (recipe.trained_as, recipe.compute_of):
                if other:
                    self._check_other(recipe, other)
        for name in (self.reference, *(recipe.reference for recipe in self.recipes)):
            if name:
                self.recipe(name)

    def _check_other(self, recipe: StudyRecipe, name: str) -> None:
        other = self.recipe(name)
        if other is recipe or other.trained_as or other.compute_of:
            raise ArmorError(
                f'{recipe.name} refers to {name}, which is not trained by itself; refer to one '
                'that is'
            )

    def reference_of(self, recipe: StudyRecipe) -> str:
        """Return the name of the recipe that another's answers are compared with, or ''."""
        return recipe.reference or self.reference

    def recipe(self, name: str) -> StudyRecipe:
        """Return a recipe by name; raises ArmorError that lists them."""
        for recipe in self.recipes:
            if recipe.name == name:
                return recipe
        known = ', '.join(recipe.name for recipe in self.recipes)
        raise ArmorError(f'the study has no recipe {name!r}; its recipes: {known}')


def read_study(name: str | Path, start: str = '') -> tuple[Study, dict[str, TrainingRecipe]]:
    """
    Read a study by its file, or by the name of one in ``config/training/study`` ('ablations').

    Returns it with the recipe of each name, of seed 0; see ``with_seed``. ``start`` is a
    checkpoint from which all of them train, in place of the study's own start. Raises ArmorError
    naming the file and the mistake.
    """
    path = find_study(name)
    study = read_yaml_config(Study, path)
    if not study.name:
        study = dataclasses.replace(study, name=path.stem)
    if start:
        changes = {**study.changes, 'model.checkpoint': start, 'model.random': None}
        study = dataclasses.replace(study, changes=changes)
    beside = path.parent / study.base
    base = read_training_recipe(beside if beside.is_file() else study.base)
    try:
        return study, study_recipes(study, base)
    except ArmorError as error:
        raise ArmorError(f'{path}: {error}') from error


def find_study(name: str | Path) -> Path:
    """Return the file of a study given by path or name; ArmorError lists the known names."""
    if Path(name).suffix or Path(name).is_file():
        return Path(name)
    folders = [Path(__file__).parents[2] / 'config' / 'training' / 'study']
    prefixes = [*os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix]
    share = Path('share', 'armor_ros', 'config', 'training', 'study')
    folders += [Path(prefix) / share for prefix in prefixes if prefix]
    known: set[str] = set()
    for folder in folders:
        if (folder / f'{name}.yaml').is_file():
            return folder / f'{name}.yaml'
        known |= {path.stem for path in folder.glob('*.yaml')}
    listed = ', '.join(sorted(known)) or 'none'
    raise ArmorError(f'no study {str(name)!r}; give a YAML file, or one of these names: {listed}')


def study_recipes(study: Study, base: TrainingRecipe) -> dict[str, TrainingRecipe]:
    """
    Return the training recipe of each name that is trained.

    Raises ArmorError when a key is unknown, a value is wrong, or epochs differ.
    """
    recipes = {}
    for entry in study.recipes:
        if entry.trained_as:
            continue
        try:
            recipe = changed(base, study.changes | entry.changes)
        except ArmorError as error:
            raise ArmorError(f'{entry.name}: {error}') from error
        recipes[entry.name] = dataclasses.replace(recipe, name=entry.name)
    for entry in study.recipes:
        ways_of(entry, recipes[entry.trained_as or entry.name])
    if study.equal_epochs:
        _check_epochs(study, recipes)
    return recipes


def changed(recipe: TrainingRecipe, changes: dict[str, Any]) -> TrainingRecipe:
    """
    Return a recipe with other values by dotted key, those of a list by number from 0.

    Raises ArmorError for an unknown key, naming the nearest, and for a wrong value.
    """
    plain = yaml.safe_load(recipe_text(recipe))
    for key, value in changes.items():
        place: Any = plain
        *parents, last = key.split('.')
        for name in parents:
            place = _inside(place, name, key)
        if isinstance(place, list):
            place[_index(place, last, key)] = value
        else:
            place[last] = value
    return config_from_dict(TrainingRecipe, plain)


def with_seed(recipe: TrainingRecipe, seed: int) -> TrainingRecipe:
    """
    Return a recipe of another seed: other first weights and batches, and another part of the data.

    Which samples are explained is then the same for all recipes of a seed.
    """
    data = dataclasses.replace(recipe.data, seed=seed)
    return dataclasses.replace(recipe, seed=seed, data=data)


def is_sft(recipe: TrainingRecipe) -> bool:
    """Tell whether a recipe ends in one text with both answers."""
    return recipe.phases[-1].kind == 'sft'


def ways_of(entry: StudyRecipe, recipe: TrainingRecipe) -> tuple[Way, ...]:
    """Return the ways in which a recipe's model is asked; ArmorError when it cannot be so."""
    possible, usual = (SFT_WAYS, SFT_WAYS) if is_sft(recipe) else (WAYS, USUAL_WAYS)
    wrong = [way for way in entry.ways if way not in possible]
    if wrong:
        raise ArmorError(
            f'{entry.name} cannot be asked the way {wrong[0]!r}; choose from {", ".join(possible)}'
        )
    return entry.ways or usual


def _inside(place: Any, name: str, key: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, name, key)]
    if name not in place:
        raise ArmorError(f'unknown key {key!r}; there is no {name!r}, but {", ".join(place)}')
    if place[name] is None:
        place[name] = {}
    if not isinstance(place[name], (dict, list)):
        raise ArmorError(f'unknown key {key!r}; {name!r} has no parts')
    return place[name]


def _index(place: list[Any], name: str, key: str) -> int:
    if not name.isdecimal() or int(name) >= len(place):
        raise ArmorError(f'{key!r}: {name!r} is none of the {len(place)} places, from 0 on')
    return int(name)


def _check_epochs(study: Study, recipes: dict[str, TrainingRecipe]) -> None:
    first: dict[str, tuple[str, float]] = {}
    for entry in study.recipes:
        if entry.name not in recipes or entry.compute_of:
            continue
        total = sum(phase.epochs for phase in recipes[entry.name].phases)
        name, epochs = first.setdefault(study.reference_of(entry), (entry.name, total))
        if abs(total - epochs) > _EPOCHS_APART:
            raise ArmorError(
                f'{name} has {epochs:g} epochs and {entry.name} {total:g}; give all recipes with '
                'one reference as many, or set equal_epochs to false'
            )
