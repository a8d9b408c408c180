# SPDX-License-Identifier: Apache-2.0
"""Vision tokens of unit size, for a language model that has yet to learn to read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from armor_ros.errors import ArmorError
from armor_ros.training.packing import Clip, PackedSample, pack
from armor_ros.training.sharding import gathered
from armor_ros.training.steps import TrainingModule

# Clips whose tokens the mean and the deviation are taken from.
MEASURED_CLIPS = 256


@torch.no_grad()
def standardize_vision(module: TrainingModule, clips: Sequence[Clip]) -> None:
    """
    Let the tokens of clips have mean 0 and deviation 1 in each of their dimensions.

    The tower's last layer is linear: scale and shift become part of its weights. A tower that has
    learned by itself gives tokens of any size, a hundred times that of words, in which a language
    model from random weights finds nothing. Raises ArmorError without clips.
    """
    if not clips:
        raise ArmorError('vision tokens cannot be standardized without clips')
    last = module.model.backbone.model.visual.merger.mlp[-1]
    with gathered(module):
        device = last.weight.device
        tokens = torch.cat([
            module.packed.encode(pack([PackedSample(clip, ())]).to(device)).double()
            for clip in clips
        ])  # fmt: skip
    mean, deviation = tokens.mean(dim=0), tokens.std(dim=0).clamp(min=1e-6)
    weight, bias = _whole(last.weight).double(), _whole(last.bias).double()
    _put(last.weight, weight / deviation[:, None])
    _put(last.bias, (bias - mean) / deviation)


def _whole(weight: torch.Tensor) -> torch.Tensor:
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


def _put(weight: torch.Tensor, value: torch.Tensor) -> None:
    value = value.to(weight.dtype)
    if isinstance(weight, DTensor):
        value = distribute_tensor(value, weight.device_mesh, weight.placements)
    weight.copy_(value)
