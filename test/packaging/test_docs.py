# SPDX-License-Identifier: Apache-2.0
"""The pages name everything that they promise a list of, and their files are what they say."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from armor_ros.datasets.detect import FORMATS
from armor_ros.datasets.manifest import Sample, sample_from_line
from armor_ros.parameters_file import read_parameters
from armor_ros.simulation.recipe import read_recipe
from armor_ros.training.recipe_files import read_training_recipe
from armor_ros.training.study import USUAL_WAYS, WAYS, read_study

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (ROOT / 'docs' / name).read_text(encoding='utf-8')


def block(text: str, beginning: str, language: str) -> str:
    """Return the block of code of a language that begins so."""
    (found,) = re.findall(rf'```{language}\n({re.escape(beginning)}.*?)```', text, re.DOTALL)
    return str(found)


def test_every_field_of_the_manifest_is_explained() -> None:
    text = page('datasets.md')
    rows = re.findall(r'^\| (`.*?) \|', text, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r'`(\w+)`', row)}
    assert {field.name for field in dataclasses.fields(Sample)} <= named
    example = block(text, '{"id"', 'json')
    assert sample_from_line(example, 'the example').dense
    needed = set(json.loads(example)) - {'explanation', 'split'}
    required = {
        field.name
        for field in dataclasses.fields(Sample)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    assert needed == required
    assert all(name in text.partition('and says more with')[0] for name in required)


@pytest.mark.parametrize('name', [name for name in FORMATS if name != 'manifest'])
def test_every_option_of_a_format_is_explained(name: str) -> None:
    (row,) = re.findall(rf'^\| `{name}`.*$', page('datasets.md'), re.MULTILINE)
    for field in dataclasses.fields(FORMATS[name].options):
        assert f'`{field.name}`' in row


def test_the_study_of_the_page_is_one(tmp_path: Path) -> None:
    text = page('training.md')
    file = tmp_path / 'mystudy.yaml'
    file.write_text(block(text, '# mystudy.yaml', 'yaml'))
    study, recipes = read_study(file)
    assert set(recipes) == {'plain', 'quoted', 'equal-compute'}
    assert study.recipe('refined').trained_as == 'plain'
    described = text.partition('### A study of your own')[2]
    for way in {*WAYS, *USUAL_WAYS} - {'agreeing_0', 'consensus_0'}:
        assert f'`{way}`' in described


@pytest.mark.parametrize('name', ['training.md', 'flywheel.md'])
def test_the_recipe_of_a_page_is_one(tmp_path: Path, name: str) -> None:
    file = tmp_path / 'robot.yaml'
    file.write_text(block(page(name), '# robot.yaml', 'yaml'))
    recipe = read_training_recipe(file)
    assert [phase.kind for phase in recipe.phases] == ['warmup', 'expert', 'online']


def test_the_parameters_of_the_loop_name_the_cameras_of_its_robot(tmp_path: Path) -> None:
    file = tmp_path / 'monitor.yaml'
    file.write_text(block(page('flywheel.md'), '# monitor.yaml', 'yaml'))
    cameras = read_parameters(file)['cameras']
    assert isinstance(cameras, list)
    assert [camera.partition('=')[0] for camera in cameras] == list(read_recipe('robot').views)
