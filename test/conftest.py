# SPDX-License-Identifier: Apache-2.0
"""
Shared by all tests: isolation of ROS, and the fixtures of tests that exchange messages.

Each pytest process has a ROS domain of its own on the loopback interface, so that runs side by
side, and a robot on the same network, do not hear each other. The environment is set before
rclpy is imported and is inherited by the processes that tests start.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import hypothesis
import pytest

# Above 101 the ports of DDS collide with those that Linux hands out to any program.
LAST_DOMAIN = 101


def _claim_domain() -> tuple[int, IO[str]]:
    """Return a domain that no other test process of this machine holds, and the lock on it."""
    folder = Path(tempfile.gettempdir(), f'armor-test-domains-{os.getuid()}')
    folder.mkdir(exist_ok=True)
    for attempt in range(LAST_DOMAIN):
        domain = 1 + (os.getpid() + attempt) % LAST_DOMAIN
        try:
            lock = (folder / str(domain)).open('a')  # held until the process ends
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        return domain, lock
    raise RuntimeError(f'all {LAST_DOMAIN} ROS domains are taken by other test processes')


def _isolate_ros() -> IO[str]:
    domain, lock = _claim_domain()
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    if os.environ.get('ROS_DISTRO') == 'humble':
        os.environ['ROS_LOCALHOST_ONLY'] = '1'
    else:
        os.environ.pop('ROS_LOCALHOST_ONLY', None)
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    return lock


# What tests of a folder or a file need beyond the node's own packages. A robot has none of it.
NEEDS = {
    'datasets': ['rosbags'],
    'datasets/test_manifest.py': ['av'],
    'datasets/test_video.py': ['av'],
    'evaluation': ['rosbags', 'torch'],
    'evaluation/test_apis.py': ['anthropic', 'openai', 'starlette', 'uvicorn'],
    'evaluation/test_baseline_answers.py': ['anthropic', 'openai'],
    'evaluation/test_baseline_hosted.py': ['anthropic', 'openai', 'starlette', 'uvicorn'],
    'evaluation/test_baseline_models.py': ['PIL'],
    'evaluation/test_judge_models.py': ['PIL', 'openai', 'uvicorn'],
    'evaluation/test_judges.py': ['anthropic', 'openai', 'starlette', 'uvicorn'],
    'inference': ['torch'],
    'model': ['torch'],
    'node/test_live_and_offline.py': ['rosbags', 'torch'],
    'node/test_monitor_cameras.py': ['torch'],
    'node/test_monitor_failures.py': ['torch'],
    'node/test_monitor_tasks.py': ['torch'],
    'node/test_replay.py': ['rosbags'],
    'serving': ['torch', 'uvicorn'],
    'simulation': ['av', 'mujoco', 'rosbags'],
    'training': ['accelerate', 'av', 'peft', 'torch'],
}
LEFT_OUT = {
    path: missing
    for path, modules in NEEDS.items()
    if (missing := [name for name in modules if importlib.util.find_spec(name) is None])
}
collect_ignore = list(LEFT_OUT)


def pytest_report_header() -> list[str]:
    """Say which tests cannot run here, and why."""
    return [
        f'left out: test/{path}, for want of {", ".join(missing)}'
        for path, missing in LEFT_OUT.items()
    ]


_DOMAIN_LOCK = _isolate_ros()
# No test may reach for the network; and small models are fastest on one thread.
os.environ['HF_HUB_OFFLINE'] = '1'
os.environ.setdefault('OMP_NUM_THREADS', '1')
# The same examples in every run, however slow the machine.
hypothesis.settings.register_profile('armor', deadline=None, derandomize=True)
hypothesis.settings.load_profile('armor')


def _missing_ros() -> str:
    """Return what of ROS cannot be imported, or an empty string."""
    try:
        # the bare folder armor_msgs would be importable from the root: ask for a class
        import rclpy  # noqa: F401

        from armor_msgs.msg import FailureReport  # noqa: F401
    except ImportError as error:
        return str(error)
    return ''


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``ros`` where rclpy or armor_msgs is missing."""
    marked = [item for item in items if item.get_closest_marker('ros')]
    if not marked:
        return
    reason = _missing_ros()
    if reason:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f'needs rclpy and armor_msgs: {reason}'))


@pytest.fixture(scope='session', autouse=True)
def _ros_logs_in_a_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ['ROS_HOME'] = str(tmp_path_factory.mktemp('ros_home'))
    os.environ['ROS_LOG_DIR'] = str(tmp_path_factory.mktemp('ros_log'))


class RosWorld:
    """
    A ROS context of one test: makes nodes and spins them together in the calling thread.

    ``context`` is to be given to nodes that the test makes itself; ``add`` takes them in.
    """

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes: list[Any] = []

    def node(self, name: str, **options: Any) -> Any:
        """Return a new node that ``spin_until`` serves; options as of rclpy's Node."""
        from rclpy.node import Node

        return self.add(Node(name, context=self.context, **options))

    def add(self, node: Any) -> Any:
        """Take in a node made with this world's context; it is destroyed at the end."""
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def spin_until(self, condition: Callable[[], Any], timeout: float = 10.0) -> Any:
        """Spin until the condition is true and return its value; fail after ``timeout`` s."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                pytest.fail(f'the condition did not become true within {timeout:g} s')
            self.executor.spin_once(timeout_sec=0.05)

    def spin_for(self, seconds: float) -> None:
        """Spin for a while, to see that something does not happen."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        """Destroy the nodes and the context."""
        self.executor.shutdown()
        for node in self.nodes:
            node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def ros() -> Iterator[RosWorld]:
    """Yield a fresh ROS context with a way to make and spin nodes; for tests marked ``ros``."""
    world = RosWorld()
    yield world
    world.close()
