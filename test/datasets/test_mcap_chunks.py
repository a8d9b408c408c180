# SPDX-License-Identifier: Apache-2.0
"""MCAP chunks as other recorders write them, and as damage leaves them."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from zlib import crc32

import lz4.frame
import numpy as np
import pytest

from armor_ros.datasets import mcap
from armor_ros.datasets.bags import Bag
from armor_ros.datasets.compression import zstd
from armor_ros.datasets.mcap import McapFile

MAGIC = b'\x89MCAP0\r\n'
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 1, 2, 3, 4, 5, 6, 15
CLOCK = bytes.fromhex('00010000') + struct.pack('<iI', 3, 7)


def text(value: str) -> bytes:
    return struct.pack('<I', len(value.encode())) + value.encode()


def record(kind: int, body: bytes) -> bytes:
    return struct.pack('<BQ', kind, len(body)) + body


def topic(key: int, name: str, encoding: str = 'cdr') -> bytes:
    schema = struct.pack('<H', key) + text('rosgraph_msgs/msg/Clock') + text('') + text('')
    channel = struct.pack('<HH', key, key) + text(name) + text(encoding) + text('')
    return record(SCHEMA, schema) + record(CHANNEL, channel)


def message(key: int, log_ns: int, data: bytes = CLOCK) -> bytes:
    return record(MESSAGE, struct.pack('<HIQQ', key, 0, log_ns, log_ns) + data)


def chunk(records: bytes, compression: str = '', checksum: int | None = None) -> bytes:
    packed = {
        '': lambda data: data,
        'zstd': zstd.compress,
        'lz4': lz4.frame.compress,
        'brotli': lambda data: data,
    }[compression](records)
    checksum = crc32(records) if checksum is None else checksum
    head = struct.pack('<QQQI', 1, 100, len(records), checksum) + text(compression)
    return record(CHUNK, head + struct.pack('<Q', len(packed)) + packed)


def write(path: Path, *parts: bytes, end: bool = True) -> Path:
    data = MAGIC + record(HEADER, text('ros2') + text('test')) + b''.join(parts)
    if end:
        data += record(DATA_END, bytes(4)) + record(FOOTER, bytes(20)) + MAGIC
    path.write_bytes(data)
    return path


def read(path: Path) -> tuple[list[int], Counter[str]]:
    problems: Counter[str] = Counter()
    file = McapFile(path, problems)
    times = [found.log_ns for found in file.messages(None)]
    file.close()
    return times, problems


BODY = topic(1, '/clock') + b''.join(message(1, log_ns) for log_ns in (30, 10, 20))


@pytest.mark.parametrize('compression', ['', 'zstd', 'lz4'])
def test_every_compression_with_a_checksum(tmp_path: Path, compression: str) -> None:
    times, problems = read(write(tmp_path / 'a.mcap', chunk(BODY, compression)))
    assert times == [10, 20, 30]
    assert not problems


@pytest.mark.parametrize('compression', ['', 'zstd', 'lz4'])
def test_a_wrong_checksum_leaves_the_chunk_out(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / 'a.mcap', chunk(BODY), chunk(message(1, 40), compression, 1234))
    times, problems = read(path)
    assert times == [10, 20, 30]
    assert problems == {'a.mcap: a chunk is damaged and left out: its checksum is wrong': 1}


def test_an_unknown_compression_is_named(tmp_path: Path) -> None:
    times, problems = read(write(tmp_path / 'a.mcap', chunk(BODY, 'brotli')))
    assert times == []
    assert any("its compression 'brotli' is not known" in problem for problem in problems)


@pytest.mark.parametrize('compression', ['', 'zstd', 'lz4'])
def test_a_cut_chunk_gives_what_is_left(tmp_path: Path, compression: str) -> None:
    # Bytes that do not shrink, so that a cut in the middle is a cut in the middle of messages.
    noise = np.random.default_rng(0).integers(0, 255, (40, 16384), dtype=np.uint8)
    body = topic(1, '/clock')
    body += b''.join(message(1, index, data.tobytes()) for index, data in enumerate(noise))
    path = write(tmp_path / 'a.mcap', chunk(body, compression), end=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    times, problems = read(path)
    assert times == list(range(len(times)))
    assert len(times) < 40
    # A block of lz4 or zstd is given whole or not at all.
    assert len(times) >= (29 if not compression else 20)
    assert problems == {'a.mcap: the file ends early (a recording that was cut off)': 1}


def test_messages_of_an_unknown_channel_are_counted(tmp_path: Path) -> None:
    times, problems = read(write(tmp_path / 'a.mcap', chunk(BODY + message(9, 40))))
    assert times == [10, 20, 30]
    assert list(problems.values()) == [1]


def test_overlapping_chunks_and_loose_messages_are_merged(tmp_path: Path) -> None:
    second = b''.join(message(1, log_ns) for log_ns in (15, 5, 35))
    loose = message(1, 12) + message(1, 40)
    times, problems = read(write(tmp_path / 'a.mcap', chunk(BODY), loose, chunk(second)))
    assert times == [5, 10, 12, 15, 20, 30, 35, 40]
    assert not problems


def test_runs_of_loose_messages_begin_with_their_earliest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcap, '_RUN_BYTES', 3 * len(message(1, 0)))
    loose = b''.join(message(1, log_ns) for log_ns in (100, 20, 110, 50, 60, 70, 120))
    times, problems = read(write(tmp_path / 'a.mcap', chunk(topic(1, '/clock')), loose))
    assert times == [20, 50, 60, 70, 100, 110, 120]
    assert not problems


def test_a_record_that_lies_about_its_length_ends_the_file(tmp_path: Path) -> None:
    for length in (1 << 62, (1 << 64) - 1):
        lie = struct.pack('<BQ', MESSAGE, length)
        times, problems = read(write(tmp_path / 'a.mcap', chunk(BODY), lie))
        assert times == [10, 20, 30]
        assert any('ends early' in problem for problem in problems)


def test_topics_that_are_not_cdr_are_listed_but_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / 'a.mcap', chunk(topic(1, '/clock', 'json') + message(1, 1, b'{}')))
    with Bag(path) as bag:
        assert [found.serialization for found in bag.info().topics] == ['json']
        assert list(bag.read()) == []
        assert not bag.problems


def test_a_file_with_a_header_only_is_an_empty_recording(tmp_path: Path) -> None:
    with Bag(write(tmp_path / 'a.mcap')) as bag:
        info = bag.info()
        assert (info.message_count, info.topics, info.duration_ns) == (0, (), 0)
