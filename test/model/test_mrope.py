# SPDX-License-Identifier: Apache-2.0
"""Positions by each convention: committed numbers, exact arithmetic, and transformers itself."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from armor_ros.model.armor import ArmorModel
from armor_ros.model.backbone import installed_convention
from armor_ros.model.config import PositionConvention
from armor_ros.model.mrope import VisionGrid, text_positions, vision_positions

OLD = PositionConvention.TRANSFORMERS_4_49
FLAT = PositionConvention.TRANSFORMERS_4_56
NEW = PositionConvention.TRANSFORMERS_5_23


def times(grid: VisionGrid, convention: PositionConvention, start: int = 0) -> list[int]:
    """Return the time ids of the first token of each step."""
    positions, _ = vision_positions(start, grid, convention, 2)
    return positions[0, :: grid.height * grid.width].tolist()


def test_time_ids_at_5_fps() -> None:
    grid = VisionGrid(7, 2, 2, 0.4)
    assert times(grid, OLD) == [0, 0, 1, 2, 3, 4, 4]
    assert times(grid, FLAT) == [0] * 7
    assert times(grid, NEW) == [0, 0, 1, 2, 3, 4, 4]


def test_time_ids_of_a_slow_clip() -> None:
    grid = VisionGrid(4, 1, 1, 1.5)
    assert times(grid, OLD, start=10) == [10, 13, 16, 19]
    assert times(grid, FLAT, start=10) == [10, 12, 14, 16]
    assert times(grid, NEW, start=10) == [10, 13, 16, 19]


def test_a_small_clip_in_full() -> None:
    positions, resume = vision_positions(5, VisionGrid(2, 2, 3, 1.0), OLD, 2)
    assert positions.tolist() == [
        [5, 5, 5, 5, 5, 5, 7, 7, 7, 7, 7, 7],
        [5, 5, 5, 6, 6, 6, 5, 5, 5, 6, 6, 6],
        [5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 7],
    ]
    assert resume == 8


def test_text_after_a_long_clip() -> None:
    grid = VisionGrid(25, 11, 11, 0.4)
    assert vision_positions(40, grid, OLD, 2)[1] == 40 + 19 + 1
    assert vision_positions(40, grid, FLAT, 2)[1] == 40 + 11
    assert vision_positions(40, grid, NEW, 2)[1] == 40 + 11, 'it overlaps the clip'


@pytest.mark.parametrize('convention', list(PositionConvention))
def test_an_image_has_one_time(convention: PositionConvention) -> None:
    positions, resume = vision_positions(3, VisionGrid(1, 2, 4), convention, 2)
    assert positions.tolist() == [
        [3] * 8,
        [3, 3, 3, 3, 4, 4, 4, 4],
        [3, 4, 5, 6, 3, 4, 5, 6],
    ]
    assert resume == 7


@pytest.mark.parametrize('convention', [OLD, NEW])
@pytest.mark.parametrize('fps', [1, 2, 3, 4, 5, 8, 10, 15, 30])
def test_time_ids_equal_exact_arithmetic(convention: PositionConvention, fps: int) -> None:
    grid = VisionGrid(150, 1, 1, 2 / fps)
    assert times(grid, convention) == [int(Fraction(2, fps) * 2 * t) for t in range(150)]


def test_text() -> None:
    assert text_positions(4, 3).tolist() == [[4, 5, 6]] * 3


@pytest.mark.parametrize(('video', 'seconds'), [(True, 0.4), (True, 1.0), (False, 0.0)])
def test_equals_the_installed_transformers(
    tiny_model: ArmorModel, video: bool, seconds: float
) -> None:
    prompts = tiny_model.prompts
    grid = VisionGrid(5 if video else 1, 3, 2, seconds)
    pad = prompts.video_id if video else prompts.image_id
    ids = torch.tensor([[1, 2, 3, *[pad] * grid.tokens, 4, 5]])
    sizes = torch.tensor([[grid.steps, 2 * grid.height, 2 * grid.width]])
    theirs, _ = tiny_model.backbone.model.get_rope_index(
        ids,
        mm_token_type_ids=(ids == pad).int() * (2 if video else 1),
        image_grid_thw=None if video else sizes,
        video_grid_thw=sizes if video else None,
        second_per_grid_ts=torch.tensor([seconds]) if video else None,
    )
    convention = installed_convention(tiny_model.backbone)
    assert convention is not OLD, 'the releases that we support have left it'
    if convention is FLAT and seconds >= 1.0:
        pytest.skip('5.17 lets text overlap slow videos, 4.56 does not: of no use to a 5 FPS clip')
    seen, resume = vision_positions(3, grid, convention, 2)
    ours = torch.cat([text_positions(0, 3), seen, text_positions(resume, 2)], dim=1)
    assert torch.equal(ours, theirs[:, 0])
