# SPDX-License-Identifier: Apache-2.0
"""Ubuntu 22.04 pairs Python 3.10 with websockets 9.1, which was written for Python 3.9."""

from __future__ import annotations

import asyncio
from typing import Any

import websockets.version


class _AsyncioWithoutLoop:
    """The asyncio module, its functions taking and ignoring ``loop=None`` as in Python 3.9."""

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(asyncio, name)
        if name not in ('Lock', 'sleep', 'wait', 'wait_for'):
            return attribute

        def without_loop(*arguments: Any, loop: None = None, **options: Any) -> Any:
            return attribute(*arguments, **options)

        return without_loop


def mend_websockets() -> None:
    """Let websockets 9 work on Python 3.10 and later; leave every other version as it is."""
    if int(websockets.version.version.split('.')[0]) == 9:
        from websockets.legacy import protocol

        protocol.asyncio = _AsyncioWithoutLoop()  # type: ignore[assignment, attr-defined]
