# SPDX-License-Identifier: Apache-2.0
"""What every kind of bag file offers: topics, raw messages in log order, and what was wrong."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

# A sentence about something that was wrong but could be passed over -> how often it was met.
Problems = Counter[str]


@dataclass(frozen=True, slots=True)
class Qos:
    """
    A publisher's quality of service as the recorder saw it.

    ``reliability`` is 'reliable' or 'best_effort', ``durability`` 'transient_local' or
    'volatile', '' where it is not known; ``depth`` is 0 where it is not known.
    """

    reliability: str = ''
    durability: str = ''
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Topic:
    """
    A recorded topic.

    ``type`` is the full name ('sensor_msgs/msg/Image'), ``count`` the messages in the bag,
    ``serialization`` is 'cdr' for what ROS 2 records.
    """

    name: str
    type: str
    count: int
    qos: tuple[Qos, ...] = ()
    serialization: str = 'cdr'


@dataclass(frozen=True, slots=True)
class RawMessage:
    """One serialized message; ``log_ns`` is the time at which the recorder received it."""

    topic: str
    type: str
    log_ns: int
    data: bytes | memoryview


class Storage(Protocol):
    """One file of a bag. Opening raises ArmorError; afterwards damage is counted, not raised."""

    @property
    def topics(self) -> Sequence[Topic]:
        """Return the file's topics."""

    @property
    def start_ns(self) -> int:
        """Return the log time of the first message; 0 when there is none."""

    @property
    def end_ns(self) -> int:
        """Return the log time of the last message; 0 when there is none."""

    def messages(self, topics: Collection[str] | None) -> Iterator[RawMessage]:
        """Yield the messages of some topics (None: all) in log order."""

    def close(self) -> None:
        """Close the file."""


def merge_by_time(
    sources: Sequence[tuple[int, Callable[[], Iterator[RawMessage]]]],
) -> Iterator[RawMessage]:
    """
    Merge sources of messages by log time; equal times come in the order of the sources.

    A source is a start time and a function that opens it; it is opened when its start is due, so
    that only sources that overlap in time are open together.
    """
    pending = sorted(enumerate(sources), key=lambda item: (item[1][0], item[0]), reverse=True)
    heap: list[tuple[int, int, RawMessage, Iterator[RawMessage]]] = []
    while pending or heap:
        while pending and (not heap or pending[-1][1][0] <= heap[0][0]):
            order, (_, open_source) = pending.pop()
            iterator = open_source()
            first = next(iterator, None)
            if first is not None:
                heapq.heappush(heap, (first.log_ns, order, first, iterator))
        if not heap:
            continue
        _, order, message, iterator = heap[0]
        yield message
        following = next(iterator, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following.log_ns, order, following, iterator))


_RELIABILITY = {
    1: 'reliable',
    2: 'best_effort',
    'reliable': 'reliable',
    'best_effort': 'best_effort',
}
_DURABILITY = {
    1: 'transient_local',
    2: 'volatile',
    'transient_local': 'transient_local',
    'volatile': 'volatile',
}


def parse_qos(text: object) -> tuple[Qos, ...]:
    """
    Read the QoS profiles that a recorder wrote, as numbers (up to Iron) or names (since Jazzy).

    What cannot be read is left out: a bag is not worse for it.
    """
    try:
        profiles: Any = yaml.safe_load(text) if isinstance(text, str) else text
    except yaml.YAMLError:
        return ()
    if not isinstance(profiles, list):
        return ()
    return tuple(_parse_profile(profile) for profile in profiles if isinstance(profile, dict))


def _parse_profile(profile: dict[str, Any]) -> Qos:
    depth = profile.get('depth')
    return Qos(
        reliability=_lookup(_RELIABILITY, profile.get('reliability')),
        durability=_lookup(_DURABILITY, profile.get('durability')),
        depth=depth if isinstance(depth, int) and 0 < depth < 100_000 else 0,
    )


def _lookup(names: dict[Any, str], value: object) -> str:
    if isinstance(value, str):
        return names.get(value.lower(), '')
    return names.get(value, '') if isinstance(value, int) else ''
