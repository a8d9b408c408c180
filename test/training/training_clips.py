# SPDX-License-Identifier: Apache-2.0
"""Small clips and a small model, for the tests of training."""

from __future__ import annotations

import numpy as np

from armor_ros.model.armor import ArmorModel
from armor_ros.model.preprocessing import clip_input, image_input
from armor_ros.training.packing import Clip

INSTRUCTIONS = ('lift the red can', 'stack the small cube on the green cube', '')


def make_clips(model: ArmorModel) -> list[Clip]:
    """Return a collage, a video of three frames and another collage, of different lengths."""
    random = np.random.default_rng(3)
    clips = []
    for index, instruction in enumerate(INSTRUCTIONS):
        if index == 1:
            frames = random.integers(0, 255, (3, 112, 112, 3), dtype=np.uint8)
            vision = clip_input(frames, 5.0, 112, model.geometry)
            prefix = model.prompts.prefix(instruction)
        else:
            picture = random.integers(0, 255, (56 + 56 * index, 112, 3), dtype=np.uint8)
            vision = image_input(picture, model.geometry)
            prefix = model.prompts.prefix(instruction, ('front', 'wrist'))
        clips.append(Clip(prefix, vision, *model.prefix_positions(prefix, vision)))
    return clips
