# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toy_training import write_data

from armor_ros.model.armor import ArmorModel
from armor_ros.model.tiny import TinySize, make_tiny_model


@pytest.fixture
def model() -> ArmorModel:
    return make_tiny_model(seed=1, size=TinySize(hidden_size=64, layers=5, vision_layers=2))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('toy') / 'data')
