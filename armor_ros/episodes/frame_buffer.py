# SPDX-License-Identifier: Apache-2.0
"""The latest frames of one camera, sampled evenly and bounded in seconds and bytes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import cast

import numpy as np
import numpy.typing as npt

from armor_ros.episodes.frame_sequence import Frame, FrameSequence
from armor_ros.episodes.settings import period_ns, seconds_to_ns
from armor_ros.episodes.stamp_clock import Judgement, StampClock
from armor_ros.errors import ArmorError

# Stamps of ROS messages fit into int32 seconds.
MAX_STAMP_NS = 2**31 * 1_000_000_000


class FrameBuffer:
    """
    Keeps the first frame of each slot of the stamp clock: slot = stamp // (1e9 / fps).

    Frames that come late are sorted in. Frames more than ``max_seconds`` older than the newest go,
    and the oldest ones go whenever a further frame would exceed ``max_bytes``. When the clock
    jumps back (see StampClock) all frames go: a new epoch begins. An evenly sampled clip needs a
    camera of at least about twice ``fps``.

    Raises ArmorError when not even one frame of ``size`` = (height, width) fits ``max_bytes``.
    """

    def __init__(
        self, fps: float, size: tuple[int, int], max_seconds: float, max_bytes: int
    ) -> None:
        frame_bytes = size[0] * size[1] * 3
        if max_bytes < frame_bytes:
            raise ArmorError(
                f'a buffer of {max_bytes} bytes does not hold one frame of {size[1]} x {size[0]} '
                f'pixels, {frame_bytes} bytes; raise buffer_bytes or lower the frame size'
            )
        self.clock = StampClock()
        self.kept = 0
        self.doubted = 0
        self.jumps = 0
        self.evicted = 0
        # Newest stamp among the frames that had to go in this epoch: a clip that begins at or
        # before it is incomplete.
        self.evicted_until_ns: int | None = None
        self._period_ns = period_ns(fps)
        self._size = size
        self._shape = (*size, 3)
        self._frame_bytes = frame_bytes
        self._max_ns = seconds_to_ns(max_seconds)
        self._max_frames = max_bytes // frame_bytes
        self._stamps: list[int] = []
        self._frames: list[Frame] = []

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames kept."""
        return len(self._frames) * self._frame_bytes

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest frame kept."""
        return self._stamps[-1] if self._stamps else None

    def would_drop(self, stamp_ns: int) -> bool:
        """Tell whether this stamp confirms a jump at which frames are lost."""
        judgement = self.clock.judge(stamp_ns)
        if judgement is Judgement.JUMP_FORWARD:
            return bool(self._stamps) and stamp_ns - self._stamps[0] > self._max_ns
        return judgement is Judgement.JUMP_BACK

    def wants(self, stamp_ns: int) -> bool:
        """
        Follow the stamp, and tell whether a frame with it would be kept.

        Cheap: to be asked of every message before it is decoded.
        """
        if not 0 <= stamp_ns < MAX_STAMP_NS:
            self.doubted += 1
            return False
        judgement = self.clock.note(stamp_ns)
        if judgement is Judgement.DOUBTED:
            self.doubted += 1
            return False
        if judgement is not Judgement.USUAL:
            self.jumps += 1
        if judgement is Judgement.JUMP_BACK:
            self._stamps.clear()
            self._frames.clear()
            self.evicted_until_ns = None
        return self._has_room_for(stamp_ns)

    def push(self, stamp_ns: int, frame: Frame) -> bool:
        """
        Keep ``frame`` (height, width, 3) uint8 if its slot is free; tell whether it was kept.

        The frame is kept as it is when it owns its memory, else as a copy, and must not be
        changed afterwards. Raises ArmorError for another shape or type.
        """
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ArmorError(
                f'frame is {frame.shape} of {frame.dtype}; this buffer takes {self._shape} of '
                'uint8: resize it first'
            )
        if not self.wants(stamp_ns):
            return False
        self._evict_before(stamp_ns - self._max_ns)
        while len(self._stamps) >= self._max_frames:
            self._evict(1)
        # A view would keep alive more bytes than are counted here.
        frame = frame if frame.base is None else frame.copy()
        frame.flags.writeable = False
        index = bisect_left(self._stamps, stamp_ns)
        self._stamps.insert(index, stamp_ns)
        self._frames.insert(index, frame)
        self.kept += 1
        return True

    def span(self, start_ns: int, end_ns: int) -> list[tuple[int, Frame]]:
        """Return the (stamp, frame) pairs from ``start_ns`` to ``end_ns``, both included."""
        first = bisect_left(self._stamps, start_ns)
        last = bisect_right(self._stamps, end_ns)
        return list(zip(self._stamps[first:last], self._frames[first:last]))  # noqa: B905

    def select(
        self, start_ns: int, end_ns: int, *, stacked: bool = True
    ) -> tuple[npt.NDArray[np.int64], Frame]:
        """
        Return stamps (N,) int64 and frames (N, H, W, 3) of a span, both ends included.

        The frames are a copy, or if not ``stacked`` a ``FrameSequence`` of the buffer's own.
        """
        pairs = self.span(start_ns, end_ns)
        stamps = np.array([stamp for stamp, _ in pairs], np.int64)
        if not stacked:
            frames = FrameSequence([frame for _, frame in pairs], self._size)
            return stamps, cast('Frame', frames)
        if not pairs:
            return stamps, np.empty((0, *self._shape), np.uint8)
        return stamps, np.stack([frame for _, frame in pairs])

    def _has_room_for(self, stamp_ns: int) -> bool:
        if not self._stamps:
            return True
        if stamp_ns < self._stamps[-1] - self._max_ns:
            return False
        # A late frame older than all others would be the first to go again.
        if stamp_ns < self._stamps[0] and (
            len(self._stamps) >= self._max_frames or self._was_evicted(stamp_ns)
        ):
            return False
        slot_ns = stamp_ns - stamp_ns % self._period_ns
        index = bisect_left(self._stamps, slot_ns)
        return index == len(self._stamps) or self._stamps[index] >= slot_ns + self._period_ns

    def _was_evicted(self, stamp_ns: int) -> bool:
        return self.evicted_until_ns is not None and stamp_ns <= self.evicted_until_ns

    def _evict_before(self, limit_ns: int) -> None:
        self._evict(bisect_left(self._stamps, limit_ns))

    def _evict(self, count: int) -> None:
        if count:
            self.evicted_until_ns = self._stamps[count - 1]
            self.evicted += count
            del self._stamps[:count]
            del self._frames[:count]
