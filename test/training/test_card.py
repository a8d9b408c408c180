# SPDX-License-Identifier: Apache-2.0
"""The model card tells how sure its figures are."""

from __future__ import annotations

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
