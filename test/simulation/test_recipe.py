# SPDX-License-Identifier: Apache-2.0
"""Recipes: the shipped ones are good, and mistakes are refused with the nearest known name."""

from __future__ import annotations

from pathlib import Path

import pytest

from armor_ros.configuration import config_from_yaml
from armor_ros.errors import ArmorError
from armor_ros.simulation.recipe import (
    Recipe,
    all_modes,
    find_recipe,
    read_recipe,
    recipe_to_yaml,
)

SHIPPED = sorted((Path(__file__).parents[2] / 'config' / 'simulation').glob('*.yaml'))
ONE = 'splits: {train: {episodes: 4}}\n'


def parse(text: str) -> Recipe:
    return config_from_yaml(Recipe, text, 'x.yaml')


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_good(path: Path) -> None:
    recipe = read_recipe(path)
    # studies are filmed in half the time
    assert recipe.fps == (1.25 if path.stem == 'study' else 5.0)
    assert read_recipe(path.stem) == recipe
    assert parse(recipe_to_yaml(recipe)) == recipe


def test_smoke_and_benchmark_are_shipped() -> None:
    assert {'smoke', 'benchmark'} <= {path.stem for path in SHIPPED}


def test_defaults_are_those_of_the_paper() -> None:
    recipe = parse(ONE)
    assert (recipe.fps, recipe.size) == (5.0, 320)
    assert recipe.views == ('front', 'wrist', 'overhead')
    assert recipe.formats == ('manifest',)
    assert recipe.splits['train'].success == 0.5


def test_held_out_modes_are_in_no_split_that_does_not_name_them() -> None:
    recipe = parse(
        'held_out_modes: [slip]\n'
        'splits: {train: {episodes: 2}, unseen_failure: {episodes: 2, modes: {slip: 1}}}\n'
    )
    assert 'slip' not in recipe.modes_of('train', 'transport')
    assert 'wrong_object' in recipe.modes_of('train', 'transport')
    assert recipe.modes_of('unseen_failure', 'transport') == {'slip': 1.0}


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('sead: 1\n' + ONE, "unknown key 'sead'; did you mean 'seed'?"),
        ('', "'splits' is missing"),
        ('splits: {}', 'splits is empty'),
        ('splits: {train: {episode: 4}}', "did you mean 'splits.train.episodes'?"),
        ('splits: {train: {episodes: 0}}', 'splits.train.episodes is 0'),
        ('splits: {train: {episodes: many}}', "splits.train.episodes is 'many'"),
        ('splits: {"../x": {episodes: 1}}', 'letters, digits and _'),
        ('splits: {"a-b": {episodes: 1}}', 'letters, digits and _'),
        ('splits: {train: {episodes: 4, success: 1.5}}', 'splits.train.success is 1.5'),
        ('splits: {train: {episodes: 4, dense: .nan}}', 'splits.train.dense is nan'),
        ('splits: {train: {episodes: 4, noise: {false_succes: 0.1}}}', 'false_success'),
        ('splits: {train: {episodes: 4, noise: {false_success: 2}}}', 'from 0.0 to 1.0'),
        ('splits: {train: {episodes: 4, modes: {slipp: 1}}}', "did you mean 'slip'?"),
        ('splits: {train: {episodes: 4, modes: {nominal: 1}}}', 'set by success'),
        ('splits: {train: {episodes: 4, modes: {slip: 0}}}', 'splits.train.modes.slip is 0.0'),
        ('splits: {train: {episodes: 4, tasks: {transprot: 1}}}', "did you mean 'transport'?"),
        ('splits: {train: {episodes: 4, domain: unseen_object}}', "'unseen_objects'"),
        ('held_out_modes: [sleep]\n' + ONE, 'held_out_modes names'),
        (
            'held_out_modes: [slip]\nsplits: {train: {episodes: 4, modes: {slip: 1}}}',
            "names the mode 'slip', which is held out",
        ),
        ('fps: 0\n' + ONE, 'fps is 0.0'),
        ('size: 321\n' + ONE, 'even'),
        ('size: 5000\n' + ONE, '5000'),
        ('bag_rate: 500\n' + ONE, '500'),
        ('views: [front, side]\n' + ONE, "views names 'side'"),
        ('views: []\n' + ONE, 'at least one'),
        ('views: [front, front]\n' + ONE, 'twice'),
        ('formats: [audit, manifest]\n' + ONE, 'audit and manifest'),
        ('formats: [mp4]\n' + ONE, "formats[0] is 'mp4'; it must be one of manifest"),
        ('style: poem\n' + ONE, "style is 'poem'"),
        ('attempts: 0\n' + ONE, 'attempts is 0'),
    ],
)
def test_mistakes_are_refused(text: str, words: str) -> None:
    with pytest.raises(ArmorError) as caught:
        parse(text)
    assert words in str(caught.value)


def test_a_recipe_without_any_mode_left_is_refused() -> None:
    held_out = ', '.join(mode for mode in all_modes() if mode != 'nominal')
    with pytest.raises(ArmorError, match='no task left'):
        parse(f'held_out_modes: [{held_out}]\n{ONE}')
    with pytest.raises(ArmorError, match="no mode is left for the task 'transport'"):
        parse(
            f'held_out_modes: [{held_out}]\n'
            'splits: {train: {episodes: 4, tasks: {transport: 1}}}'
        )


def test_unknown_recipes_are_answered_with_the_known(tmp_path: Path) -> None:
    with pytest.raises(ArmorError, match=r"no recipe 'smoke_and_mirrors'.*smoke"):
        find_recipe('smoke_and_mirrors')
    with pytest.raises(ArmorError, match=r'none\.yaml'):
        read_recipe(tmp_path / 'none.yaml')
