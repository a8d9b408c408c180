# SPDX-License-Identifier: Apache-2.0
"""Short clips as mp4 files, by PyAV: the frames of one camera, written and read whole."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from armor_ros.errors import ArmorError

Frames = npt.NDArray[np.uint8]

# The first that this build of FFmpeg has. The same frames give the same bytes: one thread, no
# time of day in the file, and without the macroblock tree, which differs from run to run.
_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ('libx264', {'crf': '18', 'preset': 'veryfast', 'threads': '1', 'g': '10', 'mbtree': '0'}),
    ('mpeg4', {'qscale': '2', 'threads': '1', 'g': '10'}),
)


def write_video(path: Path, frames: Frames, fps: float) -> None:
    """
    Write (T, H, W, 3) uint8 RGB frames as an mp4 file; H and W must be even.

    Raises ArmorError when the frames do not fit, or the file cannot be written.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ArmorError(
            f'a clip is {frames.shape} of {frames.dtype}; give (T, H, W, 3) of uint8, T at least 1'
        )
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ArmorError(f'a clip of {width} x {height} pixels: mp4 needs even sides')
    av = _import_av()
    name, options = _encoder(av)
    try:
        with av.open(str(path), 'w', options={'fflags': '+bitexact'}) as container:
            rate = Fraction(fps).limit_denominator(1000)
            stream = container.add_stream(name, rate=rate, options=options)
            stream.width, stream.height = width, height
            stream.pix_fmt = 'yuv420p'
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
            for index, frame in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='rgb24')
                picture.pts, picture.time_base = index, 1 / rate
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
    except (av.error.FFmpegError, OSError) as error:
        raise ArmorError(f'cannot write {path}: {error}') from error


def read_video(path: Path, most: int | None = None) -> Frames:
    """
    Return the first ``most`` frames of a video file, else all, (T, H, W, 3) uint8 RGB.

    Raises ArmorError when it cannot be read or holds no frame.
    """
    av = _import_av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ArmorError(f'{path} holds no video')
            pictures = itertools.islice(container.decode(video=0), most)
            frames = [picture.to_ndarray(format='rgb24') for picture in pictures]
    except (av.error.FFmpegError, OSError) as error:
        raise ArmorError(f'cannot read the video {path}: {error}') from error
    if not frames:
        raise ArmorError(f'the video {path} holds no frame')
    return np.stack(frames)


def _encoder(av: Any) -> tuple[str, dict[str, str]]:
    for name, options in _ENCODERS:
        if name in av.codecs_available:
            try:
                av.codec.Codec(name, 'w')
            except (ValueError, av.error.FFmpegError):
                continue
            return name, options
    names = ', '.join(name for name, _ in _ENCODERS)
    raise ArmorError(f'PyAV here can encode none of {names}: pip install --force-reinstall av')


def _import_av() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise ArmorError(
            'mp4 files need PyAV, which is not installed: '
            "pip install 'armor-ros[simulation]' (or av)"
        ) from error
    return av
