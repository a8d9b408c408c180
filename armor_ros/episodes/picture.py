# SPDX-License-Identifier: Apache-2.0
"""Pictures as files: JPEG and PNG, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from armor_ros.errors import ArmorError

JPEG_QUALITY = 90


def encode_jpeg(rgb: npt.NDArray[np.uint8]) -> bytes:
    """Return a (H, W, 3) uint8 RGB picture as the bytes of a JPEG."""
    return _encode(rgb, '.jpg')


def save_picture(path: str | os.PathLike[str], rgb: npt.NDArray[np.uint8]) -> Path:
    """
    Write a (H, W, 3) uint8 RGB picture as JPEG or PNG, by the ending of ``path``; return it.

    Folders are made as needed. A file of that name is replaced at once; nobody sees half a
    picture. Raises ArmorError for another ending, and when the file cannot be written.
    """
    path = Path(path)
    data = _encode(rgb, path.suffix.lower())
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        # The same disk, the same trouble: the first error is the one to tell.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ArmorError(
            f'picture {str(path)!r} cannot be written: {error.strerror}; free some room or choose '
            'another folder'
        ) from error
    return path


def _encode(rgb: npt.NDArray[np.uint8], suffix: str) -> bytes:
    if suffix not in ('.jpg', '.jpeg', '.png'):
        raise ArmorError(f'picture file ends in {suffix!r}; give .jpg, .jpeg or .png')
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise ArmorError(f'picture is {rgb.shape} of {rgb.dtype}; give (H, W, 3) of uint8')
    options = [] if suffix == '.png' else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    done, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ArmorError(f'picture of {rgb.shape[1]} x {rgb.shape[0]} pixels cannot be encoded')
    return bytes(data)
