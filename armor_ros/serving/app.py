# SPDX-License-Identifier: Apache-2.0
"""The inference server as an ASGI application: one websocket endpoint, one inference at a time."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from armor_ros.episodes.diagnosis import ReportStatus
from armor_ros.errors import ArmorError
from armor_ros.serving.codec import ProtocolError
from armor_ros.serving.connection import Connection
from armor_ros.serving.frame_store import FrameStore, ServerSession
from armor_ros.serving.messages import (
    CLOSE_BAD_MESSAGE,
    CLOSE_BAD_TOKEN,
    CLOSE_BAD_VERSION,
    CLOSE_TOO_MANY,
    PROTOCOL_VERSION,
    Cancel,
    Frame,
    Goodbye,
    Hello,
    NeedFrames,
    Open,
    Refused,
    Started,
    Submit,
    Welcome,
)
from armor_ros.serving.protocol import decode
from armor_ros.serving.streams import MAX_STREAMS, MEGABYTE, STREAM_MEGABYTES
from armor_ros.serving.worker import LoadedModel, ModelWorker

HELLO_SECONDS = 5.0
MAX_CONNECTIONS = 16

_logger = logging.getLogger(__name__)


class InferenceServer:
    """
    The application and its state; ``app`` is what an ASGI server runs.

    ``load`` is called in the model's thread once the server is up. With an empty ``token`` every
    connection is taken. At most ``max_streams`` episodes are encoded while they happen, into
    ``stream_bytes`` in all.
    ``on_beyond_repair`` is called when only a new process can infer again.
    """

    def __init__(
        self,
        load: Callable[[], LoadedModel],
        *,
        token: str = '',
        session_bytes: int = 1024 * MEGABYTE,
        total_bytes: int = 4096 * MEGABYTE,
        max_streams: int = MAX_STREAMS,
        stream_bytes: int = STREAM_MEGABYTES * MEGABYTE,
        on_beyond_repair: Callable[[], None] | None = None,
    ) -> None:
        self._token = token
        self._store = FrameStore(session_bytes, total_bytes)
        self._worker = ModelWorker(load, self._store, max_streams, stream_bytes)
        self._on_beyond_repair = on_beyond_repair
        self._connections: set[Connection] = set()
        self._greeting = 0
        self._complete: deque[ServerSession] = deque()
        self._work = asyncio.Event()
        self._running: ServerSession | None = None
        self.app = Starlette(routes=[WebSocketRoute('/', self._serve)], lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.ensure_future(self._load()), asyncio.ensure_future(self._infer())]
        try:
            yield
        finally:
            if self._running is not None:
                self._running.stop.set()
            self._worker.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self) -> None:
        state = await self._worker.load()
        self._work.set()
        for connection in self._connections:
            connection.post(state)

    async def _infer(self) -> None:
        """
        Answer complete sessions in the order in which they became complete.

        While there is none, the frames of tasks that still run are encoded.
        """
        while True:
            if self._worker.is_beyond_repair and self._on_beyond_repair is not None:
                self._on_beyond_repair()
                return  # what waits is answered by the next process
            # First of all, so that what comes from here on is not slept over.
            self._work.clear()
            if self._complete:
                await self._answer(self._complete.popleft())
            elif not await self._worker.step(self._store.viewed()):
                await self._work.wait()

    async def _answer(self, session: ServerSession) -> None:
        connection: Connection = session.owner
        if session.stop.is_set():
            return
        self._running = session
        connection.post(Started(session.number))
        # Before inference begins: if it kills this process, the monitor knows what was running
        await connection.deliver()
        connection.post_from_thread(
            await self._worker.diagnose(session, connection.post_from_thread)
        )
        self._running = None
        self._store.forget(session)
        if self._worker.is_beyond_repair:
            await connection.deliver()

    async def _serve(self, websocket: WebSocket) -> None:
        """Serve one connection."""
        await websocket.accept()
        connection = Connection(websocket)
        try:
            goodbye = await self._welcome(websocket, connection)
            if goodbye is None:
                _logger.info('a monitor connected')
                goodbye = await self._read(websocket, connection)
        except WebSocketDisconnect:
            goodbye = None
        finally:
            self._connections.discard(connection)
            for session in self._store.sessions_of(connection):
                self._cancel(session)
        if goodbye is not None:
            _logger.warning('a connection was closed: %s', goodbye.reason)
        await connection.close(goodbye)

    async def _welcome(self, websocket: WebSocket, connection: Connection) -> Goodbye | None:
        """Check the first message; return why the connection is refused, or None."""
        if self._greeting + len(self._connections) >= MAX_CONNECTIONS:
            return Goodbye(CLOSE_TOO_MANY, f'more than {MAX_CONNECTIONS} connections')
        self._greeting += 1
        try:
            hello = decode(await asyncio.wait_for(_receive(websocket), HELLO_SECONDS))
        except asyncio.TimeoutError:
            return Goodbye(CLOSE_BAD_MESSAGE, f'no Hello within {HELLO_SECONDS:g} s')
        except ProtocolError as error:
            return Goodbye(CLOSE_BAD_MESSAGE, str(error))
        finally:
            self._greeting -= 1
        if not isinstance(hello, Hello):
            return Goodbye(CLOSE_BAD_MESSAGE, 'the first message must be Hello')
        if hello.version != PROTOCOL_VERSION:
            return Goodbye(
                CLOSE_BAD_VERSION,
                f'the monitor speaks protocol {hello.version}, this server {PROTOCOL_VERSION}: '
                f'install the same armor_ros on both machines',
            )
        if not hmac.compare_digest(hello.token.encode(), self._token.encode()) and self._token:
            return Goodbye(
                CLOSE_BAD_TOKEN, 'the token is wrong: give both sides the same token file'
            )
        connection.post(Welcome(PROTOCOL_VERSION))
        connection.post(self._worker.state)
        self._connections.add(connection)
        return None

    async def _read(self, websocket: WebSocket, connection: Connection) -> Goodbye:
        """Take messages until the connection ends (WebSocketDisconnect) or breaks the protocol."""
        while True:
            data = await _receive(websocket)
            try:
                message = decode(data)
                if isinstance(message, Frame):
                    self._take_frame(connection, message)
                elif isinstance(message, Open):
                    self._store.open(connection, message)
                elif isinstance(message, Submit):
                    self._take_submit(connection, message)
                elif isinstance(message, Cancel):
                    session = self._store.find(connection, message.session)
                    if session is not None:
                        self._cancel(session)
                else:
                    raise ProtocolError(f'{type(message).__name__} is not for a server')
            except ProtocolError as error:
                return Goodbye(CLOSE_BAD_MESSAGE, str(error))

    def _take_frame(self, connection: Connection, frame: Frame) -> None:
        complete = self._store.add(connection, frame)
        if complete is not None:
            self._complete.append(complete)
        self._work.set()

    def _take_submit(self, connection: Connection, submit: Submit) -> None:
        number = submit.session
        if self._worker.state.state != 'ready':
            text = f'the model is not ready: {self._worker.state.text}'
            connection.post(Refused(number, ReportStatus.MODEL_NOT_READY, text))
            return
        try:
            session, missing = self._store.submit(connection, submit)
        except ProtocolError:
            raise
        except ArmorError as error:
            refused = self._store.find(connection, number)
            if refused is not None:
                self._store.forget(refused)
                self._work.set()
            connection.post(Refused(number, ReportStatus.MODEL_ERROR, str(error)))
            return
        if any(missing):
            connection.post(NeedFrames(number, missing))
        else:
            self._complete.append(session)
            self._work.set()

    def _cancel(self, session: ServerSession) -> None:
        """Stop a session; the memory of a running one is freed when inference has ended."""
        session.stop.set()
        if session is not self._running:
            self._store.forget(session)
            self._work.set()  # a stream may be closed


async def _receive(websocket: WebSocket) -> object:
    """Return the next message; raise WebSocketDisconnect at the connection's end."""
    message = await websocket.receive()
    if message['type'] == 'websocket.disconnect':
        raise WebSocketDisconnect(message.get('code', 1005))
    data: object = message.get('bytes')
    return message.get('text') if data is None else data
