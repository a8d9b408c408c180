# SPDX-License-Identifier: Apache-2.0
"""Whether a backbone, its tokenizer and our configuration belong together."""

from __future__ import annotations

from typing import Any

from armor_ros.errors import ArmorError
from armor_ros.model.config import ArmorConfig
from armor_ros.model.preprocessing import PatchGeometry
from armor_ros.model.prompts import PromptEncoder


def check_compatible(backbone_config: Any, config: ArmorConfig, prompts: PromptEncoder) -> None:
    """Raise ArmorError naming the two values that contradict each other, if any do."""
    _check_decoder(backbone_config.text_config, config)
    _check_positions(backbone_config, config)
    _check_vision(backbone_config.vision_config, config)
    pads = (backbone_config.image_token_id, backbone_config.video_token_id)
    if pads != (prompts.image_id, prompts.video_id):
        raise ArmorError(
            f'config.json says that the image and video tokens are {pads}, the tokenizer '
            f'{(prompts.image_id, prompts.video_id)}; they are not of one model'
        )


def _check_decoder(text: Any, config: ArmorConfig) -> None:
    deepest = max(config.head.pooled_layers)
    # The last layer's recorded state is the normalised one, which is another quantity.
    if deepest >= text.num_hidden_layers:
        raise ArmorError(
            f'head.pooled_layers reaches layer {deepest}, but the backbone has '
            f'{text.num_hidden_layers} decoder layers and its last cannot be pooled'
        )
    if 'sliding_attention' in text.layer_types:
        raise ArmorError(
            'the backbone uses sliding-window attention, which is not supported; set '
            'use_sliding_window to false in its config.json'
        )


def _check_positions(backbone_config: Any, config: ArmorConfig) -> None:
    text, vision = backbone_config.text_config, backbone_config.vision_config
    if vision.tokens_per_second != config.tokens_per_second:
        raise ArmorError(
            f'config.json has {vision.tokens_per_second} as vision_config.tokens_per_second, '
            f'armor_config.json {config.tokens_per_second} as tokens_per_second (which every '
            'released Qwen2.5-VL has as 2): clips would be stretched in time; correct the one '
            'that is wrong'
        )
    sections = list(text.rope_parameters.get('mrope_section', ()))
    size = getattr(text, 'head_dim', None) or text.hidden_size // text.num_attention_heads
    if len(sections) != 3 or 2 * sum(sections) != size:
        raise ArmorError(
            f'config.json has {sections} as mrope_section; it must be three numbers, for time, '
            f'height and width, whose sum is half the size of an attention head, {size // 2}'
        )


def _check_vision(vision: Any, config: ArmorConfig) -> None:
    geometry = PatchGeometry.of(vision)
    if config.image_size % geometry.factor:
        raise ArmorError(
            f'image_size is {config.image_size}, but the vision tower merges patches of '
            f'{geometry.factor} pixels a side; it must be a multiple of that'
        )
