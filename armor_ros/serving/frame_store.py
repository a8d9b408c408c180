# SPDX-License-Identifier: Apache-2.0
"""The frames that a server holds for its sessions, bounded in bytes per session and in all."""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from armor_ros.episodes.episode import Episode
from armor_ros.errors import ArmorError
from armor_ros.serving.codec import ProtocolError
from armor_ros.serving.manifest import assemble, pack_indices
from armor_ros.serving.messages import ClipManifest, Frame, Open, Submit, frame_count

FrameKey = tuple[str, int]
# Height, width and CRC-32.
Checksum = tuple[int, int, int]
# What a frame costs beside its pixels, so that many tiny frames cannot exceed the bounds.
FRAME_OVERHEAD = 512


@dataclass(slots=True, eq=False)
class ServerSession:
    """
    One task of one connection (``owner``).

    ``nbytes`` counts the frames held and, once submitted, those still to come. ``wanted`` maps
    the frames still to come to their checksum. ``view`` says what will be looked at; ``fresh`` are
    the stamps of its camera's frames that the model has not taken yet, in time and without a gap:
    stamps alone, so that frames are held but once. ``is_whole`` is False after a gap. ``stop``
    asks a running inference to end, and is set when the session is forgotten.
    """

    owner: Any
    number: int
    frames: dict[FrameKey, bytes] = field(default_factory=dict)
    checksums: dict[FrameKey, Checksum] = field(default_factory=dict)
    wanted: dict[FrameKey, Checksum] = field(default_factory=dict)
    submit: Submit | None = None
    view: Open | None = None
    fresh: deque[int] = field(default_factory=deque)
    newest: int = -(2**63)
    is_whole: bool = True
    nbytes: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def end_view(self) -> None:
        """Let the model take no further frames before the end; from any thread."""
        self.is_whole = False
        self.fresh.clear()


class FrameStore:
    """
    Sessions and their frames.

    All methods belong to one thread, ``take_episode`` and ``peek`` to the model's.
    """

    def __init__(self, session_bytes: int, total_bytes: int, max_sessions: int = 64) -> None:
        """``max_sessions`` bounds the sessions of one owner."""
        self._session_bytes = session_bytes
        self._total_bytes = total_bytes
        self._max_sessions = max_sessions
        self._sessions: dict[tuple[int, int], ServerSession] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all frames held or reserved."""
        return sum(session.nbytes for session in self._sessions.values())

    def sessions_of(self, owner: object) -> list[ServerSession]:
        """Return the sessions of a connection."""
        return [session for session in self._sessions.values() if session.owner is owner]

    def viewed(self) -> list[ServerSession]:
        """Return the sessions whose frames may be taken by the model as they come."""
        return [
            session
            for session in self._sessions.values()
            if session.view is not None and session.submit is None
        ]

    def find(self, owner: object, number: int) -> ServerSession | None:
        """Return a session if it is known."""
        return self._sessions.get((id(owner), number))

    def open(self, owner: object, view: Open) -> None:
        """
        Take what a session will be asked.

        Raises ProtocolError for a session that has begun: its first frames would be missing.
        """
        if self.find(owner, view.session) is not None:
            raise ProtocolError(f'session {view.session} was opened after it had begun')
        session = self._create(owner, view.session)
        if session is not None:
            session.view = view

    def add(self, owner: object, frame: Frame) -> ServerSession | None:
        """
        Take a frame; return its session when this completes a submitted episode.

        A streamed frame for which there is no room is dropped: submit will ask for it again.
        Raises ProtocolError when the frame is not the one that submit named.
        """
        session = self.find(owner, frame.session) or self._create(owner, frame.session)
        if session is None:
            return None
        key = (frame.camera, frame.stamp_ns)
        checksum = (frame.height, frame.width, zlib.crc32(frame.data))
        if session.submit is not None:
            if key not in session.wanted:
                return None
            if session.wanted[key] != checksum:
                raise ProtocolError(
                    f'camera {frame.camera!r}: the frame at {frame.stamp_ns} ns is not the one '
                    f'that was submitted'
                )
            del session.wanted[key]
            session.frames[key] = frame.data
            return None if session.wanted else session
        held = session.frames.get(key)
        growth = len(frame.data) + FRAME_OVERHEAD
        growth -= 0 if held is None else len(held) + FRAME_OVERHEAD
        is_seen = session.view is not None and session.view.camera == frame.camera
        if (
            session.nbytes + growth > self._session_bytes
            or self.nbytes + growth > self._total_bytes
        ):
            if is_seen:
                session.is_whole = False  # what came before the gap may still be taken
            return None
        session.frames[key] = frame.data
        session.checksums[key] = checksum
        session.nbytes += growth
        if is_seen and session.is_whole and frame.stamp_ns > session.newest:
            session.newest = frame.stamp_ns
            session.fresh.append(frame.stamp_ns)
        return None

    def peek(self, session: ServerSession, stamp_ns: int) -> npt.NDArray[np.uint8] | None:
        """Return a frame of the viewed camera, (H, W, 3) uint8, without a copy; None if gone."""
        if session.view is None:
            return None
        key = (session.view.camera, stamp_ns)
        # The other thread may replace or drop both between these lines.
        data, checksum = session.frames.get(key), session.checksums.get(key)
        if data is None or checksum is None or len(data) != checksum[0] * checksum[1] * 3:
            return None
        return np.frombuffer(data, np.uint8).reshape(*checksum[:2], 3)

    def submit(self, owner: object, submit: Submit) -> tuple[ServerSession, tuple[bytes, ...]]:
        """
        Take an episode's description; return its session, and the missing frames per clip.

        Raises ArmorError when the episode is larger than the memory set aside for it.
        """
        session = self.find(owner, submit.session) or self._create(owner, submit.session)
        if session is None:
            raise ArmorError(f'more than {self._max_sessions} sessions on one connection')
        if session.submit is not None:
            raise ProtocolError(f'session {submit.session} was submitted twice')
        self._reserve(session, _episode_bytes(submit))
        session.end_view()
        held, session.frames = session.frames, {}
        missing = []
        for clip in submit.clips:
            absent = []
            for index, (key, checksum) in enumerate(named_frames(clip)):
                if key in held and session.checksums[key] == checksum:
                    session.frames[key] = held[key]
                else:
                    session.wanted[key] = checksum
                    absent.append(index)
            missing.append(pack_indices(absent))
        session.checksums.clear()
        session.submit = submit
        return session, tuple(missing)

    def take_episode(self, session: ServerSession) -> Episode:
        """Build the episode of a complete session, which gives its frames away."""
        if session.submit is None or session.wanted:
            raise ProtocolError('the session is not complete')
        return assemble(session.submit, self._stacks(session, session.submit.clips))

    def forget(self, session: ServerSession) -> None:
        """Drop a session and its frames."""
        self._sessions.pop((id(session.owner), session.number), None)
        session.stop.set()
        session.frames.clear()

    def _stacks(
        self, session: ServerSession, clips: Iterable[ClipManifest]
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield (N, H, W, 3) per clip; each frame's bytes are freed as they are copied."""
        for clip in clips:
            keys = [key for key, _ in named_frames(clip)]
            stack = np.empty((len(keys), clip.height, clip.width, 3), np.uint8)
            for index, key in enumerate(keys):
                data = session.frames.pop(key)
                stack[index] = np.frombuffer(data, np.uint8).reshape(stack.shape[1:])
            yield stack

    def _create(self, owner: object, number: int) -> ServerSession | None:
        if len(self.sessions_of(owner)) >= self._max_sessions:
            return None
        session = ServerSession(owner, number)
        self._sessions[(id(owner), number)] = session
        return session

    def _reserve(self, session: ServerSession, needed: int) -> None:
        """Set memory aside for a submitted session, at the cost of frames only streamed."""
        if needed > self._session_bytes:
            raise ArmorError(
                f'the episode takes {needed} bytes, and one may take {self._session_bytes}: use '
                f'smaller frames, fewer cameras or a lower fps, or start the server with a '
                f'larger --session-megabytes'
            )
        streaming = [
            other
            for other in self._sessions.values()
            if other.submit is None and other is not session
        ]
        while self.nbytes - session.nbytes + needed > self._total_bytes:
            if not streaming:
                raise ArmorError(
                    f'the server holds {self.nbytes} bytes of frames, and may hold '
                    f'{self._total_bytes}: {needed} more do not fit; start it with a larger '
                    f'--total-megabytes, or give it fewer monitors'
                )
            victim = streaming.pop()
            victim.end_view()
            victim.frames.clear()
            victim.checksums.clear()
            victim.nbytes = 0
        session.nbytes = needed


def named_frames(clip: ClipManifest) -> list[tuple[FrameKey, Checksum]]:
    """Return key and (height, width, CRC-32) of each frame of a clip."""
    stamps = np.frombuffer(clip.stamps, '<i8').tolist()
    checksums = np.frombuffer(clip.checksums, '<u4').tolist()
    return [
        ((clip.evidence.camera, stamp), (clip.height, clip.width, checksum))
        for stamp, checksum in zip(stamps, checksums, strict=True)
    ]


def _episode_bytes(submit: Submit) -> int:
    return sum(
        frame_count(clip) * (clip.height * clip.width * 3 + FRAME_OVERHEAD)
        for clip in submit.clips
    )
