# SPDX-License-Identifier: Apache-2.0
"""Pictures of any source to a clip at a steady rate, with the memory that the clip needs."""

from __future__ import annotations

import math

import numpy as np

from armor_ros.datasets.video import Frames
from armor_ros.episodes.decoding import resize
from armor_ros.errors import ArmorError

# Longer or larger than any task: a damaged time stamp, or a clip asked for in full size.
MAX_FRAMES = 20_000
MAX_CLIP_BYTES = 4 << 30
# Stamps that differ by less than this differ by rounding only.
TOLERANCE_S = 1e-3

# (left, top, right, bottom) in pixels, right and bottom exclusive.
Crop = tuple[int, int, int, int]


class ClipSampler:
    """
    Takes pictures in the order of their times and keeps those of a clip at ``fps``.

    Frame k of the clip is the first picture at or after k / fps seconds; where pictures are
    farther apart than that, one stands for several frames. ``name`` is used in errors. Raises
    ArmorError when the rate or a size is out of range, or the clip grows beyond the limits.
    """

    def __init__(
        self,
        name: str,
        fps: float,
        crop: Crop | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        if not 0 < fps <= 1000:
            raise ArmorError(f'fps is {fps}; give a number above 0, at most 1000')
        if size is not None and min(size) < 1:
            raise ArmorError(f'size is {size}; give (height, width) of at least one pixel')
        self._name = name
        self._fps = fps
        self._crop = crop
        self._size = size
        self._frames: list[Frames] = []

    def wants(self, time_s: float) -> bool:
        """Tell whether the next frame of the clip lies at or before ``time_s``."""
        return len(self._frames) / self._fps <= time_s + TOLERANCE_S

    def add(self, picture: Frames, time_s: float) -> None:
        """Keep (H, W, 3) for every frame up to ``time_s`` that has none yet."""
        fitted = self._fit(picture)
        while self.wants(time_s):
            if len(self._frames) == MAX_FRAMES:
                raise ArmorError(
                    f'{self._name} gives more than {MAX_FRAMES} frames at {self._fps:g} a second; '
                    'lower the rate, or cut the recording into tasks'
                )
            self._frames.append(fitted)
        if len(self._frames) * fitted.nbytes > MAX_CLIP_BYTES:
            raise ArmorError(
                f'{self._name} takes more than {MAX_CLIP_BYTES >> 30} GiB at '
                f'{fitted.shape[1]} x {fitted.shape[0]} pixels; ask for a smaller size'
            )

    def clip(self) -> Frames:
        """Return (T, H, W, 3) uint8 RGB and forget it; raises ArmorError without a frame."""
        if not self._frames:
            raise ArmorError(f'{self._name} holds no frame')
        film = np.empty((len(self._frames), *self._frames[0].shape), np.uint8)
        # the last first, so that each picture is freed when it has been copied
        for index in reversed(range(len(film))):
            film[index] = self._frames.pop()
        return film

    def _fit(self, picture: Frames) -> Frames:
        if self._crop is not None:
            left, top, right, bottom = self._crop
            height, width = picture.shape[:2]
            if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                raise ArmorError(
                    f'crop is {self._crop} (left, top, right, bottom); it must lie within the '
                    f'{width} x {height} pixels of {self._name}, or be left out'
                )
            picture = picture[top:bottom, left:right]
        if self._size is not None:
            size = self._size
        elif self._frames:
            # pictures of odd sizes take that of the first
            size = (self._frames[0].shape[0], self._frames[0].shape[1])
        else:
            size = (picture.shape[0], picture.shape[1])
        fitted = resize(picture, size)
        return fitted if fitted is not picture else np.ascontiguousarray(picture)


def sampled_indices(count: int, recorded_fps: float, fps: float) -> list[int]:
    """
    Return which of ``count`` pictures at ``recorded_fps`` make a clip at ``fps``, ascending.

    A picture may come several times. ``recorded_fps`` 0 means that the pictures have no time:
    all are taken, once.
    """
    if recorded_fps == 0:
        return list(range(count))
    indices: list[int] = []
    while len(indices) <= MAX_FRAMES:
        time_s = len(indices) / fps
        index = math.ceil((time_s - TOLERANCE_S) * recorded_fps)
        if index >= count:
            break
        indices.append(max(0, index))
    return indices
