# SPDX-License-Identifier: Apache-2.0
"""Video files by PyAV: the frames of one camera, written and read whole, or decoded in turn."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from armor_ros.episodes.image import MAX_PIXELS, check_size
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


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """What a file says of its first video stream; ``fps`` and ``seconds`` are 0 where unknown."""

    width: int
    height: int
    fps: float
    seconds: float


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """
    One frame of a video, not converted yet.

    ``time_s`` counts from the stream's first frame; ``duration_s`` is how long it is shown, 0
    where the file does not say.
    """

    path: Path
    time_s: float
    duration_s: float
    picture: Any

    def to_rgb(self) -> Frames:
        """Return (H, W, 3) uint8 RGB; raises ArmorError when it is too large or damaged."""
        try:
            check_size(self.picture.width, self.picture.height)
            pixels: Frames = self.picture.to_ndarray(format='rgb24')
        except (ArmorError, OSError, ValueError, MemoryError) as error:
            raise ArmorError(
                f'cannot read the video {self.path} at {self.time_s:.2f} s: {error}'
            ) from error
        return pixels


def read_video(path: Path, most: int | None = None) -> Frames:
    """
    Return the first ``most`` frames of a video file, else all, (T, H, W, 3) uint8 RGB.

    Raises ArmorError when it cannot be read or holds no frame.
    """
    with contextlib.closing(decode_video(path)) as decoded:
        frames = [frame.to_rgb() for frame in itertools.islice(decoded, most)]
    if not frames:
        raise ArmorError(f'the video {path} holds no frame')
    return np.stack(frames)


def probe_video(path: Path) -> VideoHeader:
    """Read the header of a video file; raises ArmorError when it cannot be read."""
    with _open_video(path) as (_, stream):
        return _header(stream)


def decode_video(path: Path, start_s: float = 0.0) -> Generator[DecodedFrame, None, None]:
    """
    Yield the frames of a video file in turn, from the last key frame before ``start_s`` on.

    Close the iterator when it is not read to its end. Raises ArmorError when the file cannot be
    read, is damaged, or has pictures of more than MAX_PIXELS pixels.
    """
    with _open_video(path) as (container, stream):
        origin = stream.start_time or 0
        step = stream.time_base or Fraction(1, 1000)
        if start_s > 0:
            container.seek(origin + int(start_s / step), stream=stream)
        rate = stream.average_rate or Fraction(1)
        for index, picture in enumerate(container.decode(stream)):
            # raw streams have frames without stamps
            time = index / rate if picture.pts is None else (picture.pts - origin) * step
            duration = getattr(picture, 'duration', None) or 0
            yield DecodedFrame(path, float(time), float(duration * step), picture)


@contextlib.contextmanager
def _open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file; whatever PyAV makes of a damaged one becomes one ArmorError."""
    av = _import_av()
    try:
        # the names in a file's tags may be in any encoding
        with av.open(str(path), metadata_errors='ignore') as container:
            if not container.streams.video:
                raise ArmorError('it holds no video stream')
            stream = container.streams.video[0]
            check_size(stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.options = {'max_pixels': str(MAX_PIXELS)}
            yield container, stream
    except ArmorError as error:
        raise ArmorError(f'cannot read the video {path}: {error}') from error
    except (
        av.error.FFmpegError,
        OSError,
        ValueError,
        ArithmeticError,
        MemoryError,
        AttributeError,
    ) as error:
        raise ArmorError(f'cannot read the video {path}: {error}') from error


def _header(stream: Any) -> VideoHeader:
    rate, step, duration = stream.average_rate, stream.time_base, stream.duration
    return VideoHeader(
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        fps=float(rate) if rate else 0.0,
        seconds=float(duration * step) if duration and step else 0.0,
    )


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
