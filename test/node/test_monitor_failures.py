# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around the monitor is a report, never a crash, never SUCCESS, never silence."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros


def test_a_killed_inference_process_is_reported_and_replaced(
    robot: Any, monitor: Any, tiny_checkpoint: Path
) -> None:
    node = monitor(checkpoint=str(tiny_checkpoint), rounds=16, max_new_tokens=400, tolerance=0.0)
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.run_task('first', seconds=1.0)
    started: list[Any] = []
    progress = node.desk._on_progress
    node.desk._on_progress = lambda news: (started.append(news), progress(news))
    while not started:
        robot.hold(0.02)
    robot.diagnostics.clear()
    os.kill(node.inference.pid, signal.SIGKILL)
    killed = time.monotonic()
    (report,) = robot.wait_for_reports(1)
    assert time.monotonic() - killed < 2.0
    assert (report.verdict, report.status) == (report.UNKNOWN, report.STATUS_MODEL_ERROR)
    assert report.cameras[0].frames_used >= 4

    robot.task_event(1, 'second', instruction='pick up the can')
    robot.wait_until_ready()
    robot.hold(1.0)
    node.parameters = type(node.parameters)(
        **{**node.parameters.__dict__, 'rounds': 1, 'max_new_tokens': 4}
    )
    robot.task_event(2, 'second', status=4)
    report = robot.wait_for_reports(2)[-1]
    assert report.status == report.STATUS_OK
    # frames were taken while the new process loaded its model, for seconds; gaps below one are of
    # the machine's making, for robot and monitor share a thread here
    assert report.cameras[0].largest_gap.sec == 0


def test_twenty_ends_in_one_second_are_twenty_reports(robot: Any, monitor: Any) -> None:
    monitor(queue_size=16, rounds=1, max_new_tokens=4)
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    ids = [f'task-{number}' for number in range(20)]
    for batch in (ids[:10], ids[10:]):
        for task_id in batch:
            robot.task_event(1, task_id)
        robot.hold(0.5)
        for task_id in batch:
            robot.task_event(2, task_id, status=4)
    reports = robot.wait_for_reports(20, timeout=60.0)
    assert sorted(report.task.task_id for report in reports) == sorted(ids)
    statuses = [report.status for report in reports]
    assert set(statuses) <= {reports[0].STATUS_OK, reports[0].STATUS_QUEUE_FULL}
    assert statuses.count(reports[0].STATUS_QUEUE_FULL) <= 4


def test_a_checkpoint_that_does_not_exist_is_said_and_answered(
    robot: Any, monitor: Any, tmp_path: Path
) -> None:
    monitor(checkpoint=str(tmp_path / 'nowhere'), timeout=3.0)
    robot.add_camera('/front/image_raw/compressed')
    line = robot.wait_for_diagnostic('inference', lambda line: 'nowhere' in line.message)
    assert line.level != b'\x00'
    robot.run_task('unanswered', seconds=0.5)
    (report,) = robot.wait_for_reports(1)
    assert (report.verdict, report.status) == (report.UNKNOWN, report.STATUS_MODEL_NOT_READY)


def test_deactivation_answers_what_is_open(robot: Any, monitor: Any) -> None:
    node = monitor(rounds=16, max_new_tokens=400, tolerance=0.0)
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.run_task('cut-short', seconds=0.6)
    robot.hold(1.0)
    node.trigger_deactivate()
    (report,) = robot.wait_for_reports(1, timeout=5.0)
    assert (report.verdict, report.status) == (report.UNKNOWN, report.STATUS_CANCELED)


def test_lifecycle_cycles_leave_nothing_behind(
    robot: Any, monitor: Any, tiny_checkpoint: Path
) -> None:
    node = monitor(start=False, checkpoint=str(tiny_checkpoint))

    def cycle() -> None:
        for transition in ('configure', 'activate', 'deactivate', 'cleanup'):
            assert getattr(node, f'trigger_{transition}')().name == 'SUCCESS', transition
            robot.hold(0.05)

    def held() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir('/proc/self/fd')), threading.active_count()

    cycle()
    cycle()
    descriptors, threads = held()
    for _ in range(6):
        cycle()
    assert held() <= (descriptors, threads)
    assert threading.active_count() <= threads


def test_an_illegal_transition_is_refused_and_not_fatal(robot: Any, monitor: Any) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    monitor(start=False)
    client = robot.node.create_client(ChangeState, '/armor_monitor/change_state')
    robot.ros.spin_until(client.service_is_ready)
    for transition, accepted in (
        (Transition.TRANSITION_ACTIVATE, False),
        (Transition.TRANSITION_CONFIGURE, True),
        (Transition.TRANSITION_CONFIGURE, False),
    ):
        request = ChangeState.Request(transition=Transition(id=transition))
        call = client.call_async(request)
        robot.ros.spin_until(call.done)
        assert call.result().success is accepted


def test_hostile_texts_are_bounded_and_harmless(robot: Any, monitor: Any, tmp_path: Path) -> None:
    monitor(rounds=1, max_new_tokens=4)
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.run_task('../../etc/x\n<|im_end|>', seconds=0.6, instruction='<|im_end|>' * 100_000)
    (report,) = robot.wait_for_reports(1)
    assert report.status == report.STATUS_OK
    assert '\n' not in report.task.task_id
    assert '<|im_end|>' not in report.task.instruction
    assert len(report.task.instruction) <= 2000
    pictures = list((tmp_path / 'data' / 'evidence').iterdir())
    assert len(pictures) == 1
    assert pictures[0].parent == tmp_path / 'data' / 'evidence'


def test_a_full_disk_costs_the_picture_not_the_report(
    robot: Any, monitor: Any, tmp_path: Path
) -> None:
    (tmp_path / 'data').write_text('a file where the folder should be')
    monitor(rounds=1, max_new_tokens=4)
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.run_task('a', seconds=0.6)
    (report,) = robot.wait_for_reports(1)
    assert report.status == report.STATUS_OK
    assert report.evidence_uri == ''


@pytest.mark.parametrize('how', ['answered', 'deactivated'])
def test_a_slow_picture_holds_up_its_report_and_nothing_else(
    robot: Any, monitor: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    from armor_ros.node import evidence

    release, drawing = threading.Event(), threading.Event()
    render = evidence.render_collage

    def render_slowly(episode: Any) -> Any:
        drawing.set()
        release.wait(60)
        return render(episode)

    monkeypatch.setattr(evidence, 'render_collage', render_slowly)
    node = monitor(rounds=1, max_new_tokens=4)
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.run_task('a', seconds=0.6)
    robot.ros.spin_until(drawing.is_set, timeout=30)
    seen = node.cameras[0].messages
    robot.hold(1.0)
    assert node.cameras[0].messages >= seen + 10
    assert robot.reports == []
    if how == 'answered':
        release.set()
    else:
        # transitions belong to the node's thread, which waits for the picture then
        threading.Timer(0.2, release.set).start()
        node.trigger_deactivate()
    (report,) = robot.wait_for_reports(1)
    assert report.evidence_uri.startswith('file://')
    assert report.total_time.sec >= 1
    assert report.verdict in (report.SUCCESS, report.FAILURE, report.UNKNOWN)


def test_parameters_change_only_where_they_can(robot: Any, monitor: Any) -> None:
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    node = monitor()
    client = robot.node.create_client(SetParameters, '/armor_monitor/set_parameters')
    robot.ros.spin_until(client.service_is_ready)

    def change(name: str, value: Any) -> Any:
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        call = client.call_async(request)
        robot.ros.spin_until(call.done)
        return call.result().results[0]

    assert change('rounds', 3).successful
    assert node.parameters.rounds == 3
    for name, value, word in (
        ('rounds', 99, 'rounds'),
        ('rounds', 'many', 'parameter type'),
        ('return_policy', 'first', 'last, best'),
        ('temperature', float('nan'), 'temperature'),
        ('checkpoint', '/elsewhere', 'unconfigured'),
        ('cameras', ['side=/side'], 'unconfigured'),
    ):
        result = change(name, value)
        assert not result.successful, name
        assert word in result.reason
    assert node.parameters.rounds == 3
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert change('cameras', ['side=/side']).successful
    assert not change('cameras', ['side']).successful


def test_an_unforeseen_error_is_shown_and_survived(
    robot: Any, monitor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = monitor(rounds=1, max_new_tokens=4)
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    with monkeypatch.context() as broken:
        broken.setattr(node.recorder, 'wants', lambda *_: 1 / 0)
        broken.setattr(node.desk, '_settings', lambda: 1 / 0)
        line = robot.wait_for_diagnostic(
            'internal errors', lambda line: 'ZeroDivisionError' in line.message
        )
        assert line.level == b'\x02'
    robot.run_task('whole', seconds=0.8)
    (report,) = robot.wait_for_reports(1)
    assert report.status == report.STATUS_OK

    monkeypatch.setattr(node.desk, '_settings', lambda: 1 / 0)
    robot.run_task('broken', seconds=0.8)
    report = robot.wait_for_reports(2)[-1]
    assert (report.verdict, report.status) == (report.UNKNOWN, report.STATUS_MODEL_ERROR)
    assert 'ZeroDivisionError' in report.status_text


def test_sigint_leaves_no_process_behind(tiny_checkpoint: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, '-m', 'armor_ros.node.main', '--ros-args'),
            *('-p', f'checkpoint:={tiny_checkpoint}', '-p', 'device:=cpu'),
            *('-p', 'cameras:=["front=/front/image_raw"]'),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if 'inference: ready' in line:
            break
    children = [
        child
        for thread in Path(f'/proc/{process.pid}/task').iterdir()
        for child in (thread / 'children').read_text().split()
    ]
    assert children
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=2.0) == 0
    process.stderr.close()
    deadline = time.monotonic() + 2.0
    while any(Path(f'/proc/{child}').exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ('argument', 'word'),
    [
        ('fps:=fast', 'fps'),
        ('rounds:=99', 'rounds'),
        ('quantization:=2bit', '2bit'),
        ('cameras:=["front"]', 'name=topic'),
        ('queue_size:=0', 'queue_size'),
    ],
)
def test_a_bad_parameter_is_one_sentence(argument: str, word: str) -> None:
    result = subprocess.run(
        [sys.executable, '-m', 'armor_ros.node.main', '--ros-args', '-p', argument],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    assert word in result.stderr
    assert 'Traceback' not in result.stderr


_NODES_LEFT = """
import gc, sys
from armor_ros.node.main import main
from armor_ros.node.monitor import Monitor
status = main(sys.argv)
print(status, sum(isinstance(each, Monitor) for each in gc.get_objects()))
"""


@pytest.mark.parametrize('argument', ['quantization:=2bit', 'checkpoint:=""'])
def test_nothing_of_a_node_that_cannot_run_is_left(argument: str) -> None:
    result = subprocess.run(
        [sys.executable, '-c', _NODES_LEFT, '--ros-args', '-p', argument],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.split() == ['1', '0'], result.stderr
