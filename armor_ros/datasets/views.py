# SPDX-License-Identifier: Apache-2.0
"""The views of records: a part of a video, pictures in a row, a ready collage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from armor_ros.datasets.sampling import TOLERANCE_S, ClipSampler, Crop, sampled_indices
from armor_ros.datasets.video import Frames, decode_video, probe_video
from armor_ros.episodes.decoding import CompressedImage, decode_image
from armor_ros.errors import ArmorError

PICTURE_ENDINGS = ('.jpg', '.jpeg', '.png')
MAX_PICTURE_BYTES = 100_000_000
# A file that ends this much before its promised end was cut short: what is missing may be the
# failure.
_MISSING_S = 0.5


@dataclass(frozen=True, slots=True)
class VideoView:
    """
    A part of a video file: from ``start_s`` to before ``end_s`` seconds, None for its end.

    ``crop`` is cut out of each picture before it is resized.
    """

    path: Path
    start_s: float = 0.0
    end_s: float | None = None
    crop: Crop | None = None

    def read(self, fps: float, size: tuple[int, int] | None = None) -> Frames:
        """
        Return the frames as ``record.View`` says; pictures in between are not converted.

        Raises ArmorError when the file cannot be read, holds no frame in this part, or ends more
        than half a second (or two frames) before it should.
        """
        sampler = ClipSampler(f'the video {self.path}', fps, self.crop, size)
        reached_s = 0.0
        with contextlib.closing(decode_video(self.path, self.start_s)) as frames:
            for frame in frames:
                time_s = frame.time_s - self.start_s
                if self.end_s is not None and frame.time_s >= self.end_s - TOLERANCE_S:
                    reached_s = self.end_s
                    break
                reached_s = frame.time_s + frame.duration_s
                if time_s >= -TOLERANCE_S and sampler.wants(time_s):
                    sampler.add(frame.to_rgb(), time_s)
        self._check_end(reached_s, fps)
        return sampler.clip()

    def _check_end(self, reached_s: float, fps: float) -> None:
        promised_s = self.end_s
        if promised_s is None:
            promised_s = probe_video(self.path).seconds
        if promised_s - reached_s > max(_MISSING_S, 2 / fps):
            raise ArmorError(
                f'the video {self.path} ends at {reached_s:.2f} s and should last to '
                f'{promised_s:.2f} s: it was cut short; copy it again'
            )


@dataclass(frozen=True, slots=True)
class PicturesView:
    """
    Picture files in the order of time, recorded at ``fps``.

    ``fps`` 0 means that they have no time: each is one frame, at whatever rate is asked for.
    """

    files: tuple[Path, ...]
    fps: float

    def read(self, fps: float, size: tuple[int, int] | None = None) -> Frames:
        """Return the frames as ``record.View`` says; raises ArmorError naming a bad file."""
        where = f'the pictures in {self.files[0].parent}' if self.files else 'an empty view'
        sampler = ClipSampler(where, fps, None, size)
        previous, frame = -1, None
        for number, index in enumerate(sampled_indices(len(self.files), self.fps, fps)):
            if frame is None or index != previous:
                frame, previous = read_picture(self.files[index], size), index
            sampler.add(frame, number / fps)
        return sampler.clip()


@dataclass(frozen=True, slots=True)
class CollageView:
    """A ready collage: one picture, which has no time."""

    path: Path

    def read(self, fps: float, size: tuple[int, int] | None = None) -> Frames:
        """Return (1, H, W, 3) uint8 RGB; raises ArmorError when the file cannot be read."""
        sampler = ClipSampler(str(self.path), fps, None, size)
        sampler.add(read_picture(self.path, size), 0.0)
        return sampler.clip()


def read_picture(path: Path, smallest: tuple[int, int] | None = None) -> Frames:
    """
    Return a JPEG or PNG file as (H, W, 3) uint8 RGB.

    With ``smallest`` = (height, width) a large JPEG may come at a fraction of its size, though
    not below that. Raises ArmorError when it cannot be read, or is larger than MAX_PIXELS or
    MAX_PICTURE_BYTES.
    """
    try:
        length = path.stat().st_size
        if length > MAX_PICTURE_BYTES:
            raise ArmorError(f'it has {length} bytes; the limit is {MAX_PICTURE_BYTES}')
        return decode_picture(path.read_bytes(), smallest)
    except (OSError, ArmorError) as error:
        raise ArmorError(f'cannot read the picture {path}: {error}') from error


def decode_picture(data: bytes, smallest: tuple[int, int] | None = None) -> Frames:
    """Return the bytes of a JPEG or PNG as ``read_picture`` does; raises DecodeError."""
    return decode_image(CompressedImage('', data), smallest)


def in_order(files: Iterable[Path]) -> tuple[Path, ...]:
    """Sort files by the number in their names, where it is one, else by name: 2.png, 10.png."""
    return tuple(sorted(files, key=lambda file: (_number(file.stem), file.name)))


def _number(stem: str) -> int:
    return int(stem) if stem.isascii() and stem.isdecimal() else -1
