# SPDX-License-Identifier: Apache-2.0
"""
The parts of transformers' Qwen2.5-VL that the engine runs itself.

What differs between the supported releases of transformers (5.17 and later) is here. The engine
uses only the modules of the decoder, whose names and shapes a checkpoint fixes; rotations, which
each release merges in another place, are computed here, and positions in ``mrope``.
"""

from __future__ import annotations

from typing import Any

import torch

from armor_ros.errors import ArmorError
from armor_ros.model.config import PositionConvention


def decoder_layers(backbone: Any) -> Any:
    """Return the language model's decoder layers in order."""
    return backbone.model.language_model.layers


def final_norm(backbone: Any) -> Any:
    """Return the norm between the last decoder layer and the language head."""
    return backbone.model.language_model.norm


def rotations(backbone: Any, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return cosines and sines (N, head size) of M-RoPE for ``positions`` (3, N).

    The frequencies of a head are split among time, height and width by ``mrope_section``.
    """
    text = backbone.config.text_config
    parameters = text.rope_parameters
    if parameters.get('rope_type', 'default') not in ('default', 'mrope', 'linear', 'yarn'):
        raise ArmorError(
            f'the backbone scales positions by {parameters["rope_type"]!r}, which depends on the '
            'length of the prompt; set rope_type to "default" in its config.json'
        )
    rotary = backbone.model.language_model.rotary_emb
    frequencies = rotary.inv_freq.to(positions.device, torch.float32)
    angles = positions[..., None].float() * frequencies
    sections = angles.split(list(parameters.get('mrope_section', (16, 24, 24))), dim=-1)
    merged = torch.cat([part[axis % 3] for axis, part in enumerate(sections)], dim=-1)
    merged = torch.cat([merged, merged], dim=-1)
    dtype = backbone.get_input_embeddings().weight.dtype
    scale = rotary.attention_scaling
    return (merged.cos() * scale).to(dtype), (merged.sin() * scale).to(dtype)


def rotate(heads: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Rotate (N, heads, size) by (N, size) cosines and sines."""
    first, second = heads.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return heads * cosines[:, None] + turned * sines[:, None]


def installed_convention(backbone: Any) -> PositionConvention:
    """Return the convention of M-RoPE by which the installed transformers itself would go."""
    config = backbone.config
    ids = torch.tensor([[1] + [config.video_token_id] * 20 + [1]], device=backbone.device)
    arguments = {
        'mm_token_type_ids': (ids == config.video_token_id).int() * 2,
        'video_grid_thw': torch.tensor([[5, 4, 4]], device=backbone.device),
        'second_per_grid_ts': torch.tensor([0.4], device=backbone.device),
    }
    positions, _ = backbone.model.get_rope_index(ids, **arguments)
    times = positions[0, 0].tolist()
    if times[1] == times[20]:
        return PositionConvention.TRANSFORMERS_4_56
    if times[21] > times[20]:
        return PositionConvention.TRANSFORMERS_4_49
    return PositionConvention.TRANSFORMERS_5_23
