# SPDX-License-Identifier: Apache-2.0
"""The six interfaces travel through DDS and come out as they went in."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')

from builtin_interfaces.msg import Duration, Time  # noqa: E402
from diagnostic_msgs.msg import KeyValue  # noqa: E402
from rclpy.action import ActionClient, ActionServer  # noqa: E402
from rclpy.action.server import ServerGoalHandle  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402

armor_msg = pytest.importorskip('armor_msgs.msg')
armor_srv = pytest.importorskip('armor_msgs.srv')
armor_action = pytest.importorskip('armor_msgs.action')

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def task_event() -> Any:
    event = armor_msg.TaskEvent(
        phase=armor_msg.TaskEvent.END,
        task_id='order-7/3',
        task_name='/pick_item',
        instruction='pick up the blue can: die Dose, 缶',
        status=armor_msg.TaskEvent.STATUS_ABORTED,
        status_message='gripper empty',
        cameras=['front', 'wrist'],
        context=[KeyValue(key='robot', value='r2')],
    )
    event.header.stamp = Time(sec=12, nanosec=999_999_999)
    return event


def evidence() -> Any:
    return armor_msg.CameraEvidence(
        camera='front',
        topic='/front/image_raw/compressed',
        frames_seen=2**32 - 1,
        frames_used=40,
        frames_undecodable=3,
        first_stamp=Time(sec=4),
        last_stamp=Time(sec=12),
        largest_gap=Duration(sec=0, nanosec=300_000_000),
    )


def refinement_round() -> Any:
    return armor_msg.RefinementRound(
        round=1,
        trajectory=2,
        failure_probability=0.75,
        failed=True,
        explanation='the can slipped',
        detection_entropy=0.5,
        explanation_entropy=1.5,
        combined_entropy=0.625,
        best=True,
    )


def report() -> Any:
    # 0.25, 0.5 and the like are exact in single precision
    return armor_msg.FailureReport(
        task=task_event(),
        task_start=Time(sec=4),
        verdict=armor_msg.FailureReport.FAILURE,
        status=armor_msg.FailureReport.STATUS_OK,
        failure_probability=0.75,
        calibrated=True,
        target_error=0.25,
        detection_entropy=0.5,
        explanation_entropy=-1.0,
        combined_entropy=0.5,
        explanation='x' * 2000,
        disagrees_with_status=True,
        rounds=4,
        trajectories=3,
        temperature=0.5,
        trace=[refinement_round()] * 12,
        selected=11,
        cameras=[evidence()],
        clip_start=Time(sec=4),
        clip_end=Time(sec=12),
        truncated=True,
        evidence_uri='file:///data/order-7.jpg',
        model_id='tiny',
        weights_hash='ab' * 32,
        quantization='4bit',
        queue_time=Duration(nanosec=1),
        inference_time=Duration(sec=3),
        total_time=Duration(sec=4),
        extra=[KeyValue(key='k', value='v')],
    )


@pytest.mark.parametrize('make', [task_event, evidence, refinement_round, report])
def test_message_arrives_unchanged(ros: Any, make: Any) -> None:
    sent = make()
    publisher = ros.node('sender').create_publisher(type(sent), 'topic', LATCHED)
    received: list[Any] = []
    ros.node('receiver').create_subscription(type(sent), 'topic', received.append, LATCHED)
    publisher.publish(sent)
    ros.spin_until(lambda: received)
    assert received == [sent]
    assert received[0] != type(sent)()


def test_late_joiner_gets_the_latched_report(ros: Any) -> None:
    publisher = ros.node('sender').create_publisher(armor_msg.FailureReport, 'topic', LATCHED)
    publisher.publish(report())
    ros.spin_for(0.2)
    received: list[Any] = []
    node = ros.node('late')
    node.create_subscription(armor_msg.FailureReport, 'topic', received.append, LATCHED)
    ros.spin_until(lambda: received)
    assert received == [report()]


def get_report() -> tuple[Any, Any, Any]:
    return (
        armor_srv.GetReport,
        armor_srv.GetReport.Request(task_id='t', max_count=5, include_provisional=True),
        armor_srv.GetReport.Response(reports=[report(), report()], message='two'),
    )


def label_task() -> tuple[Any, Any, Any]:
    return (
        armor_srv.LabelTask,
        armor_srv.LabelTask.Request(
            task_id='t', label=armor_srv.LabelTask.Request.FAILURE, explanation='e', annotator='a'
        ),
        armor_srv.LabelTask.Response(success=True, message='stored', record_uri='file:///r'),
    )


@pytest.mark.parametrize('make', [get_report, label_task])
def test_service_answers(ros: Any, make: Any) -> None:
    service_type, request, response = make()
    asked: list[Any] = []

    def answer(received: Any, _: Any) -> Any:
        asked.append(received)
        return response

    ros.node('server').create_service(service_type, 'service', answer)
    client = ros.node('client').create_client(service_type, 'service')
    ros.spin_until(client.service_is_ready)
    future = client.call_async(request)
    ros.spin_until(future.done)
    assert asked == [request]
    assert future.result() == response


def test_action_gives_feedback_and_result(ros: Any) -> None:
    verify = armor_action.VerifyTask
    goal = verify.Goal(task=task_event(), start=Time(sec=4), window=Duration(sec=30))
    progress = verify.Feedback(state=verify.Feedback.INFERRING, rounds=[refinement_round()] * 3)
    goals: list[Any] = []
    feedback: list[Any] = []

    def execute(handle: ServerGoalHandle) -> Any:
        goals.append(handle.request)
        handle.publish_feedback(progress)
        handle.succeed()
        return verify.Result(report=report())

    server = ActionServer(ros.node('server'), verify, 'verify', execute)
    client = ActionClient(ros.node('client'), verify, 'verify')
    ros.spin_until(client.server_is_ready)
    accepted = client.send_goal_async(goal, lambda message: feedback.append(message.feedback))
    ros.spin_until(accepted.done)
    result = accepted.result().get_result_async()
    ros.spin_until(lambda: result.done() and feedback)
    assert goals == [goal]
    assert feedback == [progress]
    assert result.result().result.report == report()
    client.destroy()
    server.destroy()
