# SPDX-License-Identifier: Apache-2.0
"""Opens the websocket to an inference server, over a Unix socket or TCP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import websockets

from armor_ros.serving import compat
from armor_ros.serving.events import Endpoint

MAX_REPLY_BYTES = 8 * 1024 * 1024
# Linux: keep unsent bytes in our own queue, so that a ping need not wait behind old frames.
_TCP_NOTSENT_LOWAT = getattr(socket, 'TCP_NOTSENT_LOWAT', 25)
_UNSENT_BYTES = 256 * 1024

compat.mend_websockets()


async def open_websocket(endpoint: Endpoint) -> Any:
    """
    Return a connected websocket whose keep-alive is left to the caller.

    Uses only what websockets 9 and the newest have in common. Raises OSError or
    WebSocketException when there is no server.
    """
    options: dict[str, Any] = {
        'max_size': MAX_REPLY_BYTES,
        'compression': None,
        'ping_interval': None,
        'close_timeout': 0.5,
    }
    if endpoint.unix:
        return await websockets.unix_connect(endpoint.unix, uri='ws://localhost/', **options)
    # Our own socket: some versions would otherwise ask the environment for a proxy.
    connection = await _open_socket(endpoint)
    try:
        return await websockets.connect('ws://armor/', sock=connection, **options)
    except BaseException:
        connection.close()
        raise


async def _open_socket(endpoint: Endpoint) -> socket.socket:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure or OSError(f'{endpoint.host} has no address')
