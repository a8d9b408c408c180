# SPDX-License-Identifier: Apache-2.0
"""The frames that a server holds for its sessions, bounded in bytes per session and in all."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from armor_ros.episodes.episode import Episode
from armor_ros.errors import ArmorError
from armor_ros.serving.codec import ProtocolError
from armor_ros.serving.manifest import assemble, pack_indices
from armor_ros.serving.messages import ClipManifest, Frame, Submit, frame_count

FrameKey = tuple[str, int]
# What a frame costs beside its pixels, so that many tiny frames cannot exceed the bounds.
FRAME_OVERHEAD = 512


@dataclass(slots=True, eq=False)
class ServerSession:
    """
    One task of one connection (``owner``).

    ``nbytes`` counts the frames held and, once submitted, those still to come. ``wanted`` maps
    the frames still to come to their checksum and bytes. ``stop`` asks a running inference to end.
    """

    owner: Any
    number: int
    frames: dict[FrameKey, bytes] = field(default_factory=dict)
    checksums: dict[FrameKey, tuple[int, int, int]] = field(default_factory=dict)
    wanted: dict[FrameKey, tuple[int, int, int]] = field(default_factory=dict)
    submit: Submit | None = None
    nbytes: int = 0
    stop: threading.Event = field(default_factory=threading.Event)


class FrameStore:
    """Sessions and their frames; all methods but ``take_episode`` belong to one thread."""

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

    def find(self, owner: object, number: int) -> ServerSession | None:
        """Return a session if it is known."""
        return self._sessions.get((id(owner), number))

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
        if session.nbytes + growth > self._session_bytes:
            return None
        if self.nbytes + growth > self._total_bytes:
            return None
        session.frames[key] = frame.data
        session.checksums[key] = checksum
        session.nbytes += growth
        return None

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
        held, session.frames = session.frames, {}
        missing = []
        for clip in submit.clips:
            absent = []
            for index, (key, checksum) in enumerate(_named_frames(clip)):
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
        session.frames.clear()

    def _stacks(
        self, session: ServerSession, clips: Iterable[ClipManifest]
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield (N, H, W, 3) per clip; each frame's bytes are freed as they are copied."""
        for clip in clips:
            keys = [key for key, _ in _named_frames(clip)]
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
            victim.frames.clear()
            victim.checksums.clear()
            victim.nbytes = 0
        session.nbytes = needed


def _named_frames(clip: ClipManifest) -> list[tuple[FrameKey, tuple[int, int, int]]]:
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
