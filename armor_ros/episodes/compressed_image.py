# SPDX-License-Identifier: Apache-2.0
"""
JPEG and PNG of ``sensor_msgs/CompressedImage`` to RGB.

The bytes tell what they are; of the format string only the encoding before the semicolon is used,
for what a file cannot say: that a grey picture is a Bayer mosaic or holds distances. The size is
read from the header before anything is decoded, and a file without its end is refused, since
decoders fill the missing part with grey.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from armor_ros.episodes.image import CompressedImage, DecodeError, check_size, shorten
from armor_ros.episodes.png import PNG_START, png_size
from armor_ros.episodes.raw_image import (
    BAYER_CODES,
    Frame,
    demosaic,
    depth16_to_rgb,
    grey_to_rgb,
    upper_byte,
)

_JPEG_START = b'\xff\xd8\xff'
_JPEG_END = b'\xff\xd9'
# Start of frame markers: all of 0xC0..0xCF but the tables DHT, JPG and DAC.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA
# Markers without a length: TEM, and the restart markers with the start of the image.
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})

_REDUCED_MODES = (
    (8, cv2.IMREAD_REDUCED_COLOR_8),
    (4, cv2.IMREAD_REDUCED_COLOR_4),
    (2, cv2.IMREAD_REDUCED_COLOR_2),
)


def decode_compressed(image: CompressedImage, smallest: tuple[int, int] | None = None) -> Frame:
    """
    Return the (H, W, 3) RGB pixels of a compressed image, or raise DecodeError.

    A coloured JPEG is decoded at a half, a quarter or an eighth of its size, which is cheaper, as
    long as it keeps at least ``smallest`` = (height, width); None means whole.
    """
    if not len(image.data):
        raise DecodeError('compressed image has 0 bytes')
    if 'compresseddepth' in image.format.lower():
        raise DecodeError(
            f'compressed image format {shorten(image.format)} packs distances behind a header '
            'of its own; subscribe to the raw depth topic'
        )
    data = bytes(memoryview(image.data).cast('B'))
    reducible = False
    if data.startswith(_JPEG_START):
        width, height, components = _jpeg_header(data)
        reducible = components == 3
    elif data.startswith(PNG_START):
        width, height = png_size(data)
    else:
        raise DecodeError(
            f'compressed image with format {shorten(image.format)} is neither JPEG nor PNG; it '
            f'begins with the bytes {data[:4].hex(" ")}'
        )
    check_size(width, height)
    mode = _mode(height, width, smallest) if reducible and smallest else cv2.IMREAD_UNCHANGED
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    if pixels is None:
        raise DecodeError(f'compressed image of {len(data)} bytes is damaged')
    return _to_rgb(pixels, image.format.partition(';')[0].strip().lower())


def _mode(height: int, width: int, smallest: tuple[int, int]) -> int:
    """Return OpenCV's mode for the smallest picture that is still large enough."""
    for factor, mode in _REDUCED_MODES:
        if height // factor >= smallest[0] and width // factor >= smallest[1]:
            # Unchanged decoding does not turn pictures either.
            return mode | cv2.IMREAD_IGNORE_ORIENTATION
    return int(cv2.IMREAD_UNCHANGED)


def _jpeg_header(data: bytes) -> tuple[int, int, int]:
    """Return (width, height, components) of a JPEG; raise DecodeError when it is cut short."""
    header = None
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _JPEG_BARE:
            position += 2
            continue
        if marker in _JPEG_FRAMES and position + 10 <= len(data):
            height, width, components = struct.unpack_from('>HHB', data, position + 5)
            header = (width, height, components)
        if marker == _JPEG_SCAN:
            if header is None:
                break
            if data.find(_JPEG_END, position) < 0:
                raise DecodeError(f'JPEG of {len(data)} bytes is cut short: it has no end')
            return header
        position += 2 + struct.unpack_from('>H', data, position + 2)[0]
    raise DecodeError(f'JPEG of {len(data)} bytes is cut short or damaged: it has no picture')


def _to_rgb(pixels: npt.NDArray[Any], source: str) -> Frame:
    """Convert what OpenCV decoded: grey, BGR or BGRA of 8 or 16 bit."""
    grey = pixels.ndim == 2 or pixels.shape[2] == 1
    if grey:
        pixels = pixels.reshape(pixels.shape[:2])
    if pixels.dtype == np.uint16:
        if grey and source == '16uc1':
            return depth16_to_rgb(pixels)
        pixels = upper_byte(pixels)
    if pixels.dtype != np.uint8:
        raise DecodeError(f'compressed image of {pixels.dtype} numbers is not supported')
    if grey:
        pattern = source[len('bayer_') : len('bayer_') + 4]
        if source.startswith('bayer_') and pattern in BAYER_CODES:
            return demosaic(pixels, pattern)
        return grey_to_rgb(pixels)
    code = cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.ascontiguousarray(cv2.cvtColor(pixels, code), dtype=np.uint8)
