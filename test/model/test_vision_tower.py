# SPDX-License-Identifier: Apache-2.0
"""The vision tower run block by block equals transformers' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.model.preprocessing import VisionInput
from armor_ros.model.vision_tower import VisionTower


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def noise(steps: int, height: int, width: int) -> VisionInput:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(steps * height * width, 3 * 2 * 14 * 14, generator=generator)
    return VisionInput(patches, (steps, height, width), True, 0.4)


# A window is 8 patches a side: less than one, whole ones, cut ones, and a collage.
@pytest.mark.parametrize('size', [(2, 2), (4, 6), (8, 8), (16, 8), (22, 22), (12, 96)])
@pytest.mark.parametrize('steps', [1, 3])
def test_equals_transformers(tiny_model: ArmorModel, size: tuple[int, int], steps: int) -> None:
    tower = VisionTower(tiny_model.backbone.model.visual)
    vision = noise(steps, *size)
    for _ in range(2):
        ours = tower.encode(tower.patches(vision), vision.grid)
        theirs = tiny_model.encode_vision(vision)
        # Their patches go through a convolution, which adds up in another order.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_half_precision(tiny_path: Path) -> None:
    model = load_checkpoint(tiny_path, dtype='bfloat16', device='cpu')
    tower, vision = VisionTower(model.backbone.model.visual), noise(2, 10, 10)
    ours = tower.encode(tower.patches(vision), vision.grid)
    assert ours.dtype == torch.bfloat16
    theirs = model.encode_vision(vision).float()
    error = (ours.float() - theirs).norm() / theirs.norm()
    assert error < 0.02


def test_steps_do_not_see_each_other(tiny_model: ArmorModel) -> None:
    tower, both = VisionTower(tiny_model.backbone.model.visual), noise(2, 10, 10)
    together = tower.encode(both.patches, (2, 10, 10))
    alone = [tower.encode(part, (1, 10, 10)) for part in both.patches.split(100)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_one_frame_stands_for_all_of_a_step(tiny_model: ArmorModel) -> None:
    tower, clip = VisionTower(tiny_model.backbone.model.visual), noise(2, 10, 10)
    single = clip.first_frame()
    assert single.shape == (200, 3 * 14 * 14)
    frames = single.view(200, 3, 1, -1).expand(-1, -1, 2, -1).flatten(1)
    torch.testing.assert_close(
        tower.encode(single, clip.grid), tower.encode(frames, clip.grid), rtol=1e-4, atol=1e-4
    )


def test_several_pictures_at_once(tiny_model: ArmorModel) -> None:
    tower = VisionTower(tiny_model.backbone.model.visual)
    clips = [noise(2, 10, 10), noise(1, 10, 10), noise(1, 4, 6), noise(1, 10, 10)]
    together = tower.encode_all(
        torch.cat([clip.patches for clip in clips]), torch.tensor([clip.grid for clip in clips])
    )
    alone = [tower.encode(clip.patches, clip.grid) for clip in clips]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)
