# SPDX-License-Identifier: Apache-2.0
"""Clips as mp4: what goes in comes out, the same frames give the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from armor_ros.datasets.video import read_video, write_video
from armor_ros.errors import ArmorError


def clip(frames: int = 12, height: int = 64, width: int = 96) -> np.ndarray:
    """Smooth colours with a square that moves."""
    y, x = np.mgrid[:height, :width]
    ground = np.stack([x, 2 * y, 200 - x], axis=-1).astype(np.uint8)
    film = np.repeat(ground[None], frames, axis=0)
    for index in range(frames):
        film[index, 20:40, 3 * index : 3 * index + 20] = (220, 30, 40)
    return film


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    error = float(((first.astype(float) - second) ** 2).mean())
    return 10 * float(np.log10(255**2 / error))


@pytest.mark.parametrize('fps', [5.0, 7.5, 1.0])
def test_frames_come_back_nearly_as_they_were(tmp_path: Path, fps: float) -> None:
    film = clip()
    write_video(tmp_path / 'a.mp4', film, fps)
    back = read_video(tmp_path / 'a.mp4')
    assert back.shape == film.shape
    assert back.dtype == np.uint8
    assert psnr(film, back) > 30
    # in their order, and none twice
    distances = [[np.abs(f.astype(int) - b).mean() for b in back] for f in film]
    assert np.argmin(distances, axis=1).tolist() == list(range(len(film)))


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    film = clip() + rng.integers(0, 20, (12, 64, 96, 3), np.uint8)
    for name in 'abc':
        write_video(tmp_path / f'{name}.mp4', film, 5.0)
    assert len({(tmp_path / f'{name}.mp4').read_bytes() for name in 'abc'}) == 1


def test_one_frame_is_a_clip(tmp_path: Path) -> None:
    write_video(tmp_path / 'a.mp4', clip(1), 5.0)
    assert len(read_video(tmp_path / 'a.mp4')) == 1


@pytest.mark.parametrize(
    ('film', 'words'),
    [
        (np.zeros((0, 64, 64, 3), np.uint8), r'\(0, 64, 64, 3\)'),
        (np.zeros((2, 64, 64), np.uint8), 'T, H, W, 3'),
        (np.zeros((2, 64, 64, 3), float), 'float64'),
        (np.zeros((2, 63, 64, 3), np.uint8), '64 x 63'),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, film: np.ndarray, words: str) -> None:
    with pytest.raises(ArmorError, match=words):
        write_video(tmp_path / 'a.mp4', film, 5.0)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArmorError, match=r'none\.mp4'):
        read_video(tmp_path / 'none.mp4')
    (tmp_path / 'junk.mp4').write_bytes(b'this is no film')
    with pytest.raises(ArmorError, match=r'junk\.mp4'):
        read_video(tmp_path / 'junk.mp4')
    with pytest.raises(ArmorError, match=r'a\.mp4'):
        write_video(tmp_path / 'missing' / 'a.mp4', clip(2), 5.0)
    write_video(tmp_path / 'cut.mp4', clip(), 5.0)
    data = (tmp_path / 'cut.mp4').read_bytes()
    (tmp_path / 'cut.mp4').write_bytes(data[: len(data) // 2])
    with pytest.raises(ArmorError, match=r'cut\.mp4'):
        read_video(tmp_path / 'cut.mp4')
