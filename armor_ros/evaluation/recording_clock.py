# SPDX-License-Identifier: Apache-2.0
"""Which clock the instants of a recording's tasks are told in, read from serialized messages."""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Callable, Sequence

from armor_ros.datasets.bag_reader import BagReader
from armor_ros.datasets.bags import CLOCK_TYPE
from armor_ros.datasets.cameras import IMAGE_TYPES
from armor_ros.datasets.storage import RawMessage

# What time it is on some clock when a message is received; None where the message does not say.
ReadTime = Callable[[RawMessage], 'int | None']

_SECOND = 1_000_000_000
_PEEK = 100


def choose_clock(reader: BagReader, ends_ns: Sequence[int]) -> ReadTime:
    """
    Return how to read, from a message, the time that some instants of a recording are told in.

    That may be the log's time, /clock, or the cameras' stamps: it is the one in whose span the
    instants lie, the first of these where they lie in several.
    """
    duration = reader.end_ns - reader.start_ns
    starts: dict[ReadTime, int] = {log_time: reader.start_ns}
    for read, kinds in ((clock_time, (CLOCK_TYPE,)), (_stamp_time, IMAGE_TYPES)):
        first = _first_time(reader, read, kinds)
        if first is not None:
            starts[read] = first

    def distance(read: ReadTime) -> int:
        start = starts[read] - _SECOND
        last = start + duration + 2 * _SECOND
        return sum(max(0, start - end_ns, end_ns - last) for end_ns in ends_ns)

    # the first of equals: the log's own time
    return min(starts, key=distance)


def _first_time(reader: BagReader, read: ReadTime, kinds: Sequence[str]) -> int | None:
    """Return the first time that messages of some types tell, None where none does."""
    topics = {topic.name for topic in reader.topics if topic.type in kinds and topic.count}
    if not topics:
        return None
    told = Counter(reader.problems)
    times = map(read, itertools.islice(reader.messages(topics), _PEEK))
    first = next((time_ns for time_ns in times if time_ns), None)
    # the same messages are read again, with the same problems
    reader.problems.clear()
    reader.problems.update(told)
    return first


def log_time(message: RawMessage) -> int | None:
    """Return the log time."""
    return message.log_ns


def clock_time(message: RawMessage) -> int | None:
    """Return the time of a message of /clock, None for another."""
    return _leading_time(message) if message.type == CLOCK_TYPE else None


def _stamp_time(message: RawMessage) -> int | None:
    return _leading_time(message) if message.type in IMAGE_TYPES else None


def _leading_time(message: RawMessage) -> int | None:
    """Return the time that a message begins with, in nanoseconds; None where it is cut off."""
    data = bytes(message.data[:12])
    if len(data) < 12:
        return None
    # the second byte of CDR's encapsulation is odd for little-endian
    sec, nanosec = struct.unpack('<iI' if data[1] & 1 else '>iI', data[4:])
    return int(sec) * _SECOND + int(nanosec)
