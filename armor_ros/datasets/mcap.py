# SPDX-License-Identifier: Apache-2.0
"""
Reading MCAP files, whole or damaged.

The index at a file's end is a convenience here, not a need: the data section is walked record by
record, so that a recording cut off by a crash or a full disk is read up to where it stops.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zlib import crc32

from armor_ros.datasets.compression import MAX_EXPANDED, unlz4, unzstd
from armor_ros.datasets.storage import (
    Problems,
    RawMessage,
    Topic,
    merge_by_time,
    parse_qos,
)
from armor_ros.datasets.typestore import normalize_type
from armor_ros.errors import ArmorError

_MAGIC = b'\x89MCAP0\r\n'
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 1, 2, 3, 4, 5, 6
_STATISTICS, _DATA_END = 0x0B, 0x0F
_RECORD = struct.Struct('<BQ')
_MESSAGE_HEAD = struct.Struct('<HIQQ')
_CHUNK_HEAD = struct.Struct('<QQQI')
_FOOTER_LENGTH = 20
_RUN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Channel:
    topic: str
    type: str
    serialization: str
    qos: str


@dataclass(frozen=True, slots=True)
class _Block:
    """Bytes of the data section: a chunk's body, or a run of records outside chunks."""

    start_ns: int
    offset: int
    length: int
    is_chunk: bool
    is_cut: bool = False


class _MalformedError(Exception):
    """A record that does not hold what its lengths claim."""


class McapFile:
    """One MCAP file, see ``Storage``. Damage is told in ``problems``, of the file ``shown``."""

    def __init__(self, path: Path, problems: Problems, shown: Path | None = None) -> None:
        self._path = shown or path
        self._problems = problems
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, _Channel] = {}
        self._counts: Counter[int] = Counter()
        self.start_ns = 0
        self.end_ns = 0
        try:
            self._file = path.open('rb')
            self._size = path.stat().st_size
        except OSError as error:
            raise ArmorError(f'cannot open {self._path}: {error.strerror}') from error
        try:
            self._check_magic()
            self._blocks = list(self._walk())
            if not self._read_summary():
                self._scan()
        except OSError as error:
            self._file.close()
            raise ArmorError(f'cannot read {self._path}: {error.strerror}') from error
        except ArmorError:
            self._file.close()
            raise

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The file's topics, in the order of their channels."""
        return tuple(
            Topic(
                channel.topic,
                channel.type,
                self._counts[key],
                parse_qos(channel.qos),
                channel.serialization,
            )
            for key, channel in sorted(self._channels.items())
        )

    def messages(self, topics: Collection[str] | None) -> Iterator[RawMessage]:
        """Yield the messages of some topics (None: all) in log order."""
        return merge_by_time(
            [
                (block.start_ns, partial(self._block_messages, block, topics))
                for block in self._blocks
            ]
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check_magic(self) -> None:
        magic = self._read(0, len(_MAGIC))
        if not magic:
            raise ArmorError(f'{self._path} is empty (0 bytes); nothing was recorded into it')
        if magic != _MAGIC:
            raise ArmorError(
                f'{self._path} is no MCAP file: it starts with {magic!r} instead of {_MAGIC!r}; '
                'check that it was copied whole'
            )

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def _walk(self) -> Iterator[_Block]:
        """Find the chunks, and the runs of records outside them, without reading their bodies."""
        offset = len(_MAGIC)
        run_start, run_ns = offset, 0
        while True:
            head = self._read(offset, _RECORD.size + _CHUNK_HEAD.size)
            if len(head) < _RECORD.size:
                self._note('the file ends early (a recording that was cut off)')
                break
            kind, length = _RECORD.unpack_from(head)
            body = offset + _RECORD.size
            if kind in (_DATA_END, _FOOTER):
                break
            if kind == 0 or body + length > self._size:
                self._note('the file ends early (a recording that was cut off)')
                if kind == _CHUNK and len(head) == _RECORD.size + _CHUNK_HEAD.size:
                    if run_start < offset:
                        yield _Block(run_ns, run_start, offset - run_start, False)
                    start_ns = _CHUNK_HEAD.unpack_from(head, _RECORD.size)[0]
                    yield _Block(start_ns, body, self._size - body, True, True)
                    return
                break
            if kind == _CHUNK or offset - run_start >= _RUN_BYTES:
                if run_start < offset:
                    yield _Block(run_ns, run_start, offset - run_start, False)
                run_start, run_ns = offset, 0
            if kind == _CHUNK:
                if length >= _CHUNK_HEAD.size + 12:
                    start_ns = _CHUNK_HEAD.unpack_from(head, _RECORD.size)[0]
                    yield _Block(start_ns, body, length, True)
                else:
                    self._note('a chunk is too short to hold anything')
                run_start = body + length
            elif kind == _MESSAGE and length >= _MESSAGE_HEAD.size:
                log_ns = _MESSAGE_HEAD.unpack_from(head, _RECORD.size)[2]
                run_ns = min(run_ns or log_ns, log_ns)
            offset = body + length
        if run_start < offset:
            yield _Block(run_ns, run_start, offset - run_start, False)

    def _read_summary(self) -> bool:
        """Take channels, counts and times from the end of the file; False if it lacks them."""
        length = _RECORD.size + _FOOTER_LENGTH
        footer = self._read(max(0, self._size - length - len(_MAGIC)), length + len(_MAGIC))
        if len(footer) != length + len(_MAGIC) or footer[-8:] != _MAGIC:
            return False
        if _RECORD.unpack_from(footer) != (_FOOTER, _FOOTER_LENGTH):
            return False
        (start,) = struct.unpack_from('<Q', footer, _RECORD.size)
        if not 0 < start < self._size:
            return False
        statistics = None
        for kind, body in self._records(memoryview(self._read(start, self._size - start))):
            if kind == _STATISTICS:
                statistics = bytes(body)
            else:
                self._learn(kind, body)
        if statistics is None or len(statistics) < 46 or not self._channels:
            return False
        self.start_ns, self.end_ns = struct.unpack_from('<QQ', statistics, 26)
        (size,) = struct.unpack_from('<I', statistics, 42)
        pairs = statistics[46 : 46 + size - size % 10]
        self._counts.update(dict(struct.iter_unpack('<HQ', pairs[: len(pairs) // 10 * 10])))
        return True

    def _scan(self) -> None:
        """Take channels, counts and times from the messages themselves."""
        self._counts.clear()
        times: list[int] = []
        problems, self._problems = self._problems, Counter()
        for block in self._blocks:
            for key, log_ns, _ in self._block_records(block):
                self._counts[key] += 1
                times.append(log_ns)
        # The same damage is met, and told, again when the messages are read.
        self._problems = problems
        self.start_ns, self.end_ns = (min(times), max(times)) if times else (0, 0)

    def _block_messages(
        self, block: _Block, topics: Collection[str] | None
    ) -> Iterator[RawMessage]:
        found = []
        for key, log_ns, data in self._block_records(block):
            channel = self._channels.get(key)
            if channel is None:
                self._note('a message belongs to a channel that the file does not describe')
            elif topics is None or channel.topic in topics:
                found.append(RawMessage(channel.topic, channel.type, log_ns, data))
        found.sort(key=lambda message: message.log_ns)
        return iter(found)

    def _block_records(self, block: _Block) -> Iterator[tuple[int, int, memoryview]]:
        """Yield channel, log time and data of the messages of a block, in the order written."""
        try:
            data: bytes | memoryview = self._read(block.offset, block.length)
            if block.is_chunk:
                data = _expand(memoryview(data), block.is_cut)
        except _MalformedError as error:
            self._note(f'a chunk is damaged and left out: {error}')
            return
        except OSError as error:
            self._note(f'a part of the file cannot be read: {error.strerror}')
            return
        for kind, body in self._records(memoryview(data)):
            if kind != _MESSAGE:
                self._learn(kind, body)
            elif len(body) >= _MESSAGE_HEAD.size:
                key, _, log_ns, _ = _MESSAGE_HEAD.unpack_from(body)
                yield key, log_ns, body[_MESSAGE_HEAD.size :]

    def _records(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        offset = 0
        while offset + _RECORD.size <= len(data):
            kind, length = _RECORD.unpack_from(data, offset)
            offset += _RECORD.size
            if offset + length > len(data):
                return
            yield kind, data[offset : offset + length]
            offset += length

    def _learn(self, kind: int, body: memoryview) -> None:
        try:
            if kind == _SCHEMA:
                self._schemas[_uint(body, 0, 2)] = _strings(body, 2, 1)[0]
            elif kind == _CHANNEL:
                topic, encoding = _strings(body, 4, 2)
                offset = 4 + 8 + len(topic.encode()) + len(encoding.encode())
                schema = self._schemas.get(_uint(body, 2, 2), '')
                self._channels[_uint(body, 0, 2)] = _Channel(
                    topic, normalize_type(schema), encoding, _recorded_qos(body[offset:])
                )
        except _MalformedError:
            self._note('a description of a topic is damaged')

    def _note(self, problem: str) -> None:
        self._problems[f'{os.fspath(self._path.name)}: {problem}'] += 1


def _expand(body: memoryview, is_cut: bool) -> bytes | memoryview:
    """Return the records in a chunk, checked; of a chunk that was cut off, what is left."""
    if len(body) < _CHUNK_HEAD.size:
        raise _MalformedError('it ends in its head')
    _, _, size, checksum = _CHUNK_HEAD.unpack_from(body)
    compression = _strings(body, _CHUNK_HEAD.size, 1)[0]
    offset = _CHUNK_HEAD.size + 4 + len(compression.encode())
    data = body[offset + 8 :] if is_cut else body[offset + 8 : offset + 8 + _uint(body, offset, 8)]
    if size > MAX_EXPANDED:
        raise _MalformedError(f'it claims {size} bytes, more than {MAX_EXPANDED}')
    expanded = _decompress(data, compression, size)
    if is_cut:
        return expanded
    if len(expanded) != size:
        raise _MalformedError(f'it holds {len(expanded)} bytes instead of {size}')
    if checksum and crc32(expanded) != checksum:
        raise _MalformedError('its checksum is wrong')
    return expanded


def _decompress(data: memoryview, compression: str, size: int) -> bytes | memoryview:
    try:
        if not compression:
            return data
        if compression == 'zstd':
            return unzstd(data, max(size, 1))[0]
        if compression == 'lz4':
            return unlz4(data, max(size, 1))
    except ValueError as error:
        raise _MalformedError(str(error)) from error
    raise _MalformedError(f'its compression {compression!r} is not known')


def _uint(body: memoryview, offset: int, size: int) -> int:
    if offset + size > len(body):
        raise _MalformedError('it ends in a number')
    return int.from_bytes(body[offset : offset + size], 'little')


def _strings(body: memoryview, offset: int, count: int) -> list[str]:
    """Read consecutive strings, each a length of four bytes and UTF-8."""
    found = []
    for _ in range(count):
        length = _uint(body, offset, 4)
        offset += 4
        if offset + length > len(body):
            raise _MalformedError('it ends in a text')
        try:
            found.append(bytes(body[offset : offset + length]).decode())
        except UnicodeDecodeError as error:
            raise _MalformedError('a text is not UTF-8') from error
        offset += length
    return found


def _recorded_qos(metadata: memoryview) -> str:
    """Return the QoS profiles in a channel's metadata, a map of strings; '' without."""
    end = min(len(metadata), 4 + _uint(metadata, 0, 4))
    offset = 4
    while offset < end:
        key, value = _strings(metadata, offset, 2)
        if key == 'offered_qos_profiles':
            return value
        offset += 8 + len(key.encode()) + len(value.encode())
    return ''
