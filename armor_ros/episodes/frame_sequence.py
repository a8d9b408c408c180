# SPDX-License-Identifier: Apache-2.0
"""Frames that read like one array and stay where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]


class FrameSequence:
    """
    N frames, each (H, W, 3) uint8, that read like an (N, H, W, 3) array.

    A minute of three cameras is a quarter of a gigabyte: copying it together at a task's end
    would hold up the thread that takes the next images, and the node never needs it in one piece.
    ``numpy.asarray`` makes the copy for whoever does. Frames must not be changed.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, frames: Sequence[Frame], size: tuple[int, int]) -> None:
        """``size`` is (H, W), for when there are no frames."""
        self._frames = tuple(frames)
        self._size = size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """N, H, W, 3."""
        return (len(self._frames), *self._size, 3)

    @property
    def size(self) -> int:
        """Number of values, which is also the number of bytes."""
        return len(self._frames) * self._size[0] * self._size[1] * 3

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> FrameSequence: ...
    def __getitem__(self, index: int | slice) -> Frame | FrameSequence:
        if isinstance(index, slice):
            return FrameSequence(self._frames[index], self._size)
        return self._frames[index]

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[np.generic]:
        """Return the frames in one new array, which they always take, whatever ``copy`` says."""
        stacked = np.stack(self._frames) if self._frames else np.empty(self.shape, np.uint8)
        return stacked if dtype is None else stacked.astype(dtype, copy=False)
