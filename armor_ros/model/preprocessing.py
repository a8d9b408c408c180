# SPDX-License-Identifier: Apache-2.0
"""Frames become the patches that Qwen2.5-VL's vision tower takes, with torch alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from armor_ros.errors import ArmorError

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class PatchGeometry:
    """Sizes of the vision tower: pixels of a patch, frames of a step, patches merged a side."""

    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2

    @classmethod
    def of(cls, vision_config: Any) -> PatchGeometry:
        """Return the sizes that a backbone's ``vision_config`` states."""
        return cls(
            vision_config.patch_size,
            vision_config.temporal_patch_size,
            vision_config.spatial_merge_size,
        )

    @property
    def factor(self) -> int:
        """Pixels that a side of a frame must be a multiple of."""
        return self.patch_size * self.merge_size


@dataclass(frozen=True, slots=True)
class VisionInput:
    """
    One clip or image ready for the vision tower.

    ``patches`` is (steps * grid_height * grid_width, 3 * temporal * patch * patch) float32,
    ``grid`` the patch counts (steps, grid_height, grid_width) before merging, ``is_video``
    chooses the placeholder token, ``seconds_per_step`` the time between steps (0 for an image),
    ``frames_per_step`` is temporal.
    """

    patches: torch.Tensor
    grid: tuple[int, int, int]
    is_video: bool
    seconds_per_step: float
    frames_per_step: int = 2

    def first_frame(self) -> torch.Tensor:
        """Return the patches with the first frame of their steps alone."""
        rows = self.patches.view(len(self.patches), 3, self.frames_per_step, -1)
        return rows[:, :, 0].flatten(1)


def clip_input(
    frames: npt.NDArray[np.uint8], fps: float, size: int, geometry: PatchGeometry
) -> VisionInput:
    """
    Prepare a clip of (N, H, W, 3) uint8 RGB frames sampled at ``fps``.

    Frames of another size are resized to ``size`` x ``size``; the last frame is repeated to fill
    a temporal patch. Raises ArmorError when there are no frames or they have another shape.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ArmorError(
            f'a clip must be (N, height, width, 3) uint8, not {frames.shape} {frames.dtype}'
        )
    if not len(frames):
        raise ArmorError('the clip has no frames; the model needs at least one')
    pixels = _resize(frames, (size, size))
    missing = -len(pixels) % geometry.temporal_patch_size
    if missing:
        pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
    patches, grid = _patchify(pixels, geometry)
    return VisionInput(
        patches, grid, True, geometry.temporal_patch_size / fps, geometry.temporal_patch_size
    )


def image_input(image: npt.NDArray[np.uint8], geometry: PatchGeometry) -> VisionInput:
    """
    Prepare one (H, W, 3) uint8 RGB image, such as a collage.

    Each side is resized to the nearest multiple of patch size * merge size, at least one. The
    image fills all frames of its one temporal patch. Raises ArmorError on another shape.
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
        raise ArmorError(
            f'an image must be (height, width, 3) uint8, not {image.shape} {image.dtype}'
        )
    factor = geometry.factor
    height, width = (max(1, round(side / factor)) * factor for side in image.shape[:2])
    pixels = _resize(image[None], (height, width))
    pixels = pixels.expand(geometry.temporal_patch_size, -1, -1, -1)
    patches, grid = _patchify(pixels, geometry)
    return VisionInput(patches, grid, False, 0.0, geometry.temporal_patch_size)


def _resize(frames: npt.NDArray[np.uint8], size: tuple[int, int]) -> torch.Tensor:
    """Return (N, 3, height, width) uint8, bicubic with antialiasing; same-size is untouched."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    return functional.interpolate(pixels, size=size, mode='bicubic', antialias=True)


def _patchify(
    pixels: torch.Tensor, geometry: PatchGeometry
) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """
    Cut (N, 3, H, W) uint8 into flat patches, the patches of one merged token side by side.

    They are scaled to the mean and deviation of CLIP's training images, float32; after the cut,
    because bytes are moved faster.
    """
    count, channels, height, width = pixels.shape
    temporal = geometry.temporal_patch_size
    grid = (count // temporal, height // geometry.patch_size, width // geometry.patch_size)
    steps = pixels.reshape(grid[0], temporal, channels, height, width).transpose(1, 2)
    patches = to_patches(steps, geometry).view(math.prod(grid), channels, -1).float()
    mean = torch.tensor(IMAGE_MEAN).mul(255.0).view(-1, 1)
    std = torch.tensor(IMAGE_STD).mul(255.0).view(-1, 1)
    return patches.sub_(mean).div_(std).flatten(1), grid


def from_patches(
    patches: torch.Tensor, grid: tuple[int, int, int], geometry: PatchGeometry
) -> torch.Tensor:
    """Return the (steps, 3, temporal, H, W) pixels, scaled as they are, of flat patches."""
    patch, merge = geometry.patch_size, geometry.merge_size
    blocks = patches.view(
        grid[0], grid[1] // merge, grid[2] // merge, merge, merge, 3, -1, patch, patch
    )
    blocks = blocks.permute(0, 5, 6, 1, 3, 7, 2, 4, 8)
    return blocks.reshape(grid[0], 3, -1, grid[1] * patch, grid[2] * patch)


def to_patches(pixels: torch.Tensor, geometry: PatchGeometry) -> torch.Tensor:
    """Return the flat patches of (steps, 3, temporal, H, W) pixels, which stay scaled as is."""
    steps, _, temporal, height, width = pixels.shape
    patch, merge = geometry.patch_size, geometry.merge_size
    blocks = pixels.reshape(
        steps, 3, temporal,
        height // patch // merge, merge, patch,
        width // patch // merge, merge, patch,
    )  # fmt: skip
    blocks = blocks.permute(0, 3, 6, 4, 7, 1, 2, 5, 8)
    return blocks.reshape(-1, 3 * temporal * patch * patch)
