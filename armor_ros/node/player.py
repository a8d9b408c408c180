# SPDX-License-Identifier: Apache-2.0
"""The publishers of a replayed recording, and its time line."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock

from armor_ros.datasets.bag_reader import BagReader
from armor_ros.datasets.storage import RawMessage, Topic
from armor_ros.errors import ArmorError
from armor_ros.node.replay_topics import (
    CLOCK_TOPIC,
    DEFAULT_DEPTH,
    choose_topics,
    import_type,
    near_names,
    publisher_qos,
)

SECOND = 1_000_000_000
# Bag time between two messages of a generated clock, and the shortest real time between them.
CLOCK_PERIOD_NS = SECOND // 100
SHORTEST_CLOCK_PERIOD_NS = SECOND // 1000
LONGEST_SLEEP = 0.05
PROGRESS_SECONDS = 0.2
ACKNOWLEDGE_SECONDS = 2


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """How far a replay is: bag time since the first message, of how much, and messages so far."""

    elapsed_ns: int
    duration_ns: int
    published: int
    loops: int


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """
    What a replay did.

    ``skipped`` pairs topics that could not be published with the reason, ``loops`` counts complete
    passes, ``interrupted`` tells that it was ended by SIGINT or by its caller.
    """

    published: int
    topics: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    loops: int
    interrupted: bool


class _Stopped(Exception):  # noqa: N818 - no error: the caller asked for it
    pass


class Player:
    """The publishers of one replay and its time line."""

    def __init__(
        self,
        bag: BagReader,
        context: Context,
        rate: float,
        topics: Collection[str] | None,
        clock: bool,
        on_progress: Callable[[ReplayProgress], None] | None,
        stops: Sequence[Callable[[], bool]],
    ) -> None:
        self._bag = bag
        self._rate = rate
        self._on_progress = on_progress
        self._stops = stops
        self._published = 0
        self._loops = 0
        self._told = 0.0
        self._start_monotonic = 0.0
        # Clock minus log time: what a recorded clock was ahead, to continue it after the end.
        self._clock_offset_ns = 0
        chosen = choose_topics(bag, topics, clock)
        self._node = Node(
            'armor_replay', context=context, start_parameter_services=False, enable_rosout=False
        )
        self._publishers: dict[str, Publisher[Any]] = {}
        self._skipped: dict[str, str] = {}
        self._advertise(chosen)
        recorded = CLOCK_TOPIC in self._publishers
        self._clock: Publisher[Any] | None = None
        if clock and not recorded:
            self._clock = self._node.create_publisher(Clock, CLOCK_TOPIC, DEFAULT_DEPTH)
        self._continued_clock = self._clock or self._publishers.get(CLOCK_TOPIC)

    def close(self) -> None:
        """Take the topics back."""
        self._node.destroy_node()

    def wait(self, wanted: Sequence[str], wait_seconds: float, delay: float) -> None:
        """Wait until each wanted topic has a subscriber; ArmorError when one does not come."""
        for topic in wanted:
            if topic not in self._publishers and (topic != CLOCK_TOPIC or self._clock is None):
                raise ArmorError(
                    f'cannot wait for a subscriber of {topic}: it is not replayed'
                    + near_names(topic, self._publishers)
                )
        began = time.monotonic()
        try:
            for topic in wanted:
                publisher = self._publishers.get(topic) or self._clock
                while publisher is not None and not publisher.get_subscription_count():
                    if time.monotonic() > began + wait_seconds:
                        raise ArmorError(
                            f'nobody subscribed to {topic} within {wait_seconds:g} s; start the '
                            'subscriber first, or do not wait for it'
                        )
                    self._sleep_until(time.monotonic() + LONGEST_SLEEP)
            # A subscriber known here need not know of us yet, and would miss the beginning.
            self._sleep_until(time.monotonic() + delay)
        except _Stopped:
            self._stops = [lambda: True]

    def play(self, loop: bool, linger: float) -> ReplaySummary:
        """Publish everything; ends at the end of the bag, by SIGINT, or when told to stop."""
        interrupted = False
        try:
            while True:
                self._play_once()
                self._loops += 1
                if not loop:
                    break
            self._continue_clock(int(linger * SECOND))
        except _Stopped:
            interrupted = True
        if not interrupted:
            self._wait_for_delivery()
        return ReplaySummary(
            published=self._published,
            topics=tuple(sorted(self._publishers)),
            skipped=tuple(sorted(self._skipped.items())),
            loops=self._loops,
            interrupted=interrupted,
        )

    def _play_once(self) -> None:
        self._start_monotonic = time.monotonic()
        start_ns = self._bag.start_ns
        # Time 0 means "no time yet" to nodes on a simulated clock.
        tick_ns = max(start_ns, 1)
        for message in self._bag.messages(set(self._publishers)):
            while self._clock is not None and tick_ns <= message.log_ns:
                self._await_bag_time(tick_ns)
                self._publish_clock(self._clock, tick_ns)
                tick_ns += self._clock_period_ns()
            self._await_bag_time(message.log_ns)
            self._publish(message)
            self._tell(message.log_ns)

    def _publish(self, message: RawMessage) -> None:
        data = bytes(message.data)
        # What is not even encapsulated would reach a subscriber's deserializer as noise.
        if len(data) < 4:
            self._bag.problems[f'{message.topic}: a message is too short to be published'] += 1
            return
        if message.topic == CLOCK_TOPIC and len(data) >= 12:
            sec, nanosec = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
            self._clock_offset_ns = sec * SECOND + nanosec - message.log_ns
        self._publishers[message.topic].publish(data)
        self._published += 1

    def _continue_clock(self, linger_ns: int) -> None:
        if self._continued_clock is None:
            return
        first = self._bag.end_ns + self._clock_period_ns()
        for tick_ns in range(first, self._bag.end_ns + linger_ns + 1, self._clock_period_ns()):
            self._await_bag_time(tick_ns)
            self._publish_clock(self._continued_clock, tick_ns + self._clock_offset_ns)

    def _clock_period_ns(self) -> int:
        return max(CLOCK_PERIOD_NS, round(SHORTEST_CLOCK_PERIOD_NS * self._rate))

    def _publish_clock(self, publisher: Publisher[Any], time_ns: int) -> None:
        sec, nanosec = divmod(time_ns, SECOND)
        if 0 <= sec < 2**31:
            publisher.publish(Clock(clock=Time(sec=sec, nanosec=nanosec)))

    def _await_bag_time(self, bag_ns: int) -> None:
        elapsed = (bag_ns - self._bag.start_ns) / SECOND / self._rate
        self._sleep_until(self._start_monotonic + elapsed)

    def _sleep_until(self, moment: float) -> None:
        """Sleep in slices, so that a request to stop is heard; raises _Stopped then."""
        while True:
            if any(stop() for stop in self._stops):
                raise _Stopped
            remaining = moment - time.monotonic()
            if remaining <= 0:
                return
            time.sleep(min(remaining, LONGEST_SLEEP))

    def _tell(self, log_ns: int) -> None:
        now = time.monotonic()
        if self._on_progress is None or now < self._told + PROGRESS_SECONDS:
            return
        self._told = now
        self._on_progress(
            ReplayProgress(
                elapsed_ns=log_ns - self._bag.start_ns,
                duration_ns=self._bag.end_ns - self._bag.start_ns,
                published=self._published,
                loops=self._loops,
            )
        )

    def _wait_for_delivery(self) -> None:
        """Let reliable subscribers take what was sent last, before the publishers go."""
        deadline = time.monotonic() + ACKNOWLEDGE_SECONDS
        for publisher in self._publishers.values():
            left = max(0.0, deadline - time.monotonic())
            publisher.wait_for_all_acked(Duration(seconds=left))

    def _advertise(self, topics: Sequence[Topic]) -> None:
        logger = self._node.get_logger()
        for topic in topics:
            if topic.name in self._publishers:
                self._skipped[topic.name] = 'it was recorded with two types'
                continue
            try:
                self._publishers[topic.name] = self._node.create_publisher(
                    import_type(topic), topic.name, publisher_qos(topic)
                )
            except ArmorError as error:
                self._skipped[topic.name] = str(error)
            except Exception as error:  # rclpy has no common base for what it refuses
                self._skipped[topic.name] = f'{type(error).__name__}: {error}'
        for name, reason in sorted(self._skipped.items()):
            logger.warning(f'{name} is not replayed: {reason}')
        if not self._publishers:
            raise ArmorError(
                f'nothing of {self._bag.path} can be replayed: '
                + '; '.join(f'{name}: {reason}' for name, reason in sorted(self._skipped.items()))
            )
        logger.info(f'replaying {len(self._publishers)} topics of {self._bag.path}')
