# SPDX-License-Identifier: Apache-2.0
"""Plain values and messages: there and back, clamped, finite, and stamps read unopened."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.ros


@given(st.integers(0, (2**31 - 1) * 10**9))
def test_times_go_there_and_back(nanoseconds: int) -> None:
    from armor_ros.node.conversions import to_duration, to_nanoseconds, to_time

    assert to_nanoseconds(to_time(nanoseconds)) == nanoseconds
    assert to_nanoseconds(to_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize('nanoseconds', [-1, -(10**18), 2**63])
def test_times_out_of_range_are_clamped(nanoseconds: int) -> None:
    from armor_ros.node.conversions import to_nanoseconds, to_time

    assert to_nanoseconds(to_time(nanoseconds)) in (0, (2**31 - 1) * 10**9)


def test_an_event_goes_there_and_back() -> None:
    from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus
    from armor_ros.node.conversions import event_from_message, event_to_message

    event = TaskEvent(
        phase=TaskPhase.END,
        task_id='7',
        stamp_ns=12_000_000_034,
        name='/pick',
        instruction='pick up the can',
        status=TaskStatus.ABORTED,
        message='no grasp',
        cameras=('front', 'wrist'),
        context=(('order', 'A-17'),),
    )
    assert event_from_message(event_to_message(event)) == event


def test_a_phase_that_does_not_exist_is_refused() -> None:
    from armor_msgs.msg import TaskEvent
    from armor_ros.errors import ArmorError
    from armor_ros.node.conversions import event_from_message

    with pytest.raises(ArmorError, match='phase is 9'):
        event_from_message(TaskEvent(phase=9))


@pytest.mark.parametrize('status', [-91, 1, 3, 127])
def test_a_status_that_is_no_end_is_unknown(status: int) -> None:
    from armor_msgs.msg import TaskEvent
    from armor_ros.episodes.task import TaskStatus
    from armor_ros.node.conversions import event_from_message

    assert event_from_message(TaskEvent(phase=2, status=status)).status is TaskStatus.UNKNOWN


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**9 - 1), st.text(max_size=20))
def test_the_stamp_is_read_from_serialized_images(sec: int, nanosec: int, frame: str) -> None:
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import CompressedImage, Image

    from armor_ros.node.cameras import read_stamp

    for message_type in (Image, CompressedImage):
        message = message_type()
        message.header.stamp.sec = sec
        message.header.stamp.nanosec = nanosec
        message.header.frame_id = frame.replace('\0', '').encode('utf-8', 'ignore').decode()
        assert read_stamp(serialize_message(message)) == sec * 10**9 + nanosec


def test_a_message_too_short_for_a_stamp_is_refused() -> None:
    from armor_ros.node.cameras import read_stamp

    with pytest.raises(ValueError, match='11 bytes'):
        read_stamp(bytes(11))


def test_nan_is_never_published() -> None:
    from armor_ros.node.conversions import finite

    assert finite(math.nan) == -1.0
    assert finite(math.inf, 0.5) == 0.5
    assert finite(0.25) == 0.25
