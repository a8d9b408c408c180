# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``ros2 run armor_ros monitor`` and ``armor monitor``."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from armor_ros.errors import ArmorError
from armor_ros.node.monitor import Monitor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the monitor until it is interrupted; return the exit status."""
    # rclpy's own handler would end the context before the open tasks are answered, and a second
    # signal, which launch may send, would interrupt that.
    rclpy.init(
        args=list(arguments) if arguments is not None else None,
        signal_handler_options=SignalHandlerOptions.NO,
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        return _run(stop)
    except ArmorError as error:
        print(f'armor_monitor: {error}', file=sys.stderr)
        return 1
    finally:
        # A node is part of cycles of references. Left to the interpreter's exit, what it holds of
        # the middleware is destroyed beside the middleware's own end, which then may never come.
        gc.collect()
        rclpy.try_shutdown()


def _run(stop: threading.Event) -> int:
    node = Monitor()
    # One thread: callbacks are short, inference is another process, and nothing needs a lock.
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.parameters.autostart and not _start(node):
            return 1
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.2)
    except ExternalShutdownException:
        pass
    finally:
        node.shut_down()
        executor.shutdown()
        node.destroy_node()
    return 0


def _start(node: Monitor) -> bool:
    """Configure and activate; the node has said why if it cannot."""
    return (
        node.trigger_configure() is TransitionCallbackReturn.SUCCESS
        and node.trigger_activate() is TransitionCallbackReturn.SUCCESS
    )


if __name__ == '__main__':
    sys.exit(main())
