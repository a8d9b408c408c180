# SPDX-License-Identifier: Apache-2.0
"""
How long images and services wait in the monitor while a model works beside it.

    .venv/bin/python benchmarks/node.py --output benchmarks/node-cpu.json

Real processes on real topics: three cameras of 30 Hz (640 x 480, JPEG), the monitor, its inference
process, and a robot whose tasks follow each other so closely that inference never rests. Of each
image: the time in the monitor's callback, and from its publication to the end of that callback.
Of ``armor/get_report``: the time from the call to the reply. Of each kind of callback: how much
processor time the longest took, which is what others may have to wait. Every process competes for
the same cores, as on a robot; measure on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
os.environ.setdefault('ROS_DOMAIN_ID', '78')

import itertools

import cv2
import numpy as np
import rclpy
import yaml
from machine import machine
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile

CAMERAS = ('front', 'wrist', 'overhead')
RATE, HEIGHT, WIDTH = 30.0, 480, 640
TASK_SECONDS = 5.0
# The 99th percentile at work must stay within these.
LIMITS_MS = {'image_callback': 20.0, 'service': 100.0}


def run_cameras() -> None:
    """Publish all cameras until the process is ended."""
    from sensor_msgs.msg import CompressedImage

    rclpy.init()
    node = rclpy.create_node('cameras')
    publishers = [
        node.create_publisher(CompressedImage, f'/{camera}/image_raw/compressed', 10)
        for camera in CAMERAS
    ]
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(15):
        # As hard to decode as a scene: smooth areas, edges, and the sensor's noise.
        coarse = rng.integers(0, 255, (HEIGHT // 32, WIDTH // 32, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        noise = rng.normal(0, 4, picture.shape)
        noisy = np.clip(picture + noise, 0, 255).astype(np.uint8)
        pictures.append(array.array('B', cv2.imencode('.jpg', noisy)[1].tobytes()))
    following, count = time.monotonic(), 0
    while True:
        # One camera after the other, a third of a period apart.
        message = CompressedImage(format='jpeg', data=pictures[count % len(pictures)])
        message.header.stamp = node.get_clock().now().to_msg()
        publishers[count % len(publishers)].publish(message)
        count += 1
        following += 1.0 / RATE / len(publishers)
        time.sleep(max(0.0, following - time.monotonic()))


def run_monitor(parameters: str, output: str) -> int:
    """Run the monitor as its command does, and write down how long images took."""
    from armor_ros.node import health, main
    from armor_ros.node.monitor import Monitor

    spans: list[tuple[float, float, float]] = []
    turns: list[tuple[float, str, float]] = []
    shield = health.Shield.__call__

    def measured(self: health.Shield, callback: Any) -> Any:
        shielded = shield(self, callback)

        def call(*arguments: Any) -> None:
            begin = time.thread_time()
            shielded(*arguments)
            turns.append((time.time(), callback.__name__, time.thread_time() - begin))

        return call

    health.Shield.__call__ = measured  # type: ignore[method-assign, assignment]

    class MeasuredMonitor(Monitor):
        """The monitor with a watch beside its image callback."""

        def _on_image(self, camera: str, stamp_ns: int, *message: Any) -> None:
            begin = time.perf_counter()
            super()._on_image(camera, stamp_ns, *message)
            end = time.perf_counter()
            spans.append((time.time(), end - begin, (self.now_ns() - stamp_ns) / 1e9))

    main.Monitor = MeasuredMonitor  # type: ignore[misc]
    status = main.main(['--ros-args', '--params-file', parameters, '--log-level', 'warn'])
    Path(output).write_text(json.dumps({'spans': spans, 'turns': turns}))
    return status


class Robot:
    """Begins and ends tasks, hears the reports, and calls the service."""

    def __init__(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        from armor_msgs.msg import FailureReport, TaskEvent
        from armor_msgs.srv import GetReport

        self.node = rclpy.create_node('robot')
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.reports: list[Any] = []
        self.is_ready = False
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(
            FailureReport, 'armor/failure_report', self.reports.append, latched
        )
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnose, 10)
        self._events = self.node.create_publisher(TaskEvent, 'armor/task_event', 10)
        self._event_type, self._request = TaskEvent, GetReport.Request(max_count=3)
        self._client = self.node.create_client(GetReport, 'armor/get_report')
        self._count = 0

    def _diagnose(self, message: Any) -> None:
        self.is_ready = self.is_ready or any(
            status.name.endswith(': inference') and status.message.startswith('ready')
            for status in message.status
        )

    def wait_until_ready(self) -> None:
        """Wait for the model, and for the topics and services."""
        end = time.monotonic() + 120
        while not (self.is_ready and self._client.service_is_ready()):
            if time.monotonic() > end:
                raise SystemExit('the monitor was not ready within 120 s')
            self.executor.spin_once(timeout_sec=0.1)

    def work(self, seconds: float, *, with_tasks: bool) -> list[float]:
        """Call the service ten times a second, do tasks if asked to; return the calls' seconds."""
        spans, end = [], time.monotonic() + seconds
        task_end = 0.0
        while time.monotonic() < end:
            begin = time.monotonic()
            if with_tasks and begin >= task_end:
                if task_end:
                    self._event(2)
                self._count += 1
                self._event(1)
                task_end = begin + TASK_SECONDS
            call = self._client.call_async(self._request)
            while not call.done():
                self.executor.spin_once(timeout_sec=0.01)
            spans.append(time.monotonic() - begin)
            while time.monotonic() < begin + 0.1:
                self.executor.spin_once(timeout_sec=0.01)
        if with_tasks:
            self._event(2)
        return spans

    def _event(self, phase: int) -> None:
        message = self._event_type(
            phase=phase, task_id=f'task-{self._count}', instruction='pick up the can', status=4
        )
        message.header.stamp = self.node.get_clock().now().to_msg()
        self._events.publish(message)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return what matters of some spans, in milliseconds."""
    values = np.asarray(seconds) * 1e3
    summary = {f'p{q}': float(np.percentile(values, q)) for q in (50, 90, 99)}
    return {**summary, 'max': float(values.max()), 'count': len(seconds)}


def measure(seconds: float, folder: Path) -> dict[str, Any]:
    """Run all processes; return the figures at rest and at work."""
    from armor_ros.model.tiny import make_tiny_checkpoint

    make_tiny_checkpoint(folder / 'checkpoint')
    parameters = {
        'cameras': [f'{camera}=/{camera}/image_raw/compressed' for camera in CAMERAS],
        'checkpoint': str(folder / 'checkpoint'),
        'device': 'cpu',
        'data_dir': str(folder / 'data'),
        'tolerance': 0.0,
        'provisional_reports': 'rounds',
    }
    path, spans_path = folder / 'monitor.yaml', folder / 'spans.json'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': parameters}}))
    command = [sys.executable, __file__]
    cameras = subprocess.Popen([*command, '--cameras'])
    monitor = subprocess.Popen([*command, '--monitor', str(path), str(spans_path)])
    rclpy.init()
    try:
        robot = Robot()
        robot.wait_until_ready()
        phases, services = {}, {}
        for name, with_tasks in (('at_rest', False), ('at_work', True)):
            begin = time.time()
            services[name] = robot.work(seconds, with_tasks=with_tasks)
            phases[name] = (begin, time.time())
        reports = list(robot.reports)
    finally:
        cameras.kill()
        monitor.terminate()
        monitor.wait(timeout=30)
        rclpy.try_shutdown()
    recorded = json.loads(spans_path.read_text())
    figures = {
        name: {**summarize(recorded, *phases[name]), 'service': percentiles(services[name])}
        for name in phases
    }
    final = [report for report in reports if not report.provisional]
    busy = sum(report.inference_time.sec + report.inference_time.nanosec / 1e9 for report in final)
    begin, end = phases['at_work']
    figures['at_work']['reports'] = len(final)
    figures['at_work']['verdicts'] = sum(report.verdict != 0 for report in final)
    figures['at_work']['inference_busy'] = busy / (end - begin)
    return figures


def summarize(recorded: dict[str, list[Any]], begin: float, end: float) -> dict[str, Any]:
    """Return the figures of what the monitor wrote down between two moments."""
    spans = [span for span in recorded['spans'] if begin <= span[0] <= end]
    turns = [turn for turn in recorded['turns'] if begin <= turn[0] <= end]
    return {
        'images_expected': int((end - begin) * RATE * len(CAMERAS)),
        'image_callback': percentiles([span[1] for span in spans]),
        'image_from_publication': percentiles([span[2] for span in spans]),
        'largest_gap': 1e3 * max(b[0] - a[0] for a, b in itertools.pairwise(spans)),
        'callback_cpu': {
            callback.strip('_'): percentiles([turn[2] for turn in turns if turn[1] == callback])
            for callback in sorted({turn[1] for turn in turns})
        },
    }


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    autogroup = Path('/proc/self/autogroup')
    return machine(
        # Linux shares the processor between sessions first; "nice 0" is the usual weight.
        autogroup=autogroup.read_text().strip() if autogroup.exists() else '',
        rclpy=version('ros-rclpy') if not os.environ.get('ROS_DISTRO') else '',
        ros=os.environ.get('ROS_DISTRO', 'wheels'),
    )


def main() -> int:
    """Measure, print and write; return 1 when a limit is exceeded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--output', type=Path, help='JSON file')
    parser.add_argument('--seconds', type=float, default=60.0, help='of each phase (60)')
    parser.add_argument('--cameras', action='store_true', help=argparse.SUPPRESS)
    parser.add_argument('--monitor', nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cameras:
        run_cameras()
    if options.monitor:
        return run_monitor(*options.monitor)
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix='armor-benchmark-') as folder:
        figures = measure(options.seconds, Path(folder))
    figures = {'machine': machine, 'unit': 'ms', 'limits_p99': LIMITS_MS, **figures}
    print(json.dumps(figures, indent=1))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + '\n')
    work = figures['at_work']
    missed = [name for name, limit in LIMITS_MS.items() if work[name]['p99'] > limit]
    for name in missed:
        print(f'{name}: p99 of {work[name]["p99"]:.1f} ms is above {LIMITS_MS[name]:g} ms')
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
