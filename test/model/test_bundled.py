# SPDX-License-Identifier: Apache-2.0
"""The checkpoint that comes with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from armor_ros.errors import ArmorError
from armor_ros.model.calibration import CALIBRATION_FILE
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.model.weights import check_weights, find_checkpoint
from armor_ros.parameters import BUNDLED


def test_the_model_of_the_package_is_found_whole_and_small() -> None:
    found = find_checkpoint(BUNDLED)
    assert found.path.name == BUNDLED
    check_weights(found.path)
    files = [file for file in found.path.iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 20_000_000
    assert {CALIBRATION_FILE, 'README.md'} <= {file.name for file in files}
    assert {file.suffix for file in files} <= {'.json', '.md', '.safetensors'}


def test_it_is_trained_and_calibrated_and_its_card_says_for_what() -> None:
    model = load_checkpoint(BUNDLED, device='cpu')
    assert model.info.trained
    assert model.info.model_id == BUNDLED
    assert model.calibration is not None
    card = (find_checkpoint(BUNDLED).path / 'README.md').read_text()
    assert 'not a model for your robot' in ' '.join(card.split())


def test_a_folder_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / BUNDLED).mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint(BUNDLED).path.resolve() == tmp_path / BUNDLED


def test_a_name_that_is_not_there_is_told_which_are() -> None:
    with pytest.raises(ArmorError, match=f'comes with this package: {BUNDLED}'):
        find_checkpoint('simulated-kitchen')
