# SPDX-License-Identifier: Apache-2.0
"""The monitor's side of inference: tasks in, exactly one answer out for each, never blocking."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from armor_ros.episodes.diagnosis import ModelInfo, RefinementSettings, ReportStatus
from armor_ros.episodes.episode import Episode
from armor_ros.errors import ArmorError
from armor_ros.serving import messages
from armor_ros.serving.codec import ProtocolError
from armor_ros.serving.events import (
    ClientEvent,
    Endpoint,
    ModelLost,
    ModelReady,
    NoAnswer,
    StateChanged,
)
from armor_ros.serving.ledger import Ledger
from armor_ros.serving.link import Heartbeat, Link, LinkLost
from armor_ros.serving.manifest import frame_message
from armor_ros.serving.protocol import encode

STREAM_BYTES = 32 * 1024 * 1024
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 0.5
REFUSED_RETRY_SECONDS = 10.0

_logger = logging.getLogger(__name__)


class InferenceClient:
    """
    A thread that keeps a connection to an inference server, and the sessions on it.

    All methods may be called from any thread and return at once, ``close`` excepted. ``on_event``
    is called from the client's thread; it must not block. Each ``submit`` is followed by exactly
    one Answer or NoAnswer.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        on_event: Callable[[ClientEvent], None],
        *,
        queue_size: int = 16,
        timeout: float = 60.0,
        heartbeat: Heartbeat = Heartbeat(),  # noqa: B008 (immutable)
        stream_bytes: int = STREAM_BYTES,
        usual_explanations: Sequence[str] = (),
        on_hung: Callable[[str], None] | None = None,
    ) -> None:
        """
        Make a client; ``start`` connects it.

        ``queue_size`` bounds the sessions that are submitted and unanswered, ``timeout`` is in
        seconds from submit to answer, ``stream_bytes`` bounds frames on their way to the server.
        ``usual_explanations`` are likely answers, the likeliest first, which make answers faster.
        ``on_hung`` is called from the client's thread when the server is there and silent.
        Raises ArmorError for a queue size or a time limit that is not positive.
        """
        if queue_size < 1 or not timeout > 0:
            raise ArmorError(
                f'queue_size ({queue_size}) must be at least 1 and timeout ({timeout}) above 0'
            )
        self._endpoint = endpoint
        self._on_event = on_event
        self._on_hung = on_hung
        self._heartbeat = heartbeat
        self._stream_bytes = stream_bytes
        self._lock = threading.Lock()
        self._bytes_on_way = 0
        self._closed = False
        self._state, self._state_text = 'down', 'not connected yet'
        self._info: ModelInfo | None = None
        self._ledger = Ledger(
            self._emit,
            self._stuck,
            queue_size=queue_size,
            timeout=timeout,
            usual_explanations=usual_explanations,
        )
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._link: Link | None = None

    @property
    def state(self) -> str:
        """One of down, loading, ready, failed."""
        return self._state

    @property
    def state_text(self) -> str:
        """Why the state is what it is, for a person; may be empty."""
        return self._state_text

    @property
    def model(self) -> ModelInfo | None:
        """The model on the server, while it is ready."""
        return self._info

    def start(self) -> None:
        """Begin to connect; once connected, reconnect for ever."""
        with self._lock:
            if self._thread is not None or self._closed:
                return
            self._thread = threading.Thread(
                target=self._run, name='armor-inference-client', daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Answer what is submitted with CANCELED, disconnect, and end the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._loop.call_soon_threadsafe(self._stop.set)
            thread = self._thread
        if thread is None:
            self._run()
        elif thread is not threading.current_thread():
            thread.join()

    def open(
        self, session: str, settings: RefinementSettings | None = None, fps: float | None = None
    ) -> None:
        """
        Announce a task that has started; its frames may follow.

        With ``settings`` as they will be submitted, their ``camera`` named, and the ``fps`` at
        which its frames are sampled, the server encodes that camera's frames as they come. When
        it turns out otherwise that was in vain, and the answer is the same.
        """
        view = None
        if settings is not None and settings.camera and fps is not None:
            view = (settings.camera, settings.input_mode, fps)
        self._call(lambda: self._ledger.open(session, view))

    def push(self, session: str, camera: str, stamp_ns: int, frame: npt.NDArray[np.uint8]) -> None:
        """
        Stream a frame, (H, W, 3) uint8 RGB, which must not change afterwards.

        Where the link is down or slow it is left out: submit sends what is missing.
        """
        size = int(frame.nbytes)
        with self._lock:
            if self._bytes_on_way + size > self._stream_bytes:
                return
            self._bytes_on_way += size
        if not self._call(lambda: self._push(session, camera, stamp_ns, frame)):
            self._streamed(size)

    def submit(self, session: str, episode: Episode, settings: RefinementSettings) -> None:
        """Ask for the diagnosis of a finished task; exactly one Answer or NoAnswer follows."""
        now = time.monotonic()
        if not self._call(lambda: self._ledger.submit(session, episode, settings, now)):
            text = 'the monitor was deactivated'
            self._emit(NoAnswer(session, ReportStatus.CANCELED, text))

    def cancel(self, session: str) -> None:
        """Give up a session: an open one is forgotten, a submitted one answered as CANCELED."""
        self._call(lambda: self._ledger.cancel(session))

    def _call(self, function: Callable[[], None]) -> bool:
        """Have the client's thread call a function; False after close."""
        with self._lock:
            if self._closed:
                return False
            self._loop.call_soon_threadsafe(function)
            return True

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    async def _main(self) -> None:
        serving = asyncio.ensure_future(self._serve())
        await self._stop.wait()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        self._ledger.close()
        self._set_state('down', 'closed')

    async def _serve(self) -> None:
        """Keep a connection up."""
        delay = FIRST_RETRY_SECONDS
        while True:
            link = Link(self._endpoint, self._heartbeat, self._received, self._streamed)
            self._link = link
            lost = LinkLost('the connection to the inference server broke')
            try:
                await link.run()
            except LinkLost as error:
                lost = error
            except asyncio.CancelledError:
                if self._stop.is_set():
                    raise
            except Exception:
                _logger.exception('the connection to the inference server broke')
            self._lost(lost)
            if lost.refused:
                delay = REFUSED_RETRY_SECONDS
            elif link.was_up:
                delay = FIRST_RETRY_SECONDS
            if self._stop.is_set():
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY_SECONDS)

    def _received(self, message: messages.ServerMessage) -> None:
        """Take a message of the server."""
        if isinstance(message, messages.Welcome):
            self._ledger.link = self._link
            self._set_state('loading', 'connected')
        elif isinstance(message, messages.ModelState):
            if self._link is not None:
                self._link.loading = message.state == 'loading'
            self._set_state(message.state, message.text, message.info)
        else:
            self._ledger.handle(message)

    def _lost(self, lost: LinkLost) -> None:
        """Take the end of a connection, or that there was none."""
        self._link = None
        self._set_state('failed' if lost.refused else 'down', str(lost))
        self._ledger.lost(str(lost))
        if lost.hung and self._on_hung is not None:
            self._on_hung(str(lost))

    def _stuck(self, reason: str) -> None:
        if self._link is not None:
            self._link.abandon(reason)

    def _set_state(self, state: str, text: str, info: ModelInfo | None = None) -> None:
        before = self._state
        if (state, text, info) == (before, self._state_text, self._info):
            return
        self._state, self._state_text, self._info = state, text, info
        self._emit(StateChanged(state, text))
        if info is not None:
            self._emit(ModelReady(info))
        elif before == 'ready':
            self._emit(ModelLost(text))
        self._ledger.set_state(state, text)

    def _push(self, name: str, camera: str, stamp_ns: int, frame: npt.NDArray[np.uint8]) -> None:
        session = self._ledger.streaming(name)
        link = self._link
        if session is None or link is None or not link.was_up:
            self._streamed(frame.nbytes)
            if session is not None:
                session.view = None  # its first frames will be missing
            return
        self._ledger.announce(session)

        def make() -> bytes | None:
            # submit sends what is still missing by then, in the order of need
            if self._ledger.streaming(name) is not session:
                return None
            try:
                return encode(frame_message(session.number, camera, stamp_ns, frame))
            except ProtocolError as error:
                _logger.warning('a frame was not streamed: %s', error)
                return None

        link.stream(frame.nbytes, make)

    def _streamed(self, size: int) -> None:
        with self._lock:
            self._bytes_on_way -= size

    def _emit(self, event: ClientEvent) -> None:
        try:
            self._on_event(event)
        except Exception:
            _logger.exception('the receiver of inference events failed on %s', event)
