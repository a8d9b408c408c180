# SPDX-License-Identifier: Apache-2.0
"""One websocket connection to an inference server: handshake, heartbeat, and three send queues."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import websockets.exceptions

from armor_ros.serving.codec import ProtocolError
from armor_ros.serving.dial import open_websocket
from armor_ros.serving.events import Endpoint
from armor_ros.serving.messages import (
    CLOSE_BAD_TOKEN,
    CLOSE_BAD_VERSION,
    PROTOCOL_VERSION,
    ClientMessage,
    Goodbye,
    Hello,
    ServerMessage,
    Welcome,
)
from armor_ros.serving.protocol import decode, encode

CONNECT_SECONDS = 5.0


class LinkLost(Exception):  # noqa: N818 (it tells of an event, not of a mistake)
    """
    The connection ended or never came up.

    ``hung`` tells that the server is there and does not answer, ``refused`` that it will not
    take this client until someone mends the set-up.
    """

    def __init__(self, reason: str, *, hung: bool = False, refused: bool = False) -> None:
        super().__init__(reason)
        self.hung = hung
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Seconds without a sign of life after which a server is taken as hung."""

    ready: float = 5.0
    # Reading gigabytes of weights may hold the interpreter's lock for long.
    loading: float = 60.0


class Link:
    """
    A connection; all methods belong to the thread of its event loop.

    Control messages go first, then uploads (frames that the server asked for), then streamed
    frames. A frame is encoded when its turn comes, so that the queues hold references only.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        heartbeat: Heartbeat,
        on_message: Callable[[ServerMessage], None],
        on_streamed: Callable[[int], None],
    ) -> None:
        """``on_streamed`` is told the bytes of each streamed frame that left its queue."""
        self._endpoint = endpoint
        self._heartbeat = heartbeat
        self._on_message = on_message
        self._on_streamed = on_streamed
        self._control: collections.deque[bytes] = collections.deque()
        self._uploads: collections.deque[Iterator[bytes]] = collections.deque()
        self._streamed: collections.deque[tuple[int, Callable[[], bytes | None]]] = (
            collections.deque()
        )
        self._work = asyncio.Event()
        self._websocket: Any = None
        self._heard = False
        self._abandoned: asyncio.Future[None] | None = None
        self.loading = True
        self.was_up = False

    def send(self, message: ClientMessage) -> None:
        """Queue a control message. Raises ProtocolError when it cannot be encoded."""
        self._control.append(encode(message))
        self._work.set()

    def upload(self, frames: Iterator[bytes]) -> None:
        """Queue encoded frames, drawn one by one as the link takes them."""
        self._uploads.append(frames)
        self._work.set()

    def stream(self, size: int, make: Callable[[], bytes | None]) -> None:
        """Queue a frame of ``size`` bytes, encoded when its turn comes (None: not wanted)."""
        self._streamed.append((size, make))
        self._work.set()

    def abandon(self, reason: str) -> None:
        """End the connection: the server is there and does not do its work."""
        if self._abandoned is not None and not self._abandoned.done():
            self._abandoned.set_exception(LinkLost(reason, hung=True))

    async def run(self) -> None:
        """Connect and serve until the connection ends; always raises LinkLost."""
        self._abandoned = asyncio.get_running_loop().create_future()
        tasks: list[asyncio.Future[None]] = [asyncio.ensure_future(self._establish())]
        try:
            await self._wait_first(tasks)
            self.was_up = True
            self._on_message(Welcome(PROTOCOL_VERSION))
            tasks = [
                asyncio.ensure_future(part())
                for part in (self._read, self._write, self._watch_heartbeat)
            ]
            await self._wait_first([*tasks, self._abandoned])
        except LinkLost:
            raise
        except (OSError, websockets.exceptions.WebSocketException, ProtocolError) as error:
            raise LinkLost(self._closing_reason(error)) from error
        finally:
            await self._leave(tasks)

    async def _wait_first(self, tasks: list[asyncio.Future[None]]) -> None:
        """Wait for the first task to end, and raise its error."""
        # Unlike wait_for before Python 3.12, wait never loses a cancellation.
        done, _ = await asyncio.wait(
            tasks,
            timeout=None if self.was_up else CONNECT_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done:
            raise LinkLost(f'{self._endpoint} does not answer')
        for task in done:
            task.result()

    async def _establish(self) -> None:
        """Connect and be welcomed."""
        self._websocket = await open_websocket(self._endpoint)
        # A server that refuses at once has closed already, and its reason waits to be read.
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            await self._websocket.send(encode(Hello(PROTOCOL_VERSION, self._endpoint.token)))
        reply = decode(await self._websocket.recv())
        if isinstance(reply, Goodbye):
            refused = reply.code in (CLOSE_BAD_TOKEN, CLOSE_BAD_VERSION)
            raise LinkLost(reply.reason, refused=refused)
        if not isinstance(reply, Welcome) or reply.version != PROTOCOL_VERSION:
            reason = f'{self._endpoint} is no inference server of this version'
            raise LinkLost(reason, refused=True)

    async def _read(self) -> None:
        while True:
            message = decode(await self._websocket.recv())
            self._heard = True
            if isinstance(message, Goodbye):
                raise LinkLost(message.reason)
            self._on_message(message)  # type: ignore[arg-type]

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            if self._control:
                await self._websocket.send(self._control.popleft())
            elif self._uploads:
                frame = next(self._uploads[0], None)
                if frame is None:
                    self._uploads.popleft()
                else:
                    await self._websocket.send(frame)
                    # On a slow network a ping waits behind frames; that they go is life enough.
                    self._heard = True
            elif self._streamed:
                await self._write_streamed()
            else:
                self._work.clear()

    async def _write_streamed(self) -> None:
        size, make = self._streamed.popleft()
        try:
            frame = make()
            if frame is not None:
                await self._websocket.send(frame)
        finally:
            self._on_streamed(size)

    async def _watch_heartbeat(self) -> None:
        """
        Raise LinkLost when nothing is heard for too long.

        Silence is counted in our own ticks, so that a pause of this process is not held against
        the server.
        """
        interval = min(1.0, self._heartbeat.ready / 4)
        ping: asyncio.Task[None] | None = None
        silent_ticks = 0
        try:
            while True:
                if ping is None or ping.done():
                    ping = asyncio.ensure_future(self._ping())
                await asyncio.sleep(interval)
                silent_ticks = 0 if self._heard else silent_ticks + 1
                self._heard = False
                limit = self._heartbeat.loading if self.loading else self._heartbeat.ready
                if silent_ticks * interval >= limit:
                    raise LinkLost(
                        f'the inference server gave no sign of life for {limit:g} s', hung=True
                    )
        finally:
            if ping is not None:
                ping.cancel()
                await asyncio.gather(ping, return_exceptions=True)

    async def _ping(self) -> None:
        # A broken connection is told by _read.
        with contextlib.suppress(OSError, websockets.exceptions.WebSocketException):
            pong = await self._websocket.ping()
            await pong
            self._heard = True

    def _closing_reason(self, error: Exception) -> str:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return f'nothing listens at {self._endpoint}'
        if isinstance(error, ProtocolError):
            return f'the inference server sent a bad message: {error}'
        if isinstance(error, websockets.exceptions.ConnectionClosed):
            return 'the inference server closed the connection'
        return f'{self._endpoint}: {error or type(error).__name__}'

    async def _leave(self, tasks: list[asyncio.Future[None]]) -> None:
        """End the tasks and the connection at once."""
        pending = set(tasks)
        while pending:
            for task in pending:
                task.cancel()
            # again, should a library lose a cancellation
            _, pending = await asyncio.wait(pending, timeout=0.1)
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._abandoned is not None and not self._abandoned.cancel():
            self._abandoned.exception()  # seen, or asyncio complains that nobody did
        for size, _make in self._streamed:
            self._on_streamed(size)
        self._streamed.clear()
        self._control.clear()
        self._uploads.clear()
        if self._websocket is not None:
            self._websocket.transport.abort()
            closed = asyncio.ensure_future(self._websocket.wait_closed())
            await asyncio.wait([closed], timeout=1.0)
            closed.cancel()
            await asyncio.gather(closed, return_exceptions=True)
