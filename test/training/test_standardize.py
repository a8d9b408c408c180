# SPDX-License-Identifier: Apache-2.0
"""Vision tokens become of unit size, and nothing else about them changes."""

from __future__ import annotations

import pytest
import torch
from training_clips import make_clips

from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.training.standardize import standardize_vision
from armor_ros.training.steps import TrainingModule


def tokens_of(model: ArmorModel) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model.encode_vision(clip.vision) for clip in make_clips(model)])


def test_tokens_have_mean_0_and_deviation_1(model: ArmorModel) -> None:
    before = tokens_of(model)
    assert before.std(dim=0).mean() > 1.2
    standardize_vision(TrainingModule(model), make_clips(model))
    after = tokens_of(model)
    assert after.mean(dim=0).abs().max() < 1e-3
    torch.testing.assert_close(after.std(dim=0), torch.ones(after.shape[1]), rtol=1e-3, atol=1e-3)
    expected = (before - before.mean(dim=0)) / before.std(dim=0)
    torch.testing.assert_close(after, expected, rtol=1e-2, atol=1e-2)


def test_clips_are_needed(model: ArmorModel) -> None:
    with pytest.raises(ArmorError, match='without clips'):
        standardize_vision(TrainingModule(model), [])
