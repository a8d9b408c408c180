# SPDX-License-Identifier: Apache-2.0
"""Publish a recording live on its topics, with /clock: ``armor replay``."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import rclpy
from rclpy.context import Context

from armor_ros.datasets.bag_reader import BagReader
from armor_ros.errors import ArmorError
from armor_ros.node.player import Player, ReplayProgress, ReplaySummary


def replay_bag(
    path: str | Path,
    *,
    rate: float = 1.0,
    loop: bool = False,
    topics: Collection[str] | None = None,
    clock: bool = True,
    wait_for: Sequence[str] = (),
    wait_seconds: float = 60.0,
    delay: float = 0.5,
    linger: float = 1.0,
    on_progress: Callable[[ReplayProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ReplaySummary:
    """
    Publish the serialized messages of a recording on its topics, in log order and in its rhythm.

    ``rate`` is the speed, above 0. ``loop`` begins again at the end, with the clock jumping back,
    until SIGINT or ``should_stop``. ``topics`` limits what is published (None: all whose type is
    installed). ``clock`` publishes /clock: the recorded one, else one made of the log times, every
    10 ms of bag time; it runs on for ``linger`` seconds after the last message of a replay without
    ``loop``, so that nodes on it can finish. Before the first message, each topic of ``wait_for``
    must have got a subscriber, within ``wait_seconds``; then subscribers have ``delay`` seconds to
    find the publishers.

    Raises ArmorError for a bag that cannot be read or has nothing to publish, bad arguments, or a
    subscriber that does not come.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise ArmorError(f'rate is {rate}; give a speed above 0, for instance 1 or 0.5')
    with BagReader(path) as bag, _interruption() as interrupted:
        context = Context()
        # No signal handler of rclpy: SIGINT is to end the replay, not the context under it.
        rclpy.init(context=context)
        try:
            stops = (
                [interrupted.is_set] if should_stop is None else [interrupted.is_set, should_stop]
            )
            player = Player(bag, context, rate, topics, clock, on_progress, stops)
            try:
                player.wait(wait_for, wait_seconds, delay)
                return player.play(loop, linger)
            finally:
                player.close()
        finally:
            context.try_shutdown()


@contextlib.contextmanager
def _interruption() -> Iterator[threading.Event]:
    """
    Turn SIGINT into an event while the context lasts.

    A KeyboardInterrupt may come up inside a callback of the middleware, which swallows it.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # signals are the main thread's
        return
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
