# SPDX-License-Identifier: Apache-2.0
"""
Pixels of ``sensor_msgs/Image`` to RGB, one converter per encoding.

What has no colour is shown in grey. ``mono16`` and the 16 bit colours keep their upper eight bits.
``16UC1`` and ``32FC1`` hold distances (REP 118): the readings of a frame are spread linearly over
1..255, nearest first, a frame without contrast is 128, and pixels without a reading (0 in 16UC1,
NaN or infinite in 32FC1) are 0. ``8UC3`` and ``8UC4`` are blue first, as OpenCV has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from armor_ros.episodes.image import DecodeError, RawImage, check_size, shorten

Frame = npt.NDArray[np.uint8]
_Pixels = npt.NDArray[Any]

# OpenCV names a Bayer pattern by its second row's second and third pixel, ROS by its first row.
BAYER_CODES = {
    'rggb': cv2.COLOR_BayerBG2RGB,
    'bggr': cv2.COLOR_BayerRG2RGB,
    'gbrg': cv2.COLOR_BayerGR2RGB,
    'grbg': cv2.COLOR_BayerGB2RGB,
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """Bytes of one pixel as ``channels`` numbers of ``dtype``, and the way to RGB."""

    dtype: str
    channels: int
    to_rgb: Callable[[_Pixels], Frame]
    even_width: bool = False


def grey_to_rgb(pixels: _Pixels) -> Frame:
    """Repeat a (H, W) uint8 picture over three channels."""
    return _owned(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_GRAY2RGB))


def upper_byte(pixels: _Pixels) -> Frame:
    """Return the upper eight of sixteen bits."""
    return (pixels >> 8).astype(np.uint8)


def stretch(pixels: _Pixels, valid: npt.NDArray[np.bool_]) -> Frame:
    """Spread the valid values of a frame over 1..255; without contrast 128, not valid 0."""
    grey = np.zeros(pixels.shape, np.uint8)
    readings = pixels[valid].astype(np.float64)
    if readings.size:
        low, high = float(readings.min()), float(readings.max())
        if high > low:
            grey[valid] = np.rint(1 + 254 * ((readings - low) / (high - low)))
        else:
            grey[valid] = 128
    return grey


def demosaic(pixels: _Pixels, pattern: str) -> Frame:
    """
    Interpolate the colours of a (H, W) uint8 Bayer picture; ``pattern`` is ROS's, e.g. 'rggb'.

    Less than 3 pixels in a direction leave nothing to interpolate from: shown in grey.
    """
    if min(pixels.shape) < 3:
        return grey_to_rgb(pixels)
    return _owned(cv2.cvtColor(np.ascontiguousarray(pixels), BAYER_CODES[pattern]))


def depth16_to_rgb(pixels: _Pixels) -> Frame:
    """Show 16 bit distances; 0 is no reading."""
    return grey_to_rgb(stretch(pixels, pixels != 0))


def _depth32_to_rgb(pixels: _Pixels) -> Frame:
    return grey_to_rgb(stretch(pixels, np.isfinite(pixels)))


def _owned(pixels: _Pixels) -> Frame:
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _copy(pixels: _Pixels) -> Frame:
    return np.array(pixels, np.uint8, order='C')


def _convert(code: int) -> Callable[[_Pixels], Frame]:
    return lambda pixels: _owned(cv2.cvtColor(np.ascontiguousarray(pixels), code))


def _wide(narrow: Callable[[_Pixels], Frame]) -> Callable[[_Pixels], Frame]:
    return lambda pixels: narrow(upper_byte(pixels))


def _bayer(pattern: str) -> Callable[[_Pixels], Frame]:
    return lambda pixels: demosaic(pixels, pattern)


def _layouts() -> dict[str, _Layout]:
    bgr = _convert(cv2.COLOR_BGR2RGB)
    rgba, bgra = _convert(cv2.COLOR_RGBA2RGB), _convert(cv2.COLOR_BGRA2RGB)
    table = {
        'mono': (1, grey_to_rgb),
        'rgb': (3, _copy),
        'bgr': (3, bgr),
        'rgba': (4, rgba),
        'bgra': (4, bgra),
        **{f'bayer_{pattern}': (1, _bayer(pattern)) for pattern in BAYER_CODES},
    }
    layouts = {}
    for name, (channels, to_rgb) in table.items():
        layouts[f'{name}8'] = _Layout('u1', channels, to_rgb)
        layouts[f'{name}16'] = _Layout('u2', channels, _wide(to_rgb))
    layouts['8uc1'] = layouts['mono8']
    for bits in (8, 16):
        layouts[f'{bits}uc3'] = layouts[f'bgr{bits}']
        layouts[f'{bits}uc4'] = layouts[f'bgra{bits}']
    layouts['16uc1'] = _Layout('u2', 1, depth16_to_rgb)
    layouts['32fc1'] = _Layout('f4', 1, _depth32_to_rgb)
    uyvy = _Layout('u1', 2, _convert(cv2.COLOR_YUV2RGB_UYVY), even_width=True)
    yuyv = _Layout('u1', 2, _convert(cv2.COLOR_YUV2RGB_YUYV), even_width=True)
    layouts.update({'yuv422': uyvy, 'uyvy': uyvy, 'yuv422_yuy2': yuyv, 'yuyv': yuyv})
    return layouts


_LAYOUTS = _layouts()
_PLANAR = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21}
ENCODINGS = (*sorted(_LAYOUTS), *sorted(_PLANAR))


def decode_raw(image: RawImage) -> Frame:
    """Return the (H, W, 3) RGB pixels of a raw image, or raise DecodeError."""
    check_size(image.width, image.height)
    encoding = image.encoding.strip().strip('\0').lower()
    if encoding in _PLANAR:
        return _decode_planar(image, _PLANAR[encoding])
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise DecodeError(
            f'image encoding {shorten(image.encoding)} is not supported; supported are '
            + ', '.join(ENCODINGS)
        )
    if layout.even_width and image.width % 2:
        raise DecodeError(
            f'image width {image.width} is odd, but {encoding} stores pixels in pairs'
        )
    dtype = np.dtype(layout.dtype).newbyteorder('>' if image.is_bigendian else '<')
    pixels = _rows(image, image.height, layout.channels, dtype)
    if dtype.itemsize > 1:
        pixels = pixels.astype(dtype.newbyteorder('='))
    return layout.to_rgb(pixels[..., 0] if layout.channels == 1 else pixels)


def _rows(image: RawImage, rows: int, channels: int, dtype: np.dtype[Any]) -> _Pixels:
    """View ``data`` as (rows, width, channels) without its row padding."""
    row_bytes = image.width * channels * dtype.itemsize
    step = image.step or row_bytes
    if step < row_bytes:
        raise DecodeError(
            f'image step {step} is shorter than a row of {image.width} pixels in '
            f'{shorten(image.encoding)}, {row_bytes} bytes'
        )
    data = np.frombuffer(image.data, np.uint8) if len(image.data) else np.empty(0, np.uint8)
    needed = step * (rows - 1) + row_bytes
    if data.size < needed:
        raise DecodeError(
            f'image data is {data.size} bytes, but {image.width} x {image.height} pixels in '
            f'{shorten(image.encoding)} with step {step} need {needed}'
        )
    strides = (step, channels * dtype.itemsize, dtype.itemsize)
    return np.ndarray((rows, image.width, channels), dtype, data.data, 0, strides)


def _decode_planar(image: RawImage, code: int) -> Frame:
    """
    Decode NV12 and NV21: a plane of brightness, then half as many rows of colour.

    ``height`` counts the rows of the picture; where the data is exactly ``step * height`` long,
    it counts the rows of both planes, as OpenCV has it.
    """
    step, rows = image.step or image.width, image.height
    if len(image.data) == step * rows and rows % 3 == 0:
        rows = rows * 2 // 3
    if image.width % 2 or rows % 2:
        raise DecodeError(
            f'image of {image.width} x {rows} pixels in {shorten(image.encoding)}: both must be '
            'even'
        )
    planes = _rows(image, rows * 3 // 2, 1, np.dtype('u1'))[..., 0]
    return _owned(cv2.cvtColor(np.ascontiguousarray(planes), code))
