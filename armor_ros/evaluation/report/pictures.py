# SPDX-License-Identifier: Apache-2.0
"""Pictures of the evidence, made small enough that a page can hold them."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from armor_ros.episodes.decoding import CompressedImage, DecodeError, decode_image, resize
from armor_ros.evaluation.evidence_file import evidence_path
from armor_ros.evaluation.lines import Line

# Bytes of all pictures of a page together, before base64 makes a third more of them.
BUDGET = 9_000_000
# Width in pixels by the number of pictures: few may be seen better.
_WIDTHS = ((40, 1344), (160, 1008))
_SMALLEST_WIDTH = 672
_MAX_HEIGHT = 1400
_MAX_FILE = 32 << 20
_QUALITY = 72


def choose(lines: Sequence[Line], order: Sequence[int]) -> list[int]:
    """
    Return the order in which lines get a picture while there is room.

    ``order`` are their indices, the most telling first. Of every two, one is the next of these,
    the other the next from a kind (task, label and verdict) in turn, so that whatever a reader
    looks for has some pictures.
    """
    kinds: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for index in order:
        line = lines[index]
        kind = (line.get('task_kind') or '', str(line['label']), line['verdict'])
        kinds[kind].append(index)
    turns = sorted(
        (turn, rank, index)
        for rank, indices in enumerate(kinds.values())
        for turn, index in enumerate(indices)
    )
    chosen: dict[int, None] = {}
    for first, (_, _, second) in zip(order, turns, strict=True):
        chosen[first] = None
        chosen[second] = None
    return list(chosen)


def embed(folder: Path, lines: Sequence[Line], order: Sequence[int]) -> dict[int, str]:
    """
    Return data URIs of the evidence by the index of its line, for as many as there is room.

    ``order`` says who comes first. A picture that cannot be read is left out.
    """
    files = {index: path for index in order if (path := evidence_path(folder, lines[index]))}
    width = next((width for most, width in _WIDTHS if len(files) <= most), _SMALLEST_WIDTH)
    uris: dict[int, str] = {}
    room = BUDGET
    for index in order:
        data = _small_jpeg(files[index], width) if index in files else None
        if data is None:
            continue
        room -= len(data)
        if room < 0:
            break
        uris[index] = 'data:image/jpeg;base64,' + base64.b64encode(data).decode('ascii')
    return uris


def _small_jpeg(path: Path, width: int) -> bytes | None:
    """Return the picture as a JPEG of at most a width, None when it cannot be read."""
    try:
        if path.stat().st_size > _MAX_FILE:
            return None
        picture = decode_image(CompressedImage('jpeg', path.read_bytes()))
    except (OSError, DecodeError):
        return None
    scale = min(1.0, width / picture.shape[1], _MAX_HEIGHT / picture.shape[0])
    size = (max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale)))
    small: npt.NDArray[np.uint8] = resize(picture, size)
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    done, data = cv2.imencode('.jpg', cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)
    return data.tobytes() if done else None
