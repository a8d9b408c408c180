# SPDX-License-Identifier: Apache-2.0
"""Camera images as plain values, as they come out of a message before they are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from armor_ros.errors import ArmorError

# A frame larger than this is refused before a single pixel is decoded: it is a damaged header or
# a decompression bomb, no robot's camera.
MAX_PIXELS = 25_000_000


class DecodeError(ArmorError):
    """An image that cannot be decoded; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class RawImage:
    """
    The plain values of ``sensor_msgs/Image``.

    ``step`` is the length of a row in bytes, padding included; 0 means no padding. ``data`` is
    anything with the buffer protocol: bytes, ``array.array``, a uint8 array.
    """

    encoding: str
    width: int
    height: int
    step: int
    is_bigendian: bool
    data: Any


@dataclass(frozen=True, slots=True)
class CompressedImage:
    """The plain values of ``sensor_msgs/CompressedImage``; ``data`` as in :class:`RawImage`."""

    format: str
    data: Any


def check_size(width: int, height: int) -> None:
    """Raise DecodeError unless the image has between 1 and MAX_PIXELS pixels."""
    if width < 1 or height < 1:
        raise DecodeError(f'image of {width} x {height} pixels has no content')
    if width * height > MAX_PIXELS:
        raise DecodeError(
            f'image claims {width} x {height} pixels, more than the limit of {MAX_PIXELS}; '
            'lower the resolution of the camera'
        )


def shorten(text: str, limit: int = 60) -> str:
    """Return ``text`` quoted for an error message, cut to ``limit`` characters."""
    return repr(text if len(text) <= limit else text[:limit] + '...')
