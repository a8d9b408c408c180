# SPDX-License-Identifier: Apache-2.0
"""A robot to watch: cameras, actions and task events on real topics, and the monitor beside it."""

from __future__ import annotations

import array
import functools
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


@pytest.fixture(scope='session')
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from armor_ros.model.tiny import make_tiny_checkpoint

    path = tmp_path_factory.mktemp('models') / 'tiny'
    make_tiny_checkpoint(path)
    return path


@pytest.fixture(scope='session')
def shared_server(
    tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Serve the tiny model over TCP to all monitors that need no process of their own."""
    folder = tmp_path_factory.mktemp('server')
    token_file = folder / 'token'
    token_file.write_text('a secret of these tests alone')
    token_file.chmod(0o600)
    with socket.create_server(('127.0.0.1', 0)) as probe:
        port = probe.getsockname()[1]
    with (folder / 'log').open('w') as log:
        process = subprocess.Popen(
            [
                *(sys.executable, '-m', 'armor_ros.serving.server', '--device', 'cpu'),
                *('--checkpoint', str(tiny_checkpoint), '--token-file', str(token_file)),
                *('--host', '127.0.0.1', '--port', str(port)),
            ],
            stdout=log,
            stderr=log,
        )
    yield {'server': f'127.0.0.1:{port}', 'token_file': str(token_file)}
    process.terminate()
    process.wait(timeout=10.0)


class Robot:
    """
    Publishes images and task events as a robot does, and collects the monitor's reports.

    ``hold`` spins for some seconds while every camera publishes at ``rate``.
    """

    def __init__(self, ros: Any, namespace: str = '') -> None:
        from action_msgs.msg import GoalStatusArray
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from armor_msgs.msg import FailureReport, TaskEvent

        self.ros = ros
        self.node = ros.node('robot', namespace=namespace)
        self.latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.reports: list[Any] = []
        self.diagnostics: dict[str, Any] = {}
        self.cameras: list[Callable[[int], None]] = []
        self.rate = 20.0
        self.node.create_subscription(
            FailureReport, 'armor/failure_report', self.reports.append, self.latched
        )
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnose, 10)
        self._events = self.node.create_publisher(TaskEvent, 'armor/task_event', 10)
        self._status_type = GoalStatusArray
        self._status: dict[str, Any] = {}

    def _diagnose(self, message: Any) -> None:
        for status in message.status:
            self.diagnostics[status.name.partition(': ')[2]] = status

    def now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def add_camera(self, topic: str, qos: Any = 10, compressed: bool = True) -> Any:
        """Make a publisher whose every image differs from the last; ``hold`` drives it."""
        from sensor_msgs.msg import CompressedImage, Image

        publisher = self.node.create_publisher(
            CompressedImage if compressed else Image, topic, qos
        )
        rng = np.random.default_rng(len(self.cameras))

        def publish(stamp_ns: int) -> None:
            pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            if compressed:
                message = CompressedImage(format='jpeg')
                data = cv2.imencode('.jpg', pixels)[1].tobytes()
            else:
                message = Image(encoding='rgb8', height=48, width=64, step=192)
                data = pixels.tobytes()
            message.data = array.array('B', data)
            stamp(message, stamp_ns)
            publisher.publish(message)

        self.cameras.append(publish)
        return publisher

    def hold(self, seconds: float) -> None:
        """Let time pass; cameras publish, nodes spin."""
        end = time.monotonic() + seconds
        following = time.monotonic()
        while time.monotonic() < end:
            if time.monotonic() >= following:
                following += 1.0 / self.rate
                for camera in self.cameras:
                    camera(self.now_ns())
            self.ros.executor.spin_once(timeout_sec=0.005)

    def task_event(self, phase: int, task_id: str, **fields: Any) -> None:
        from armor_msgs.msg import TaskEvent

        message = TaskEvent(phase=phase, task_id=task_id, **fields)
        stamp(message, self.now_ns())
        self._events.publish(message)

    def goal_status(self, action: str, *goals: tuple[bytes, int, int]) -> None:
        """Publish a status array of (uuid, stamp in ns, status) on the action's status topic."""
        from action_msgs.msg import GoalInfo, GoalStatus

        if action not in self._status:
            self._status[action] = self.node.create_publisher(
                self._status_type, f'{action}/_action/status', self.latched
            )
        message = self._status_type()
        for goal_id, stamp_ns, status in goals:
            entry = GoalStatus(status=status, goal_info=GoalInfo())
            entry.goal_info.goal_id.uuid = np.frombuffer(goal_id, np.uint8)
            entry.goal_info.stamp.sec = stamp_ns // 10**9
            entry.goal_info.stamp.nanosec = stamp_ns % 10**9
            message.status_list.append(entry)
        self._status[action].publish(message)

    def run_task(self, task_id: str, seconds: float = 1.0, **fields: Any) -> None:
        """Start a task, let it last, end it as SUCCEEDED unless told otherwise."""
        self.task_event(1, task_id, instruction=fields.pop('instruction', 'pick up the can'))
        self.hold(seconds)
        self.task_event(2, task_id, **{'status': 4, **fields})

    def final_reports(self) -> list[Any]:
        return [report for report in self.reports if not report.provisional]

    def wait_for_reports(self, count: int, timeout: float = 30.0) -> list[Any]:
        """Spin, cameras on, until so many final reports are there, and return them."""
        deadline = time.monotonic() + timeout
        while len(self.final_reports()) < count:
            if time.monotonic() > deadline:
                pytest.fail(f'{len(self.final_reports())} of {count} reports in {timeout} s')
            self.hold(0.05)
        return self.final_reports()

    def wait_for_diagnostic(
        self, name: str, condition: Callable[[Any], bool], timeout: float = 30.0
    ) -> Any:
        """Spin until a line of diagnostics fulfils the condition, and return it."""
        deadline = time.monotonic() + timeout
        while name not in self.diagnostics or not condition(self.diagnostics[name]):
            if time.monotonic() > deadline:
                pytest.fail(f'{name} in {timeout} s: {self.diagnostics.get(name)}')
            self.hold(0.05)
        return self.diagnostics[name]

    def wait_until_ready(self) -> None:
        """Wait until the model is loaded and the monitor hears this robot's task events."""
        # importing torch takes long on a loaded machine
        self.wait_for_diagnostic(
            'inference', lambda line: line.message.startswith('ready'), timeout=120.0
        )
        self.ros.spin_until(self._events.get_subscription_count)


def stamp(message: Any, nanoseconds: int) -> None:
    message.header.stamp.sec = nanoseconds // 10**9
    message.header.stamp.nanosec = nanoseconds % 10**9


@pytest.fixture
def make_robot(ros: Any) -> Callable[..., Robot]:
    return functools.partial(Robot, ros)


@pytest.fixture
def robot(make_robot: Callable[..., Robot]) -> Robot:
    return make_robot()


class MonitorFactory:
    """
    Makes monitors in the test's ROS context, configured and active unless told otherwise.

    They share one inference server; a ``checkpoint`` gives a monitor a process of its own.
    """

    def __init__(self, ros: Any, server: dict[str, str], data_dir: Path) -> None:
        self._ros = ros
        self._server = server
        self._defaults = {
            'cameras': ['front=/front/image_raw/compressed'],
            'device': 'cpu',
            'frame_height': 56,
            'frame_width': 56,
            'rounds': 2,
            'trajectories': 2,
            'max_new_tokens': 8,
            'settle': 0.3,
            'lookback': 5.0,
            'data_dir': str(data_dir),
        }
        self.monitors: list[Any] = []

    def __call__(self, *, start: bool = True, namespace: str = '', **parameters: Any) -> Any:
        from rclpy.parameter import Parameter

        from armor_ros.node.monitor import Monitor

        inference = {} if 'checkpoint' in parameters else self._server
        values = {**self._defaults, **inference, **parameters}
        monitor = Monitor(
            context=self._ros.context,
            namespace=namespace,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        self._ros.add(monitor)
        self.monitors.append(monitor)
        if start:
            assert monitor.trigger_configure().name == 'SUCCESS'
            assert monitor.trigger_activate().name == 'SUCCESS'
        return monitor


@pytest.fixture
def monitor(ros: Any, shared_server: dict[str, str], tmp_path: Path) -> Iterator[MonitorFactory]:
    factory = MonitorFactory(ros, shared_server, tmp_path / 'data')
    yield factory
    for node in factory.monitors:
        node.shut_down()
