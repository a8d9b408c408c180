# SPDX-License-Identifier: Apache-2.0
"""The model card tells how sure its figures are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from toy_training import make_recipe

from armor_ros.training.card import model_card
from armor_ros.training.run_folder import DataFacts

FACTS = DataFacts(
    name='toy',
    manifest_sha256='0' * 64,
    samples=8,
    dense=3,
    labels={'failure': 4, 'success': 4},
    tasks={'tidy': 8},
    sources={'drawing': 8},
    validation=12,
)
TRIAL = {'samples': 10, 'detection': 0.5, 'accuracy': 0.8, 'language': 1.25, 'auxiliary': None}


def card(*trials: dict[str, Any]) -> str:
    return model_card(make_recipe({'kind': 'warmup'}), FACTS, [], trials, 'float32')


@pytest.mark.parametrize(
    ('accuracy', 'samples', 'told'),
    # by hand from Wilson's formula, z = 1.959964
    [
        (0.8, 10, '0.800 [0.490, 0.943]'),
        (0.0, 10, '0.000 [0.000, 0.278]'),
        (1.0, 1, '1.000 [0.207, 1.000]'),
    ],
)
def test_the_accuracy_has_its_interval(accuracy: float, samples: int, told: str) -> None:
    text = card(TRIAL, {**TRIAL, 'accuracy': accuracy, 'samples': samples})
    assert f'| accuracy | {told} |' in text
    assert "Wilson's 95 % interval" in text
    assert f'on {samples} of 12 samples' in text


def test_what_was_not_measured_is_left_out() -> None:
    text = card({**TRIAL, 'accuracy': None})
    assert '| accuracy |' not in text
    assert 'state loss' not in text
    assert '| loss a token | 1.250 |' in text
    assert 'None were taken while training' in card()


def test_labels_that_nobody_checked_are_told() -> None:
    assert 'weak' not in card()
    facts = dataclasses.replace(FACTS, weak=5)
    text = model_card(make_recipe({'kind': 'warmup'}), facts, [], [], 'float32')
    assert '5 of the labels are weak: they are what the stack of the robot said' in text


def test_recordings_are_not_all_listed() -> None:
    facts = dataclasses.replace(FACTS, sources={f'bag-{i}': 1 for i in range(30)})
    text = model_card(make_recipe({'kind': 'warmup'}), facts, [], [], 'float32')
    assert 'bag-0, bag-1, bag-2, bag-3, bag-4, bag-5, bag-6, bag-7 and 22 more' in text
    assert 'bag-8' not in text


@pytest.mark.parametrize(
    ('base', 'named', 'simulated'),
    [
        ('', 'license: apache-2.0', 'All that it has seen is simulated.'),
        ('Qwen/Qwen2.5-VL-3B@abc', 'base_model: Qwen/Qwen2.5-VL-3B\n', 'All these samples are s'),
        ('here', None, 'All these samples are simulated.'),
    ],
)
def test_where_it_began_is_told(
    tmp_path: Path, base: str, named: str | None, simulated: str
) -> None:
    if base == 'here':
        base = str(tmp_path)
    recipe = make_recipe({'kind': 'warmup'})
    random = None if base else recipe.model.random
    changed = dataclasses.replace(recipe.model, checkpoint=base, random=random)
    recipe = dataclasses.replace(recipe, model=changed)
    facts = dataclasses.replace(FACTS, sources={'simulation': 8})
    text = model_card(recipe, facts, [], [], 'float32')
    front = text.partition('\n---\n')[0] + '\n'
    assert ('base_model' in front) == (named is not None and 'base_model' in named)
    assert named is None or named in front
    assert simulated in text
