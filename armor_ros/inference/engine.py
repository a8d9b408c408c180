# SPDX-License-Identifier: Apache-2.0
"""What all episodes of one model have in common."""

from __future__ import annotations

import torch

from armor_ros.inference.prefix import SharedPrefix
from armor_ros.inference.static_steps import StaticSteps, capture_graph
from armor_ros.inference.static_vision import StaticVision
from armor_ros.model.armor import ArmorModel
from armor_ros.model.decoder import Decoder
from armor_ros.model.head_summary import HeadReader
from armor_ros.model.preprocessing import VisionInput
from armor_ros.model.vision_tower import VisionTower


class Engine:
    """A model in eval mode and the views of its weights that inference works with."""

    @torch.inference_mode()
    def __init__(self, model: ArmorModel) -> None:
        self.model = model.eval()
        self.decoder = Decoder(model)
        self.reader = HeadReader(model.head)
        self.vision: StaticVision | None = None
        if model.device.type == 'cuda':
            self.vision = StaticVision(VisionTower(model.backbone.model.visual), capture_graph)

    def encode_vision(self, vision: VisionInput) -> torch.Tensor:
        """Return the (tokens, H) embeddings of a clip or an image."""
        if self.vision is None:
            return self.model.encode_vision(vision)
        return self.vision.encode(vision)

    def new_prefix(self) -> SharedPrefix:
        """Return an empty prefix."""
        prefix = SharedPrefix(self.model, self.decoder, self.reader)
        if self.model.device.type == 'cuda':
            prefix.steps = StaticSteps(prefix, capture_graph)
        return prefix
