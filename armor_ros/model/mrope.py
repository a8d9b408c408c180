# SPDX-License-Identifier: Apache-2.0
"""
Three-dimensional positions (M-RoPE) of text and vision tokens, by a named convention.

Libraries disagree on them, and have changed between versions; a checkpoint therefore records the
convention it was trained with, and positions are always computed here and passed explicitly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from armor_ros.model.config import PositionConvention


@dataclass(frozen=True, slots=True)
class VisionGrid:
    """
    The vision tokens of one clip or image as the decoder sees them, after spatial merging.

    ``seconds_per_step`` is the time between two temporal steps: temporal patch size / fps for a
    clip, 0 for an image.
    """

    steps: int
    height: int
    width: int
    seconds_per_step: float = 0.0

    @property
    def tokens(self) -> int:
        """Number of vision tokens."""
        return self.steps * self.height * self.width


def text_positions(start: int, length: int) -> torch.Tensor:
    """Return (3, length) positions of text that begins at ``start``: all three axes equal."""
    return torch.arange(start, start + length).expand(3, -1)


def vision_positions(
    start: int, grid: VisionGrid, convention: PositionConvention, tokens_per_second: int
) -> tuple[torch.Tensor, int]:
    """
    Return the (3, tokens) positions of a grid and the position where the next text begins.

    Axes are time, height, width; tokens run over width, then height, then time. At 5 frames a
    second and 2 tokens a second the time ids are 0, 0, 1, 2, 3, 4, 4 (4.49 and 5.23) or all 0
    (4.56, which cuts the 0.4 s step to an integer). Text continues one past the largest
    position; in 5.23 past the larger spatial side only, so that it may overlap a long clip.
    """
    steps = torch.arange(grid.steps)
    seconds = grid.seconds_per_step
    # The order of the float32 products is each convention's own: truncation makes it matter.
    if convention is PositionConvention.TRANSFORMERS_4_49:
        times = (steps * seconds * tokens_per_second).long()
    elif convention is PositionConvention.TRANSFORMERS_4_56:
        times = steps * int(seconds) * tokens_per_second
    else:
        times = (steps * (tokens_per_second * seconds)).long()
    axes = torch.meshgrid(
        times, torch.arange(grid.height), torch.arange(grid.width), indexing='ij'
    )
    positions = torch.stack([axis.flatten() for axis in axes]) + start
    if convention is PositionConvention.TRANSFORMERS_5_23:
        return positions, start + max(grid.height, grid.width)
    return positions, int(positions.max()) + 1
