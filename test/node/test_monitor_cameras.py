# SPDX-License-Identifier: Apache-2.0
"""Cameras as they come: any QoS, raw or compressed, broken images, wrong names, jumping clocks."""

from __future__ import annotations

import array
import time
from typing import Any

import pytest

pytestmark = pytest.mark.ros


@pytest.mark.parametrize('reliable', [True, False])
@pytest.mark.parametrize('latched', [True, False])
def test_the_subscription_fits_the_publisher(
    robot: Any, monitor: Any, reliable: bool, latched: bool
) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

    node = monitor(cameras=['front=/front/image_raw'])
    qos = QoSProfile(
        depth=5,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
    robot.add_camera('/front/image_raw', qos, compressed=False)
    started = time.monotonic()
    while node.cameras[0].messages == 0:
        robot.hold(0.1)
        assert time.monotonic() - started < 4.0


def test_a_publisher_that_returns_with_another_qos_is_heard_again(
    robot: Any, monitor: Any
) -> None:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    node = monitor(cameras=['front=/front/image_raw'])
    first = robot.add_camera('/front/image_raw', 10, compressed=False)
    robot.hold(1.5)
    assert node.cameras[0].messages > 0
    robot.cameras.clear()
    robot.node.destroy_publisher(first)
    robot.hold(0.2)
    before = node.cameras[0].messages
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    robot.add_camera('/front/image_raw', best_effort, compressed=False)
    started = time.monotonic()
    while node.cameras[0].messages == before:
        robot.hold(0.1)
        assert time.monotonic() - started < 4.0


def test_a_wrong_topic_is_named_within_five_seconds(robot: Any, monitor: Any) -> None:
    monitor(cameras=['front=/front/image_rw/compressed'])
    robot.add_camera('/front/image_raw/compressed')
    line = robot.wait_for_diagnostic(
        'camera front', lambda line: 'image_raw' in line.message, timeout=5.0
    )
    assert line.level == b'\x02'
    assert '/front/image_rw/compressed' in line.message
    assert '/front/image_raw/compressed' in line.message


def test_broken_images_are_counted_and_never_fatal(robot: Any, monitor: Any) -> None:
    from sensor_msgs.msg import CompressedImage

    monitor()
    publisher = robot.node.create_publisher(CompressedImage, '/front/image_raw/compressed', 10)
    payloads = [b'', b'\xff\xd8\xff\xe0 not a picture', b'\x89PNG\r\n\x1a\n' + bytes(40)]

    def publish(stamp_ns: int) -> None:
        message = CompressedImage(format='jpeg')
        message.data = array.array('B', payloads[(stamp_ns // 10**6) % 3])
        message.header.stamp.sec = stamp_ns // 10**9
        message.header.stamp.nanosec = stamp_ns % 10**9
        publisher.publish(message)

    robot.cameras.append(publish)
    robot.wait_until_ready()
    robot.run_task('broken', seconds=1.0)
    (report,) = robot.wait_for_reports(1)
    assert report.verdict == report.UNKNOWN
    assert report.status == report.STATUS_NO_FRAMES
    assert report.failure_probability == 0.5
    assert report.cameras[0].frames_undecodable > 5
    assert 'decode' in report.status_text


def test_no_frames_at_all_is_said(robot: Any, monitor: Any) -> None:
    monitor()
    robot.wait_until_ready()
    robot.run_task('dark', seconds=0.5)
    (report,) = robot.wait_for_reports(1)
    assert (report.verdict, report.status) == (report.UNKNOWN, report.STATUS_NO_FRAMES)
    assert not report.disagrees_with_status


def test_frames_from_before_the_task_are_stale(robot: Any, monitor: Any) -> None:
    monitor()
    robot.add_camera('/front/image_raw/compressed')
    robot.wait_until_ready()
    robot.hold(1.0)
    robot.cameras.clear()
    robot.hold(0.5)
    robot.run_task('blind', seconds=0.5)
    (report,) = robot.wait_for_reports(1)
    assert (report.verdict, report.status) == (report.UNKNOWN, report.STATUS_STALE_FRAMES)


def test_the_simulated_clock_may_loop(robot: Any, monitor: Any) -> None:
    from builtin_interfaces.msg import Time
    from rosgraph_msgs.msg import Clock

    monitor(use_sim_time=True)
    robot.wait_for_diagnostic('clock', lambda line: line.level == b'\x01', timeout=5.0)
    clock = robot.node.create_publisher(Clock, '/clock', 10)
    offset = time.monotonic_ns()
    origin = 50 * 10**9
    robot.now_ns = lambda: origin + time.monotonic_ns() - offset

    def tick(stamp_ns: int) -> None:
        message = Clock(clock=Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9))
        clock.publish(message)

    robot.cameras.append(tick)
    robot.add_camera('/front/image_raw/compressed')
    robot.rate = 40.0
    robot.wait_until_ready()
    for loop in range(3):
        offset = time.monotonic_ns()
        robot.hold(0.5)
        robot.run_task('again', seconds=1.5)
        report = robot.wait_for_reports(loop + 1)[-1]
        start, end = report.clip_start, report.clip_end
        assert (start.sec, start.nanosec) < (end.sec, end.nanosec)
        assert report.status == report.STATUS_OK
        assert 6 <= report.cameras[0].frames_used <= 9
        assert start.sec < 55


def test_two_namespaces_do_not_hear_each_other(make_robot: Any, monitor: Any) -> None:
    robots = [make_robot(namespace=f'robot{number}') for number in (1, 2)]
    for number, robot in enumerate(robots, 1):
        monitor(namespace=f'robot{number}', cameras=['front=front/image_raw/compressed'])
        robot.add_camera('front/image_raw/compressed')
        robot.wait_until_ready()
    robots[0].run_task('only-one', seconds=0.6)
    robots[0].wait_for_reports(1)
    robots[1].hold(1.0)
    assert len(robots[0].reports) == 1
    assert robots[1].reports == []
