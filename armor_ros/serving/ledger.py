# SPDX-License-Identifier: Apache-2.0
"""The client's book of sessions: what is open, submitted, on the server; each answered once."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from armor_ros.episodes.diagnosis import InputMode, RefinementSettings, ReportStatus
from armor_ros.episodes.episode import Episode
from armor_ros.serving import events, messages
from armor_ros.serving.codec import ProtocolError
from armor_ros.serving.link import Link
from armor_ros.serving.manifest import frame_message, submit_message, unpack_indices
from armor_ros.serving.protocol import encode

# One session runs on the server and one waits there with its frames; the others wait here.
SESSIONS_ON_SERVER = 2
# Seconds that a server may take to end an inference that is no longer wanted.
STOP_SECONDS = 60.0


# Camera, input mode and fps of ``messages.Open``.
View = tuple[str, InputMode | None, float]

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Session:
    """
    One task; ``number`` is its name on the wire, unique for the life of a client.

    ``view`` is what the server is to be told ahead of the first frame, None when it was told or
    is not to be.
    """

    number: int
    name: str
    submitted_at: float = 0.0
    started_at: float | None = None
    episode: Episode | None = None
    settings: RefinementSettings | None = None
    timer: asyncio.TimerHandle | None = None
    view: View | None = None
    streamed: bool = False
    on_server: bool = False
    losses: int = 0


class Ledger:
    """
    Sessions by name; all methods belong to the event loop's thread.

    ``link`` is set while a connection is up.
    """

    def __init__(
        self,
        emit: Callable[[events.ClientEvent], None],
        on_stuck: Callable[[str], None],
        *,
        queue_size: int,
        timeout: float,
        usual_explanations: Sequence[str] = (),
    ) -> None:
        """``on_stuck`` is called when the server does not end an unwanted inference."""
        self._emit = emit
        self._on_stuck = on_stuck
        self._queue_size = queue_size
        self._timeout = timeout
        self._usual_explanations = tuple(usual_explanations)
        self._numbers = itertools.count(1)
        self._open: dict[str, Session] = {}
        self._submitted: dict[int, Session] = {}
        self._stopping: dict[int, asyncio.TimerHandle] = {}
        self._state, self._state_text = 'down', ''
        self.link: Link | None = None

    def open(self, name: str, view: View | None = None) -> None:
        """Begin to stream a session; ``view`` tells what of it will be looked at."""
        if name not in self._open:
            self._open[name] = Session(next(self._numbers), name, view=view)

    def announce(self, session: Session) -> None:
        """Note that frames of a session go out, and tell the server what they are for."""
        session.streamed = True
        view, session.view = session.view, None
        if view is not None:
            try:
                self._send(messages.Open(session.number, *view))
            except ProtocolError as error:
                _logger.warning('a session is not encoded while it runs: %s', error)

    def streaming(self, name: str) -> Session | None:
        """Return the session if it is open and not submitted."""
        return self._open.get(name)

    def submit(
        self, name: str, episode: Episode, settings: RefinementSettings, submitted_at: float
    ) -> None:
        """Put a finished episode into the queue, or answer at once why not."""
        session = self._open.pop(name, None) or Session(next(self._numbers), name)
        if any(other.name == name for other in self._submitted.values()):
            self._emit(
                events.NoAnswer(
                    name,
                    ReportStatus.MODEL_ERROR,
                    f'session {name!r} is already waiting for its answer; give each its own name',
                )
            )
            return
        session.episode, session.settings = episode, settings
        session.submitted_at = submitted_at
        waiting = len(self._submitted)
        self._submitted[session.number] = session
        if waiting >= self._queue_size:
            text = f'{waiting} tasks wait already, and queue_size is {self._queue_size}'
            self._no_answer(session, ReportStatus.QUEUE_FULL, text)
        elif self._state == 'failed':
            self._no_answer(session, ReportStatus.MODEL_NOT_READY, self._state_text)
        else:
            loop = asyncio.get_running_loop()
            session.timer = loop.call_at(submitted_at + self._timeout, self._expire, session)
            self._dispatch()

    def cancel(self, name: str) -> None:
        """Forget an open session; answer a submitted one with CANCELED."""
        opened = self._open.pop(name, None)
        if opened is not None and opened.streamed:
            self._send(messages.Cancel(opened.number))
        for session in list(self._submitted.values()):
            if session.name == name:
                text = 'the verdict was no longer wanted'
                self._no_answer(session, ReportStatus.CANCELED, text)

    def set_state(self, state: str, text: str) -> None:
        """Take the model's state: down, loading, ready or failed."""
        self._state, self._state_text = state, text
        if state == 'failed':
            for session in list(self._submitted.values()):
                self._no_answer(session, ReportStatus.MODEL_NOT_READY, text)
        self._dispatch()

    def handle(self, message: messages.ServerMessage) -> None:
        """Take a server's message about a session; those of answered sessions pass by."""
        number = getattr(message, 'session', None)
        if isinstance(message, messages.Result | messages.Refused) and number in self._stopping:
            self._stopping.pop(number).cancel()
        session = self._submitted.get(number) if number is not None else None
        if session is None:
            return
        if isinstance(message, messages.Started):
            session.started_at = asyncio.get_running_loop().time()
            self._emit(events.Started(session.name))
        elif isinstance(message, messages.Detection):
            self._emit(events.Detection(session.name, message.failure_probability))
        elif isinstance(message, messages.RoundDone):
            self._emit(events.RoundDone(session.name, message.rounds))
        elif isinstance(message, messages.NeedFrames) and self.link is not None:
            self.link.upload(self._frames(session, message.missing))
        elif isinstance(message, messages.Refused):
            session.on_server, session.started_at = False, None
            self._no_answer(session, message.status, message.text)
        elif isinstance(message, messages.Result):
            self._answer(session, message)

    def lost(self, reason: str) -> None:
        """
        Take the loss of the connection.

        The session that was running is answered with MODEL_ERROR; the others will be submitted
        anew, unless one was first in line at two losses: then it may be what kills the server.
        """
        self.link = None
        for timer in self._stopping.values():
            timer.cancel()
        self._stopping.clear()
        for session in self._open.values():
            session.streamed = False
        on_server = [session for session in self._submitted.values() if session.on_server]
        for position, session in enumerate(on_server):
            session.on_server = False
            session.losses += position == 0
            if session.started_at is not None or session.losses >= 2:
                text = f'inference was lost on the way: {reason}'
                self._no_answer(session, ReportStatus.MODEL_ERROR, text)

    def close(self) -> None:
        """Answer all that is submitted with CANCELED."""
        for session in list(self._submitted.values()):
            self._no_answer(session, ReportStatus.CANCELED, 'the monitor was deactivated')
        self._open.clear()

    def _dispatch(self) -> None:
        """Give the server the next sessions in order, as many as it shall hold."""
        if self._state != 'ready' or self.link is None:
            return
        for session in list(self._submitted.values()):
            if sum(other.on_server for other in self._submitted.values()) >= SESSIONS_ON_SERVER:
                return
            if session.on_server or session.episode is None or session.settings is None:
                continue
            try:
                self._send(
                    submit_message(
                        session.number,
                        session.episode,
                        session.settings,
                        self._usual_explanations,
                    )
                )
            except ProtocolError as error:
                text = f'the episode cannot be sent: {error}'
                self._remove(session)
                self._emit(events.NoAnswer(session.name, ReportStatus.MODEL_ERROR, text))
            else:
                session.on_server = True

    def _frames(self, session: Session, missing: tuple[bytes, ...]) -> Iterator[bytes]:
        """Yield encoded the frames that the server lacks, until the session is answered."""
        if session.episode is None:
            return
        for clip, packed in zip(session.episode.clips, missing, strict=False):
            for index in unpack_indices(packed):
                if session.number not in self._submitted:
                    return
                if index < len(clip.stamps_ns):
                    yield encode(
                        frame_message(
                            session.number,
                            clip.evidence.camera,
                            int(clip.stamps_ns[index]),
                            clip.frames[index],
                        )
                    )

    def _expire(self, session: Session) -> None:
        if self._state == 'ready':
            where = 'before its turn came' if session.started_at is None else 'during inference'
            text = f'no answer within {self._timeout:g} s: time ran out {where}'
            self._no_answer(session, ReportStatus.TIMEOUT, text)
        else:
            text = (
                f'the model was not ready within {self._timeout:g} s: it is {self._state}'
                f'{f" ({self._state_text})" if self._state_text else ""}'
            )
            self._no_answer(session, ReportStatus.MODEL_NOT_READY, text)

    def _answer(self, session: Session, result: messages.Result) -> None:
        now = asyncio.get_running_loop().time()
        started = session.started_at or now - result.inference_seconds
        session.on_server = False
        self._remove(session)
        self._emit(
            events.Answer(
                session.name,
                result.diagnosis,
                max(0.0, started - session.submitted_at),
                result.inference_seconds,
            )
        )
        self._dispatch()

    def _no_answer(self, session: Session, status: ReportStatus, text: str) -> None:
        self._remove(session)
        self._emit(events.NoAnswer(session.name, status, text))
        self._dispatch()

    def _remove(self, session: Session) -> None:
        """Take a session off the book, and off the server if it is still there."""
        del self._submitted[session.number]
        if session.timer is not None:
            session.timer.cancel()
        if session.on_server or session.streamed:
            self._send(messages.Cancel(session.number))
        if session.on_server and session.started_at is not None:
            loop = asyncio.get_running_loop()
            self._stopping[session.number] = loop.call_later(
                STOP_SECONDS, self._on_stuck, 'an inference that was no longer wanted did not end'
            )

    def _send(self, message: messages.ClientMessage) -> None:
        if self.link is not None:
            self.link.send(message)
