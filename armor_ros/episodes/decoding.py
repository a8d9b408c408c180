# SPDX-License-Identifier: Apache-2.0
"""Images of any camera to RGB frames: the one decoder of the live node and of bags."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from armor_ros.episodes.compressed_image import decode_compressed
from armor_ros.episodes.image import MAX_PIXELS, CompressedImage, DecodeError, RawImage
from armor_ros.episodes.raw_image import ENCODINGS, decode_raw

__all__ = [
    'ENCODINGS',
    'MAX_PIXELS',
    'CompressedImage',
    'DecodeError',
    'RawImage',
    'decode_image',
    'resize',
]


def decode_image(
    image: RawImage | CompressedImage, smallest: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8]:
    """
    Return the picture as (H, W, 3) uint8 RGB in memory of its own.

    With ``smallest`` = (height, width) a large JPEG may come at a fraction of its size, though
    not below that: for those who are going to resize it anyway. How encodings without colour are
    shown is told in :mod:`armor_ros.episodes.raw_image`.

    Raises DecodeError for anything that cannot be shown: an unknown encoding, less data than the
    header promises, a file cut short, more than MAX_PIXELS pixels (before decoding).
    """
    try:
        if isinstance(image, RawImage):
            return decode_raw(image)
        return decode_compressed(image, smallest)
    except (cv2.error, ValueError, TypeError, BufferError, MemoryError) as error:
        raise DecodeError(f'image cannot be decoded: {error}') from error


def resize(frame: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """
    Return ``frame`` (H, W, 3) with ``size`` = (height, width); the frame itself when equal.

    Areas are averaged on the way down, halves first (for speed), and interpolated linearly on the
    way up.
    """
    height, width = size
    while (
        frame.shape[0] >= 2 * height
        and frame.shape[1] >= 2 * width
        and frame.shape[0] % 2 == frame.shape[1] % 2 == 0
    ):
        half = (frame.shape[1] // 2, frame.shape[0] // 2)
        frame = np.asarray(cv2.resize(frame, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if frame.shape[:2] == (height, width):
        return frame
    smaller = height < frame.shape[0] or width < frame.shape[1]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    scaled = cv2.resize(frame, (width, height), interpolation=interpolation)
    return np.asarray(scaled, dtype=np.uint8)
