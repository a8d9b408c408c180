# SPDX-License-Identifier: Apache-2.0
"""A real HTTP server that speaks the APIs of Anthropic and OpenAI, and misbehaves on request."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Reply = str | Callable[[dict[str, Any]], Any]


@dataclass
class ChatServer:
    """
    Answers with ``text``, or what it returns for a request's body.

    ``script`` holds responses for the next requests, each used once, before ``text`` counts.
    ``delay`` is seconds before every answer. Requests are kept with their headers.
    """

    text: Reply = 'OK'
    script: list[Response | Exception] = field(default_factory=list)
    delay: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    url: str = ''

    async def anthropic(self, request: Request) -> Response:
        """Answer as the Messages API does."""
        text = await self._take(request)
        if isinstance(text, Response):
            return text
        return JSONResponse(
            {
                'id': 'msg_1',
                'type': 'message',
                'role': 'assistant',
                'model': self.requests[-1]['model'],
                'content': [{'type': 'text', 'text': text}],
                'stop_reason': 'end_turn',
                'stop_sequence': None,
                'usage': {'input_tokens': 1, 'output_tokens': 1},
            }
        )

    async def openai(self, request: Request) -> Response:
        """Answer as chat completions do."""
        text = await self._take(request)
        if isinstance(text, Response):
            return text
        message = {'role': 'assistant', 'content': text}
        return JSONResponse(
            {
                'id': 'chatcmpl-1',
                'object': 'chat.completion',
                'created': 0,
                'model': self.requests[-1]['model'],
                'choices': [{'index': 0, 'finish_reason': 'stop', 'message': message}],
            }
        )

    async def _take(self, request: Request) -> Any:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay)
        finally:
            self.at_once -= 1
        if self.script:
            return self.script.pop(0)
        return self.text if isinstance(self.text, str) else self.text(body)


def error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error as both APIs write it."""
    body = {'type': 'error', 'error': {'type': 'some_error', 'message': message, 'code': None}}
    return JSONResponse(body, status, headers)


@contextmanager
def serve(server: ChatServer) -> Iterator[ChatServer]:
    """Run a server on a free port of this machine; ``server.url`` is its address."""
    app = Starlette(
        routes=[
            Route('/v1/messages', server.anthropic, methods=['POST']),
            Route('/v1/chat/completions', server.openai, methods=['POST']),
        ]
    )
    runner = uvicorn.Server(uvicorn.Config(app, port=0, log_level='error'))
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10.0
    while not runner.started:
        assert time.monotonic() < deadline, 'the server did not start'
        time.sleep(0.01)
    port = runner.servers[0].sockets[0].getsockname()[1]
    server.url = f'http://127.0.0.1:{port}'
    try:
        yield server
    finally:
        runner.should_exit = True
        thread.join(timeout=10.0)
