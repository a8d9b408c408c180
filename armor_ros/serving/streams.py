# SPDX-License-Identifier: Apache-2.0
"""The episodes that are encoded while they happen, whenever the model has nothing else to do."""

from __future__ import annotations

import contextlib
import itertools
import logging
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from armor_ros.episodes.diagnosis import InputMode
from armor_ros.serving.frame_store import Checksum, FrameStore, ServerSession, named_frames
from armor_ros.serving.messages import Submit

MEGABYTE = 1024 * 1024
# Each holds keys and values of up to some ten thousand tokens, of 56 KiB each in a 7B model.
MAX_STREAMS = 4
STREAM_MEGABYTES = 4096
# Frames that a stream is given ahead of its steps; the others wait in the store.
FRAMES_AHEAD = 8

_logger = logging.getLogger(__name__)


class Stream(Protocol):
    """What serving asks of ``armor_ros.inference.stream.EpisodeStream``."""

    @property
    def waiting(self) -> int:
        """Frames pushed and not encoded yet."""

    @property
    def nbytes(self) -> int:
        """Bytes held beside the frames that wait."""

    @property
    def nbytes_after_step(self) -> int:
        """What ``nbytes`` may be after the next ``step``, at most."""

    def push(self, stamp_ns: int, frame: npt.NDArray[np.uint8]) -> bool:
        """Take a frame; return False when it is not taken."""

    def step(self) -> bool:
        """Encode some of what waits; return whether there was any."""

    def close(self) -> None:
        """Free all memory."""


class StreamOpener(Protocol):
    """``armor_ros.inference.diagnoser.Diagnoser.open_stream``."""

    def __call__(self, *, fps: float | None = None, camera: str = '') -> Stream:
        """Open a stream of one camera's frames, sampled at ``fps``."""


@dataclass(slots=True)
class _Growing:
    stream: Stream
    pushed: dict[int, Checksum] = field(default_factory=dict)
    turn: int = 0
    was_held_back: bool = False


class StreamPool:
    """
    At most ``limit`` open streams of ``max_bytes``; all methods belong to the model's thread.

    A stream that would grow beyond the room there is waits until another ends; what it could not
    take is encoded at the episode's end. Whatever happens to a stream costs time, never an
    answer: it is closed, and the episode is encoded at its end.
    """

    def __init__(
        self,
        open_stream: StreamOpener,
        input_mode: InputMode,
        store: FrameStore,
        limit: int = MAX_STREAMS,
        max_bytes: int = STREAM_MEGABYTES * MEGABYTE,
    ) -> None:
        """``input_mode`` is the checkpoint's."""
        self._open_stream = open_stream
        self._input_mode = input_mode
        self._store = store
        self._limit = limit
        self._max_bytes = max_bytes
        self._growing: dict[ServerSession, _Growing] = {}
        self._turns = itertools.count(1)

    def __len__(self) -> int:
        """Return the number of open streams."""
        return len(self._growing)

    @property
    def nbytes(self) -> int:
        """Bytes that all streams hold."""
        return sum(growing.stream.nbytes for growing in self._growing.values())

    def step(self, sessions: Iterable[ServerSession]) -> bool:
        """
        Encode a little of the session whose last turn is longest ago.

        Returns whether there was anything to do. Raises what the model raises; the session's
        stream is closed then.
        """
        self.drop_stopped()
        for session in sorted(sessions, key=self._last_turn):
            try:
                if self._advance(session):
                    return True
            except BaseException:
                self._close(session)
                raise
        return False

    def take(self, session: ServerSession, submit: Submit) -> Stream | None:
        """
        Return the stream of a finished episode, which the caller is to close.

        One that was given other pixels than the episode's is closed, and replaced by an empty one
        (see ``late``).
        """
        self.drop_stopped()
        growing = self._growing.pop(session, None)
        if growing is None:
            return self.late(session)
        named = {
            stamp: checksum
            for clip in submit.clips
            if session.view is not None and clip.evidence.camera == session.view.camera
            for (_, stamp), checksum in named_frames(clip)
        }
        if any(named.get(stamp, known) != known for stamp, known in growing.pushed.items()):
            _logger.warning("the frames that were streamed are not the episode's")
            _close(growing.stream)
            return self.late(session)
        return growing.stream

    def late(self, session: ServerSession) -> Stream | None:
        """
        Return an empty stream for an episode that was to be encoded while it happened.

        With it the answer tells how much was left to the end. None for all other episodes.
        """
        view = session.view
        if view is None or (view.input_mode or self._input_mode) is not InputMode.CLIP:
            return None
        with contextlib.suppress(Exception):
            return self._open_stream(fps=view.fps, camera=view.camera)
        return None

    def drop_stopped(self) -> None:
        """Close the streams of sessions that nobody wants any more."""
        for session in [each for each in self._growing if each.stop.is_set()]:
            self._close(session)

    def close(self) -> None:
        """Close all streams; their episodes are encoded at their ends."""
        for session in list(self._growing):
            self._close(session)

    def _last_turn(self, session: ServerSession) -> int:
        growing = self._growing.get(session)
        return growing.turn if growing is not None else 0

    def _advance(self, session: ServerSession) -> bool:
        growing = self._growing.get(session) or self._begin(session)
        if growing is None:
            return False
        self._feed(session, growing)
        if growing.stream.waiting and not self._has_room(growing):
            return False
        if not growing.stream.step():
            return False
        growing.turn = next(self._turns)
        return True

    def _begin(self, session: ServerSession) -> _Growing | None:
        """Open a session's stream if it has frames, and if there is room for one more."""
        view = session.view
        if view is None or not session.fresh or session.stop.is_set():
            return None
        if (view.input_mode or self._input_mode) is not InputMode.CLIP:
            session.end_view()  # a collage needs the whole episode
            return None
        if len(self._growing) >= self._limit:
            return None
        growing = _Growing(self._open_stream(fps=view.fps, camera=view.camera))
        self._growing[session] = growing
        return growing

    def _has_room(self, growing: _Growing) -> bool:
        """Whether a stream may take a step; says once when it may not."""
        stream = growing.stream
        if self.nbytes - stream.nbytes + stream.nbytes_after_step <= self._max_bytes:
            return True
        if not growing.was_held_back:
            growing.was_held_back = True
            _logger.warning(
                'running tasks hold %d MiB encoded, and may hold %d: the rest is encoded when a '
                'task has ended; allow more with --stream-megabytes',
                self.nbytes // MEGABYTE,
                self._max_bytes // MEGABYTE,
            )
        return False

    def _feed(self, session: ServerSession, growing: _Growing) -> None:
        """Give the stream the next frames."""
        while growing.stream.waiting < FRAMES_AHEAD:
            try:
                stamp = session.fresh.popleft()
            except IndexError:
                return
            frame = self._store.peek(session, stamp)
            if frame is None or not growing.stream.push(stamp, frame):
                session.end_view()
                return
            height, width, _ = frame.shape
            growing.pushed[stamp] = (height, width, zlib.crc32(frame.data))

    def _close(self, session: ServerSession) -> None:
        session.end_view()
        growing = self._growing.pop(session, None)
        if growing is not None:
            _close(growing.stream)


def _close(stream: Stream) -> None:
    with contextlib.suppress(Exception):
        stream.close()
