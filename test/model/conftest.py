# SPDX-License-Identifier: Apache-2.0
"""A small checkpoint, made once for all tests of the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.model.tiny import TinySize, make_tiny_checkpoint


@pytest.fixture(scope='session')
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small checkpoint whose distributions are far from flat."""
    folder = tmp_path_factory.mktemp('checkpoints') / 'tiny'
    return make_tiny_checkpoint(folder, seed=1, size=TinySize(spread=0.2))


@pytest.fixture(scope='session')
def tiny_model(tiny_path: Path) -> ArmorModel:
    """Return the small model; tests must not change it."""
    return load_checkpoint(tiny_path)
