# SPDX-License-Identifier: Apache-2.0
"""One camera of the recorder: its buffer, what was seen of it, and the clips cut from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from armor_ros.episodes.episode import CameraClip, CameraEvidence
from armor_ros.episodes.frame_buffer import FrameBuffer
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.stamp_clock import Judgement, StampLog

# Wanted messages whose frame may be outstanding at a time.
_MAX_AWAITED = 16


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """A camera: the name that tasks and reports know it by, and its topic."""

    name: str
    topic: str


class CameraTrack:
    """
    Follows one camera.

    ``reached_ns`` is how far the camera has come: the newest believed stamp of a message that has
    been dealt with, whether or not its frame was kept.
    """

    def __init__(self, config: CameraConfig, settings: EpisodeSettings) -> None:
        self.config = config
        self.buffer = FrameBuffer(
            settings.fps, settings.frame_size, settings.buffer_seconds, settings.buffer_bytes
        )
        self.reached_ns: int | None = None
        self.seen = 0
        self.undecodable = 0
        self.last_error = ''
        self._seen_log = StampLog()
        self._undecodable_log = StampLog()
        self._awaited: dict[int, None] = {}

    def wants(self, stamp_ns: int) -> bool:
        """Count a message as seen, and tell whether its frame is needed."""
        self.seen += 1
        clock = self.buffer.clock
        judgement, doubted = clock.judge(stamp_ns), clock.doubted_ns
        wanted = self.buffer.wants(stamp_ns)
        if judgement is Judgement.JUMP_BACK:
            self.reached_ns = None
            self._seen_log.clear()
            self._undecodable_log.clear()
            self._awaited.clear()
        if judgement is Judgement.DOUBTED or clock.newest_ns is None:
            return False
        if judgement is not Judgement.USUAL and doubted is not None:
            self._seen_log.add(doubted)
        self._seen_log.add(stamp_ns)
        if wanted:
            self._awaited[stamp_ns] = None
            if len(self._awaited) > _MAX_AWAITED:
                del self._awaited[next(iter(self._awaited))]
        else:
            self._reach(stamp_ns)
        return wanted

    def awaits(self, stamp_ns: int) -> bool:
        """Tell whether ``wants`` has asked for this frame and it has not come yet."""
        return stamp_ns in self._awaited

    def push(self, stamp_ns: int, frame: npt.NDArray[np.uint8]) -> bool:
        """Take a frame; tell whether it was kept."""
        self._awaited.pop(stamp_ns, None)
        kept = self.buffer.push(stamp_ns, frame)
        self._reach(stamp_ns)
        return kept

    def reject(self, stamp_ns: int, reason: str) -> None:
        """Count a message that could not be decoded."""
        self._awaited.pop(stamp_ns, None)
        self.undecodable += 1
        self.last_error = reason
        self._undecodable_log.add(stamp_ns)
        self._reach(stamp_ns)

    def has_passed(self, stamp_ns: int) -> bool:
        """Tell whether a message at or after ``stamp_ns`` has been dealt with."""
        return self.reached_ns is not None and self.reached_ns >= stamp_ns

    def has_lost(self, start_ns: int) -> bool:
        """Tell whether a frame stamped at or after ``start_ns`` has left the buffer."""
        until = self.buffer.evicted_until_ns
        return until is not None and until >= start_ns

    def clip(
        self,
        start_ns: int,
        end_ns: int,
        stamps: npt.NDArray[np.int64],
        frames: npt.NDArray[np.uint8],
    ) -> CameraClip:
        """
        Return the clip from ``start_ns`` to ``end_ns``, both included.

        ``stamps`` (N,) and ``frames`` (N, H, W, 3) cover at least that span; the clip is a view.
        """
        first = int(np.searchsorted(stamps, start_ns, 'left'))
        last = int(np.searchsorted(stamps, end_ns, 'right'))
        stamps, frames = stamps[first:last], frames[first:last]
        edges = np.concatenate(([start_ns], stamps, [end_ns])).astype(np.int64)
        evidence = CameraEvidence(
            camera=self.config.name,
            topic=self.config.topic,
            frames_seen=self._seen_log.count(start_ns, end_ns),
            frames_used=len(stamps),
            frames_undecodable=self._undecodable_log.count(start_ns, end_ns),
            first_stamp_ns=int(stamps[0]) if len(stamps) else 0,
            last_stamp_ns=int(stamps[-1]) if len(stamps) else 0,
            largest_gap_ns=int(np.diff(edges).max()),
        )
        return CameraClip(evidence=evidence, frames=frames, stamps_ns=stamps)

    def counters(self) -> dict[str, int | str]:
        """Return the counters for diagnostics; ``last_error`` is why the last image failed."""
        return {
            'seen': self.seen,
            'kept': self.buffer.kept,
            'undecodable': self.undecodable,
            'doubted_stamps': self.buffer.doubted,
            'clock_jumps': self.buffer.jumps,
            'evicted': self.buffer.evicted,
            'buffered_frames': len(self.buffer),
            'buffered_bytes': self.buffer.nbytes,
            'last_stamp_ns': self.buffer.clock.newest_ns or 0,
            'last_error': self.last_error,
        }

    def _reach(self, stamp_ns: int) -> None:
        newest = self.buffer.clock.newest_ns
        if newest is not None and stamp_ns <= newest:
            self.reached_ns = max(self.reached_ns or 0, stamp_ns)
