# SPDX-License-Identifier: Apache-2.0
"""The entry point of ``ros2 run armor_ros monitor`` and ``armor monitor``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn

from armor_ros.errors import ArmorError
from armor_ros.node.monitor import Monitor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the monitor until it is interrupted; return the exit status."""
    rclpy.init(args=list(arguments) if arguments is not None else None)
    try:
        return _run()
    except ArmorError as error:
        print(f'armor_monitor: {error}', file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()


def _run() -> int:
    node = Monitor()
    # One thread: callbacks are short, inference is another process, and nothing needs a lock.
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.parameters.autostart and not _start(node):
            return 1
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.release()
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
