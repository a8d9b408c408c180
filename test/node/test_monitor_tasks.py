# SPDX-License-Identifier: Apache-2.0
"""The main road: images and a task's end in, one FailureReport out, through DDS."""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

import pytest

pytestmark = pytest.mark.ros

ACCEPTED, EXECUTING, SUCCEEDED, ABORTED = 1, 2, 4, 6


def test_task_events_give_one_report_with_everything_in_it(robot: Any, monitor: Any) -> None:
    monitor()
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.run_task('order-7', seconds=2.0, instruction='pick up the blue can')
    (report,) = robot.wait_for_reports(1)
    robot.hold(0.5)
    assert len(robot.reports) == 1

    assert report.verdict in (report.SUCCESS, report.FAILURE)
    assert report.status == report.STATUS_OK
    assert report.status_text == ''
    assert report.task.task_id == 'order-7'
    assert report.task.instruction == 'pick up the blue can'
    assert report.task.status == SUCCEEDED
    assert report.disagrees_with_status == (report.verdict == report.FAILURE)
    (camera,) = report.cameras
    assert camera.camera == 'front'
    assert 9 <= camera.frames_used <= 11
    assert camera.frames_seen > 20
    assert camera.frames_undecodable == 0
    assert 0.0 <= report.failure_probability <= 1.0
    assert report.combined_entropy == pytest.approx(
        report.detection_entropy + 0.1 * report.explanation_entropy, abs=1e-5
    )
    assert 1 <= report.rounds <= 2
    assert len(report.trace) == report.rounds * report.trajectories
    assert report.trace[report.selected].explanation == report.explanation
    assert report.quantization == 'none'
    assert len(report.weights_hash) >= 16
    assert report.config_hash
    assert ('model_trained', 'false') in [(pair.key, pair.value) for pair in report.extra]
    assert report.evidence_uri.startswith('file://')
    assert 0 < report.total_time.sec + report.total_time.nanosec / 1e9 < 20
    assert not any(math.isnan(value) for value in (report.detection_entropy, report.target_error))


def test_an_action_is_watched_without_a_change_to_the_robot(robot: Any, monitor: Any) -> None:
    monitor(instructions=['/pick*=pick up the can'])
    robot.add_camera('/front/image_raw/compressed')
    history, goal = uuid.uuid4().bytes, uuid.uuid4().bytes
    long_ago = robot.now_ns() - 3600 * 10**9
    robot.goal_status('/pick_and_place', (history, long_ago, SUCCEEDED))
    robot.wait_until_ready()
    robot.hold(1.0)
    start = robot.now_ns()
    robot.goal_status('/pick_and_place', (history, long_ago, SUCCEEDED), (goal, start, EXECUTING))
    robot.hold(1.5)
    for _ in range(3):
        robot.goal_status(
            '/pick_and_place', (goal, start, ABORTED), (history, long_ago, SUCCEEDED)
        )
    (report,) = robot.wait_for_reports(1)
    robot.hold(0.5)
    assert len(robot.reports) == 1
    assert report.task.task_name == '/pick_and_place'
    assert report.task.instruction == 'pick up the can'
    assert report.task.status == ABORTED
    assert goal.hex() in report.task.task_id
    assert report.task_start.sec * 10**9 + report.task_start.nanosec == start
    assert report.disagrees_with_status == (report.verdict == report.SUCCESS)


def test_goals_that_end_before_the_server_is_discovered_are_reported(
    robot: Any, monitor: Any
) -> None:
    monitor(queue_size=100, rounds=1, max_new_tokens=2)
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.hold(0.5)
    goals = [uuid.uuid4().bytes for _ in range(100)]
    now = robot.now_ns()
    for count in range(1, len(goals) + 1):
        ended = [(goal, now, SUCCEEDED) for goal in goals[:count]]
        robot.goal_status('/blink', *ended)
    reports = robot.wait_for_reports(100, timeout=60.0)
    assert {report.task.task_id.rpartition('/')[2] for report in reports} == {
        goal.hex() for goal in goals
    }
    robot.hold(0.5)
    assert len(robot.reports) == 100


def test_get_report_answers_who_missed_the_topic(robot: Any, monitor: Any) -> None:
    from armor_msgs.srv import GetReport

    monitor()
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.run_task('a', seconds=0.8)
    robot.run_task('b', seconds=0.8)
    robot.wait_for_reports(2)
    client = robot.node.create_client(GetReport, 'armor/get_report')
    call = client.call_async(GetReport.Request(max_count=5))
    robot.ros.spin_until(call.done)
    assert [report.task.task_id for report in call.result().reports] == ['b', 'a']
    call = client.call_async(GetReport.Request(task_id='c'))
    robot.ros.spin_until(call.done)
    assert call.result().reports == []
    assert "'c'" in call.result().message


def test_a_late_joiner_gets_the_latched_report(robot: Any, monitor: Any) -> None:
    from armor_msgs.msg import FailureReport

    monitor()
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.run_task('a', seconds=0.8)
    robot.wait_for_reports(1)
    late: list[Any] = []
    robot.node.create_subscription(
        FailureReport, 'armor/failure_report', late.append, robot.latched
    )
    robot.ros.spin_until(lambda: late)
    assert late[0].task.task_id == 'a'


def test_verify_waits_for_the_verdict(robot: Any, monitor: Any) -> None:
    from action_msgs.msg import GoalStatus
    from builtin_interfaces.msg import Duration
    from rclpy.action import ActionClient

    from armor_msgs.action import VerifyTask

    monitor(actions=['*'])
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.hold(2.0)
    client = ActionClient(robot.node, VerifyTask, 'armor/verify')
    feedback: list[Any] = []
    goal = VerifyTask.Goal(window=Duration(sec=1))
    goal.task.instruction = 'open the drawer'
    sent = client.send_goal_async(goal, feedback_callback=lambda f: feedback.append(f.feedback))
    robot.ros.spin_until(sent.done)
    assert sent.result().accepted
    result = sent.result().get_result_async()
    robot.ros.spin_until(result.done, timeout=20.0)
    report = result.result().result.report
    assert result.result().status == GoalStatus.STATUS_SUCCEEDED
    assert report.verdict in (report.SUCCESS, report.FAILURE)
    assert report.task.instruction == 'open the drawer'
    assert 4 <= report.cameras[0].frames_used <= 6
    states = [entry.state for entry in feedback]
    assert states[0] == VerifyTask.Feedback.COLLECTING
    assert VerifyTask.Feedback.INFERRING in states
    assert any(len(entry.rounds) == 2 for entry in feedback)
    # the monitor's own action is no task of the robot
    robot.hold(1.5)
    assert len(robot.reports) == 1
    client.destroy()


def test_a_label_becomes_a_record(robot: Any, monitor: Any, tmp_path: Any) -> None:
    from armor_msgs.srv import LabelTask

    monitor()
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.run_task('a', seconds=0.8)
    robot.wait_for_reports(1)
    client = robot.node.create_client(LabelTask, 'armor/label_task')

    def label(**fields: Any) -> Any:
        call = client.call_async(LabelTask.Request(**fields))
        robot.ros.spin_until(call.done)
        return call.result()

    assert label(task_id='a', label=2, explanation='it slipped', annotator='me').success
    record = json.loads((tmp_path / 'data' / 'labels.jsonl').read_text())
    assert (record['task_id'], record['label']) == ('a', 'failure')
    assert record['explanation'] == 'it slipped'
    assert "'b'" in label(task_id='b', label=1).message
    assert 'SUCCESS (1)' in label(task_id='a', label=7).message


def test_the_first_detection_is_published_if_asked_for(robot: Any, monitor: Any) -> None:
    monitor(provisional_reports='first')
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.run_task('a', seconds=0.8)
    robot.wait_for_reports(1)
    assert [report.provisional for report in robot.reports] == [True, False]
    first, last = robot.reports
    assert first.task == last.task
    assert first.failure_probability == pytest.approx(last.trace[0].failure_probability)
    assert first.explanation == ''
    assert (first.rounds, last.rounds) == (0, len(last.trace) // last.trajectories)


def test_each_round_is_published_if_asked_for(robot: Any, monitor: Any) -> None:
    from armor_msgs.srv import GetReport

    monitor(provisional_reports='rounds', tolerance=0.0, report_history=2)
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    for count, name in enumerate('ab', start=1):
        robot.run_task(name, seconds=0.8)
        robot.wait_for_reports(count)
    robot.hold(0.3)
    mine = [report for report in robot.reports if report.task.task_id == 'a']
    last = mine[-1]
    assert [report.provisional for report in mine] == [True] * (1 + last.rounds) + [False]
    assert [report.rounds for report in mine] == [*range(1 + last.rounds), last.rounds]
    for report in mine[1:-1]:
        assert report.trace == last.trace[: report.rounds * report.trajectories]
        selected = report.trace[report.selected]
        assert selected.round == report.rounds - 1
        assert report.explanation == selected.explanation
        assert report.combined_entropy == selected.combined_entropy
        assert (report.weights_hash, report.config_hash) == (last.weights_hash, last.config_hash)
    spent = [report.inference_time for report in mine]
    assert sorted(spent, key=lambda time: (time.sec, time.nanosec))[0] == spent[0]

    # those on the way do not stand before the last words, nor take their place
    client = robot.node.create_client(GetReport, 'armor/get_report')

    def ask(**request: Any) -> list[Any]:
        call = client.call_async(GetReport.Request(max_count=9, **request))
        robot.ros.spin_until(call.done)
        return call.result().reports

    assert [report.task.task_id for report in ask()] == ['b', 'a']
    assert ask(task_id='a') == [last]
    assert [r.provisional for r in ask(include_provisional=True)] == [False, True, True, False]
