# SPDX-License-Identifier: Apache-2.0
"""Pairs of frames become the tokens and positions that the decoder takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from armor_ros.inference.engine import Engine
from armor_ros.model.mrope import VisionGrid, text_positions, vision_positions
from armor_ros.model.preprocessing import clip_input

Frame = npt.NDArray[np.uint8]


class ClipEncoder:
    """
    Encodes a clip at ``fps`` frames a second in steps of one temporal patch (two frames).

    The vision tower attends inside one such step only, so a step's tokens do not depend on when
    the others are encoded.
    """

    def __init__(self, engine: Engine, fps: float) -> None:
        model = engine.model
        self._engine = engine
        self._model = model
        self._seconds = model.geometry.temporal_patch_size / fps
        self._fps = fps
        self._before = model.prompts.prefix('').before
        side = model.config.image_size // model.geometry.factor
        self._side = side
        self.tokens_per_step = side * side
        self.frames_per_step = model.geometry.temporal_patch_size
        self.opening_length = len(self._before)

    def opening(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (N, H) and positions (3, N) of what stands before the clip."""
        return self._model.embed(torch.tensor(self._before)), text_positions(0, len(self._before))

    def encode(self, steps: Sequence[Frame]) -> list[torch.Tensor]:
        """Return the (tokens, H) embeddings of each (2, height, width, 3) step."""
        model = self._model
        size, geometry = model.config.image_size, model.geometry
        if model.device.type == 'cpu':
            # One by one, so that a stream and a whole clip go through the very same products.
            groups = [[step] for step in steps]
        else:
            groups = [list(steps)] if steps else []
        embeddings: list[torch.Tensor] = []
        for group in groups:
            vision = clip_input(np.concatenate(group), self._fps, size, geometry)
            embeddings += self._engine.encode_vision(vision).split(self.tokens_per_step)
        return embeddings

    def positions(self, steps: Sequence[int]) -> torch.Tensor:
        """
        Return the (3, N) positions of the given steps of the clip, counted from 0.

        A step has the position that it would have if no other step were left out.
        """
        every, _ = self._grid(max(steps) + 1)
        return torch.cat([every[:, step] for step in steps], dim=1)

    def following(self, steps: int) -> int:
        """Return the position of the text after a clip of so many steps."""
        return self._grid(steps)[1]

    def _grid(self, steps: int) -> tuple[torch.Tensor, int]:
        """Return (3, steps, tokens) positions, and the one that follows."""
        model = self._model
        grid = VisionGrid(steps, self._side, self._side, self._seconds)
        positions, following = vision_positions(
            len(self._before),
            grid,
            model.config.positions,
            model.config.tokens_per_second,
        )
        return positions.unflatten(1, (steps, -1)), following
