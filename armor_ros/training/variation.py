# SPDX-License-Identifier: Apache-2.0
"""Variations of what a sample shows: other light, cameras elsewhere, the room in a mirror."""

from __future__ import annotations

import dataclasses
import random

import torch

from armor_ros.errors import ArmorError
from armor_ros.model.preprocessing import PatchGeometry, from_patches, to_patches
from armor_ros.training.samples import TrainingSample
from armor_ros.training.state_targets import mirrored

# Largest changes: of a channel's contrast and brightness, and of a view's place, in its sides.
_CONTRAST, _BRIGHTNESS, _SHIFT = 0.25, 0.3, 0.07
# Of the values that the state is asked for.
_SIN_YAW = 1


def varied(sample: TrainingSample, rng: random.Random, geometry: PatchGeometry) -> TrainingSample:
    """
    Return a sample that shows the same in another light, from another place, or in a mirror.

    Colours change a little, and alike in all of the sample; each view moves by up to 7 % of its
    sides, with its edge repeated; in half of the samples left and right change places. What the
    state says of the pictures changes with them. Raises ArmorError without a state, and where the
    views are not of whole pixels.
    """
    state, vision = sample.state, sample.clip.vision
    if state is None:
        raise ArmorError(f'sample {sample.id!r} has no state that could be varied with it')
    pixels = from_patches(vision.patches, vision.grid, geometry)
    height, width = pixels.shape[-2:]
    rows = round(float(state.sides[1]) * height / geometry.factor)
    columns = round(float(state.sides[0]) * width / geometry.factor)
    if height % rows or width % columns:
        raise ArmorError(
            f'a picture of {width}x{height} pixels has {columns}x{rows} views, none of whole '
            'pixels; choose the sizes of the cells as multiples of a token, or set vary to false'
        )
    pixels = _recolored(pixels, rng)
    cells = pixels.unflatten(-1, (columns, -1)).unflatten(-3, (rows, -1))
    side_y, side_x = cells.shape[-3], cells.shape[-1]
    mirror = rng.random() < 0.5
    seen = state.seen.clone()
    if mirror:
        cells = cells.flip(-1)
        seen[..., 0] = 1.0 - seen[..., 0]
    moved = []
    for row in range(rows):
        down = rng.randint(-round(_SHIFT * side_y), round(_SHIFT * side_y))
        right = rng.randint(-round(_SHIFT * side_x), round(_SHIFT * side_x))
        from_y = (torch.arange(side_y) - down).clamp(0, side_y - 1)
        from_x = (torch.arange(side_x) - right).clamp(0, side_x - 1)
        moved.append(cells[..., row, :, :, :][..., from_y, :, :][..., from_x])
        seen[row] += torch.tensor([right / side_x, down / side_y])
    pixels = torch.stack(moved, dim=-4).flatten(-4, -3).flatten(-2)
    values, above = state.values.clone(), state.above
    if mirror:
        values[:, 0, _SIN_YAW] *= -1.0
        above = mirrored(above)
    shown = dataclasses.replace(vision, patches=to_patches(pixels, geometry))
    return dataclasses.replace(
        sample,
        clip=dataclasses.replace(sample.clip, vision=shown),
        state=dataclasses.replace(state, values=values, seen=seen, above=above),
    )


def _recolored(pixels: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Scale and shift the channels of (steps, 3, temporal, H, W) pixels."""
    scales = [1.0 + rng.uniform(-_CONTRAST, _CONTRAST) for _ in range(3)]
    common = rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)
    shape = (1, 3, 1, 1, 1)
    return pixels * torch.tensor(scales).view(shape) + common
