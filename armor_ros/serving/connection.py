# SPDX-License-Identifier: Apache-2.0
"""The server's side of one websocket: messages queued from any thread, written in order."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.websockets import WebSocket, WebSocketDisconnect

from armor_ros.serving.messages import Goodbye, ServerMessage
from armor_ros.serving.protocol import encode

DELIVER_SECONDS = 5.0


class Connection:
    """One monitor: a queue of encoded messages in front of its websocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._loop = asyncio.get_running_loop()
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue()
        self._writer = asyncio.ensure_future(self._write())
        self._is_open = True

    def post(self, message: ServerMessage) -> None:
        """Queue a message."""
        self._put(encode(message))

    def post_from_thread(self, data: bytes) -> None:
        """Queue an encoded message, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and so has the connection
            self._loop.call_soon_threadsafe(self._put, data)

    async def deliver(self) -> None:
        """Wait until all queued messages were written, a few seconds at most."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._unsent.join(), DELIVER_SECONDS)

    async def close(self, goodbye: Goodbye | None = None) -> None:
        """End the connection, with a reason if there is one to give."""
        if goodbye is not None:
            self.post(goodbye)
            await self.deliver()
        self._is_open = False
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        while not self._unsent.empty():
            self._unsent.get_nowait()
            self._unsent.task_done()
        if goodbye is not None:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                # a close frame has room for 123 bytes
                reason = goodbye.reason.encode()[:120].decode(errors='ignore')
                await self._websocket.close(goodbye.code, reason)

    def _put(self, data: bytes) -> None:
        if self._is_open:
            self._unsent.put_nowait(data)

    async def _write(self) -> None:
        while True:
            data = await self._unsent.get()
            try:
                await self._websocket.send_bytes(data)
            except (RuntimeError, WebSocketDisconnect):
                self._is_open = False  # the reading side tells the rest
            finally:
                self._unsent.task_done()
