# SPDX-License-Identifier: Apache-2.0
"""Our preprocessing against transformers', against plain loops, and against committed numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from armor_ros.errors import ArmorError
from armor_ros.model.preprocessing import (
    IMAGE_MEAN,
    IMAGE_STD,
    PatchGeometry,
    clip_input,
    image_input,
)

GEOMETRY = PatchGeometry()


def picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return a smooth deterministic picture."""
    y, x = np.mgrid[:height, :width]
    red = 127 + 120 * np.sin(x / 9 + seed)
    green = 127 + 120 * np.cos(y / 7 - seed)
    return np.stack([red, green, (3 * x + 5 * y + 31 * seed) % 256], axis=-1).astype(np.uint8)


def by_loops(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the patches of frames of fitting size, in the order Qwen2.5-VL wants them."""
    count, height, width, _ = frames.shape
    scaled = (frames / 255.0 - np.array(IMAGE_MEAN)) / np.array(IMAGE_STD)
    rows = []
    for t in range(0, count, 2):
        for block_y in range(0, height, 28):
            for block_x in range(0, width, 28):
                for y in (block_y, block_y + 14):
                    for x in (block_x, block_x + 14):
                        cube = scaled[t : t + 2, y : y + 14, x : x + 14]
                        rows.append(cube.transpose(3, 0, 1, 2).reshape(-1))
    return np.array(rows)


def test_clip_equals_plain_loops() -> None:
    frames = np.stack([picture(56, 56, seed) for seed in range(4)])
    ready = clip_input(frames, 5.0, 56, GEOMETRY)
    assert ready.grid == (2, 4, 4)
    assert ready.is_video
    assert ready.seconds_per_step == pytest.approx(0.4)
    assert ready.patches.shape == (32, 1176)
    np.testing.assert_allclose(ready.patches.numpy(), by_loops(frames), atol=1e-6)


def test_image_equals_transformers_without_resizing() -> None:
    image = picture(56, 84)
    ready = image_input(image, GEOMETRY)
    theirs = Qwen2VLImageProcessorPil()(images=[image], return_tensors='pt')
    assert [list(ready.grid)] == theirs['image_grid_thw'].tolist()
    torch.testing.assert_close(ready.patches, theirs['pixel_values'], rtol=0, atol=1e-6)
    assert not ready.is_video
    assert ready.seconds_per_step == 0


def test_clip_frames_equal_transformers_images() -> None:
    frames = np.stack([picture(112, 112, seed) for seed in (0, 0, 3, 3)])
    ready = clip_input(frames, 5.0, 112, GEOMETRY)
    theirs = Qwen2VLImageProcessorPil()(images=[frames[0], frames[2]], return_tensors='pt')
    torch.testing.assert_close(ready.patches, theirs['pixel_values'], rtol=0, atol=1e-6)


def test_resizing_is_within_one_grey_level_of_transformers() -> None:
    image = picture(100, 150)
    ready = image_input(image, GEOMETRY)
    theirs = Qwen2VLImageProcessorPil()(images=[image], return_tensors='pt')
    assert [list(ready.grid)] == theirs['image_grid_thw'].tolist() == [[1, 8, 10]]
    level = 1 / 255 / min(IMAGE_STD)
    difference = (ready.patches - theirs['pixel_values']).abs()
    assert difference.max() <= level * 1.001
    assert difference.mean() < 0.1 * level


def test_frames_of_another_size_are_resized_as_images_are() -> None:
    frames = np.stack([picture(100, 110)] * 2)
    clip = clip_input(frames, 5.0, 112, GEOMETRY)
    assert torch.equal(clip.patches, image_input(frames[0], GEOMETRY).patches)


def test_odd_count_repeats_the_last_frame() -> None:
    frames = np.stack([picture(56, 56, seed) for seed in range(3)])
    filled = np.concatenate([frames, frames[-1:]])
    odd, even = clip_input(frames, 5.0, 56, GEOMETRY), clip_input(filled, 5.0, 56, GEOMETRY)
    assert odd.grid == (2, 4, 4)
    assert torch.equal(odd.patches, even.patches)


def test_golden_numbers() -> None:
    frames = np.arange(2 * 28 * 28 * 3, dtype=np.int64).reshape(2, 28, 28, 3) % 251
    patches = clip_input(frames.astype(np.uint8), 5.0, 28, GEOMETRY).patches
    assert patches[0, :3].tolist() == pytest.approx([-1.7922626, -1.7484673, -1.7046720], abs=1e-6)
    assert patches[3, -1].item() == pytest.approx(1.1504924, abs=1e-6)
    digest = hashlib.sha256(np.ascontiguousarray(patches.numpy(), '<f4').tobytes()).hexdigest()
    assert digest[:16] == '6b9561e013578cc6'


def test_the_sides_of_an_image_become_multiples_of_28() -> None:
    assert image_input(picture(5, 300), GEOMETRY).grid == (1, 2, 22)


@pytest.mark.parametrize(
    'frames',
    [
        np.zeros((0, 56, 56, 3), np.uint8),
        np.zeros((2, 56, 56, 4), np.uint8),
        np.zeros((56, 56, 3), np.uint8),
        np.zeros((2, 56, 56, 3), np.float32),
    ],
)
def test_other_clips_are_refused(frames: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ArmorError, match='clip'):
        clip_input(frames, 5.0, 56, GEOMETRY)


@pytest.mark.parametrize('shape', [(0, 56, 3), (56, 56), (56, 56, 1)])
def test_other_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArmorError, match='image must be'):
        image_input(np.zeros(shape, np.uint8), GEOMETRY)
