# SPDX-License-Identifier: Apache-2.0
"""The demo: a simulated robot's bag, replayed live before the real monitor."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse

import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from armor_msgs.msg import FailureReport
from armor_ros.episodes.diagnosis import ReportStatus, Verdict
from armor_ros.episodes.task import TaskStatus
from armor_ros.errors import ArmorError
from armor_ros.node.conversions import to_nanoseconds
from armor_ros.node.reporter import REPORT_QOS
from armor_ros.parameters import BUNDLED

SECOND = 1_000_000_000
CAMERAS = ('front', 'wrist', 'overhead')
READY_SECONDS = 180.0
# After the replay has ended, the last reports must come within this time.
REPORT_SECONDS = 60.0
COLORS = {Verdict.SUCCESS: 'green', Verdict.FAILURE: 'red'}


def run_demo(output: Path, *, rate: float, seed: int, checkpoint: str) -> int:
    """
    Simulate, replay and report; return 0 when every task of the bag got its report.

    ``output`` keeps the bag for the next run. An empty ``checkpoint`` is the model that comes with
    the package. Raises ArmorError when a part does not come up.
    """
    console = Console(record=True, highlight=False)
    # a robot on the same network is not to hear the demo
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', '77')
    bag = output / f'bag_{seed}'
    if not bag.exists():
        _armor('simulate', '--output', str(bag), '--seed', str(seed))
    model = checkpoint or BUNDLED
    labels = _read_labels(bag / 'labels.jsonl')
    parameters = _write_parameters(output, model, labels)
    rclpy.init()
    try:
        monitor = ('armor_ros.node.main', '--ros-args', '--params-file', str(parameters))
        with (output / 'monitor.log').open('w') as log, _process('-m', *monitor, log=log):
            status = _watch(console, bag, labels, rate, log)
    finally:
        rclpy.try_shutdown()
    console.save_svg(str(output / 'demo.svg'), title='armor demo')
    return status


def _watch(
    console: Console, bag: Path, labels: list[dict[str, Any]], rate: float, log: IO[str]
) -> int:
    node = rclpy.create_node('armor_demo')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    reports: list[FailureReport] = []
    states: list[str] = []
    node.create_subscription(FailureReport, 'armor/failure_report', reports.append, REPORT_QOS)
    node.create_subscription(
        DiagnosticArray, '/diagnostics', lambda array: states.extend(_inference(array)), 10
    )
    try:
        with console.status('the monitor loads its model ...'):
            _spin_until(executor, lambda: 'ready' in states, READY_SECONDS)
        wait_for = [f'/{camera}/image_raw/compressed' for camera in CAMERAS]
        arguments = [part for topic in wait_for for part in ('--wait-for', topic)]
        console.print(f'replaying {bag}: {len(labels)} tasks of a simulated robot\n')
        shown = 0
        replay = ('armor_ros.cli', 'replay', str(bag), '--rate', str(rate), *arguments)
        with _process('-m', *replay, log=log) as player:
            deadline = float('inf')
            while shown < len(labels) and time.monotonic() < deadline:
                executor.spin_once(timeout_sec=0.1)
                for report in reports[shown:]:
                    shown += 1
                    _show(console, report, labels, shown)
                if player.poll() is not None and deadline == float('inf'):
                    deadline = time.monotonic() + REPORT_SECONDS
        return _conclude(console, reports, labels)
    finally:
        executor.shutdown()
        node.destroy_node()


def _spin_until(
    executor: SingleThreadedExecutor, condition: Callable[[], bool], seconds: float
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ArmorError(
                f'the monitor was not ready within {seconds:g} s; its log is monitor.log in the '
                'folder of the demo'
            )
        executor.spin_once(timeout_sec=0.1)


def _inference(array: DiagnosticArray) -> list[str]:
    """Return the state of the inference process as the diagnostics give it."""
    return [
        status.message.partition(':')[0]
        for status in array.status
        if status.name.endswith(': inference')
    ]


def _show(
    console: Console, report: FailureReport, labels: list[dict[str, Any]], number: int
) -> None:
    """Print one report as a person reads it, beside what the simulator knows."""
    verdict = Verdict(report.verdict)
    color = COLORS.get(verdict, 'yellow')
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow='fold')
    table.add_row('robot said', TaskStatus(report.task.status).name)
    says = f'[bold {color}]{verdict.name}[/]  p(failure) = {report.failure_probability:.3f}'
    if report.disagrees_with_status:
        says += '  [bold]disagrees with the robot[/]'
    table.add_row('cameras say', says)
    if report.status != ReportStatus.OK:
        table.add_row(
            'because', escape(f'{ReportStatus(report.status).name}: {report.status_text}')
        )
    else:
        table.add_row('in words', escape(report.explanation))
        table.add_row(
            'doubt',
            f'detection {report.detection_entropy:.3f}, explanation '
            f'{report.explanation_entropy:.3f}, combined {report.combined_entropy:.3f} nats '
            f'({report.rounds} rounds, {report.trajectories} trajectories)',
        )
    frames = sum(camera.frames_used for camera in report.cameras)
    table.add_row(
        'latency',
        f"{to_nanoseconds(report.total_time) / SECOND:.2f} s after the task's end "
        f'({frames} frames of {len(report.cameras)} cameras)',
    )
    truth = next((entry for entry in labels if entry['task_id'] == report.task.task_id), None)
    if truth:
        table.add_row('simulator', escape(f'{truth["outcome"]}: {truth["explanation"]}'))
    table.add_row('picture', Path(urlparse(report.evidence_uri).path).name)
    console.rule(f'task {number}: {escape(report.task.instruction)}', align='left')
    console.print(table)
    if ('model_trained', 'false') in [(pair.key, pair.value) for pair in report.extra]:
        console.print(
            '  [yellow]This model is untrained (random weights): its verdict and its words mean '
            'nothing.[/]'
        )


def _conclude(console: Console, reports: list[FailureReport], labels: list[dict[str, Any]]) -> int:
    console.rule()
    reported = {report.task.task_id for report in reports}
    missing = [entry['task_id'] for entry in labels if entry['task_id'] not in reported]
    console.print(f'{len(labels) - len(missing)} of {len(labels)} tasks reported')
    console.print("the pictures are in the folder evidence, the monitor's log is monitor.log")
    if missing:
        console.print(f'[red]no report of {", ".join(missing)}[/]')
    return 1 if missing else 0


def _read_labels(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding='utf-8') as lines:
        return [json.loads(line) for line in lines]


def _write_parameters(output: Path, checkpoint: str, labels: Sequence[dict[str, Any]]) -> Path:
    # a goal's task id is "<action>/<uuid>"
    instructions = {
        f'{entry["task_id"].rpartition("/")[0]}={entry["instruction"]}' for entry in labels
    }
    values = {
        'use_sim_time': True,
        'cameras': [f'{camera}=/{camera}/image_raw/compressed' for camera in CAMERAS],
        'instructions': sorted(instructions),
        'checkpoint': checkpoint,
        'device': 'cpu',
        'data_dir': str(output.resolve()),
    }
    path = output / 'monitor.yaml'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': values}}), encoding='utf-8')
    return path


def _armor(*arguments: str) -> None:
    """Run an armor command to its end; it says itself what is wrong."""
    command = [sys.executable, '-m', 'armor_ros.cli', *arguments]
    if subprocess.run(command, check=False).returncode:
        raise ArmorError(f'armor {arguments[0]} failed; its message is above')


@contextlib.contextmanager
def _process(*arguments: str, log: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python process beside this one, and end it when the context is left."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
