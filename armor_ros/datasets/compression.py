# SPDX-License-Identifier: Apache-2.0
"""Undoing zstd and lz4 with a limit on what a few lying bytes may grow to."""

from __future__ import annotations

import sys
from pathlib import Path

import lz4.frame  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
MAX_EXPANDED = 1 << 30
_COPY_BYTES = 1 << 20


def unzstd(data: bytes | memoryview, limit: int = MAX_EXPANDED) -> tuple[bytes, bool]:
    """
    Expand zstd frames; return the bytes, and whether the input was complete.

    Raises ValueError for data that is not zstd or grows beyond ``limit`` bytes.
    """
    rest = bytes(data)
    parts: list[bytes] = []
    size = 0
    while rest:
        decompressor = zstd.ZstdDecompressor()
        try:
            parts.append(decompressor.decompress(rest, max_length=limit - size + 1))
        except zstd.ZstdError as error:
            raise ValueError(str(error)) from error
        size += len(parts[-1])
        if size > limit:
            raise ValueError(f'it grows beyond {limit} bytes')
        if not decompressor.eof:
            return b''.join(parts), False
        rest = decompressor.unused_data
    return b''.join(parts), True


def unlz4(data: bytes | memoryview, limit: int = MAX_EXPANDED) -> bytes:
    """
    Expand an lz4 frame, or as much of it as there is, up to ``limit`` bytes.

    Raises ValueError for data that is not lz4.
    """
    try:
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(bytes(data), max_length=limit))
    except (RuntimeError, EOFError) as error:
        raise ValueError(str(error)) from error


def expand_file(source: Path, target: Path) -> bool:
    """
    Expand a zstd file into another; return False when the source ends early.

    What precedes the break is in the target. Raises ValueError for data that is not zstd, OSError
    from reading or writing.
    """
    decompressor = zstd.ZstdDecompressor()
    begun = False
    with source.open('rb') as packed, target.open('wb') as plain:
        while block := packed.read(_COPY_BYTES):
            while block:
                if decompressor.eof:
                    decompressor = zstd.ZstdDecompressor()
                try:
                    plain.write(decompressor.decompress(block))
                except zstd.ZstdError as error:
                    raise ValueError(str(error)) from error
                begun = True
                block = decompressor.unused_data if decompressor.eof else b''
    return decompressor.eof or not begun
