# SPDX-License-Identifier: Apache-2.0
"""Training on from a calibrated checkpoint: what was learnt of the old weights is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy_training import make_recipe

from armor_ros.episodes.diagnosis import InputMode, RefinementSettings
from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.model.calibration import (
    CALIBRATION_FILE,
    Calibration,
    hash_config,
    settings_record,
    write_calibration,
)
from armor_ros.model.checkpoint import load_checkpoint, save_checkpoint
from armor_ros.training.export import export_checkpoint
from armor_ros.training.start import starting_model


@pytest.fixture
def calibrated(model: ArmorModel, tmp_path: Path) -> Path:
    folder = save_checkpoint(model, tmp_path / 'calibrated')
    scores = tuple(n / 10 for n in range(9))
    write_calibration(
        Calibration(
            weights_hash=load_checkpoint(folder, device='cpu').info.weights_hash,
            config_hash=hash_config(folder),
            quantization='none',
            settings=settings_record(RefinementSettings(rounds=2), InputMode.CLIP, 5.0),
            temperature=2.0,
            target_error=0.1,
            labels='strong',
            tasks=18,
            failure_scores=scores,
            success_scores=scores,
        ),
        folder,
    )
    return folder


def test_a_model_that_trains_on_has_no_calibration(calibrated: Path) -> None:
    before = load_checkpoint(calibrated, device='cpu')
    assert before.calibration is not None
    assert (before.info.calibration != '', before.info.rounds) == (True, 2)
    recipe = make_recipe({'kind': 'warmup'}, model={'checkpoint': str(calibrated)})
    model = starting_model(recipe, ())
    assert model.calibration is None
    assert 'trained since' in model.why_uncalibrated
    assert (model.info.calibration, model.info.rounds) == ('', 0)


def test_a_head_learns_in_float32_whatever_was_stored(calibrated: Path, tmp_path: Path) -> None:
    stored = load_checkpoint(calibrated, device='cpu')
    recipe = make_recipe({'kind': 'warmup'})
    folder = export_checkpoint(stored, recipe, tmp_path / 'bf16', '', 'bf16')
    adapted = make_recipe(
        {'kind': 'warmup'}, model={'checkpoint': str(folder)}, lora={'rank': 2}, precision='bf16'
    )
    model = starting_model(adapted, ())
    assert {weight.dtype for weight in model.head.parameters()} == {torch.float32}
    assert torch.bfloat16 in {weight.dtype for weight in model.backbone.parameters()}


def test_an_export_over_a_calibrated_checkpoint_leaves_none(calibrated: Path) -> None:
    recipe = make_recipe({'kind': 'warmup'}, model={'checkpoint': str(calibrated)})
    model = starting_model(recipe, ())
    folder = export_checkpoint(model, recipe, calibrated, 'a card')
    assert not (folder / CALIBRATION_FILE).exists()
    assert load_checkpoint(folder, device='cpu').calibration is None


def test_a_head_may_come_to_read_other_layers(model: ArmorModel, tmp_path: Path) -> None:
    folder = save_checkpoint(model, tmp_path / 'checkpoint')
    recipe = make_recipe(
        {'kind': 'warmup'}, model={'checkpoint': str(folder), 'pooled_layers': [2]}
    )
    shallow = starting_model(recipe, ())
    assert model.config.head.pooled_layers == (1, 2, 3, 4)
    for name, weights in model.head.state_dict().items():
        assert torch.equal(shallow.head.state_dict()[name], weights)
    loaded = load_checkpoint(export_checkpoint(shallow, recipe, tmp_path / 'new', 'a card'))
    assert loaded.config.head.pooled_layers == (2,)
    tokens = torch.arange(6)[None]
    positions = torch.arange(6).expand(3, 1, 6)
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    for own in (shallow, loaded):
        states: list[torch.Tensor] = []
        layer = own.backbone.model.language_model.layers[1]
        layer.register_forward_hook(lambda _, __, state, found=states: found.append(state))
        with torch.no_grad():
            features = own.decode(own.embed(tokens), positions, mask).features
        assert torch.equal(features, states[0])
    deep = make_recipe({'kind': 'warmup'}, model={'checkpoint': str(folder), 'pooled_layers': [9]})
    with pytest.raises(ArmorError, match='reaches layer 9'):
        starting_model(deep, ())
