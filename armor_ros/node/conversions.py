# SPDX-License-Identifier: Apache-2.0
"""Our plain values to ROS messages and back; the only place that knows both."""

from __future__ import annotations

import math
from collections.abc import Iterable

from action_msgs.msg import GoalStatusArray
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import KeyValue
from sensor_msgs.msg import CompressedImage as CompressedImageMessage
from sensor_msgs.msg import Image as ImageMessage

from armor_msgs import msg
from armor_ros.episodes.decoding import CompressedImage, RawImage
from armor_ros.episodes.diagnosis import Round
from armor_ros.episodes.episode import CameraEvidence
from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus
from armor_ros.errors import ArmorError

SECOND = 1_000_000_000
NOT_COMPUTED = -1.0


def to_nanoseconds(stamp: Time | Duration) -> int:
    """Return a ROS time or duration in nanoseconds."""
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


def to_time(nanoseconds: int) -> Time:
    """Return nanoseconds of the ROS clock as a message; before 0 and past 2038 are clamped."""
    nanoseconds = min(max(nanoseconds, 0), (2**31 - 1) * SECOND)
    return Time(sec=nanoseconds // SECOND, nanosec=nanoseconds % SECOND)


def to_duration(nanoseconds: int) -> Duration:
    """Return a span of nanoseconds as a message; negative ones become 0."""
    nanoseconds = min(max(nanoseconds, 0), (2**31 - 1) * SECOND)
    return Duration(sec=nanoseconds // SECOND, nanosec=nanoseconds % SECOND)


def finite(value: float, otherwise: float = NOT_COMPUTED) -> float:
    """Return the value, or ``otherwise`` for NaN and infinity, which are never published."""
    return value if math.isfinite(value) else otherwise


def event_from_message(message: msg.TaskEvent) -> TaskEvent:
    """Read a TaskEvent; raise ArmorError for a phase that does not exist."""
    try:
        phase = TaskPhase(message.phase)
    except ValueError:
        raise ArmorError(
            f'TaskEvent.phase is {message.phase}; it must be START (1) or END (2)'
        ) from None
    status = message.status if message.status in set(TaskStatus) else TaskStatus.UNKNOWN
    return TaskEvent(
        phase=phase,
        task_id=message.task_id,
        stamp_ns=to_nanoseconds(message.header.stamp),
        name=message.task_name,
        instruction=message.instruction,
        status=TaskStatus(status),
        message=message.status_message,
        cameras=tuple(message.cameras),
        context=tuple((pair.key, pair.value) for pair in message.context),
    )


def event_to_message(event: TaskEvent) -> msg.TaskEvent:
    """Return a task event as a message."""
    message = msg.TaskEvent(
        phase=int(event.phase),
        task_id=event.task_id,
        task_name=event.name,
        instruction=event.instruction,
        status=int(event.status),
        status_message=event.message,
        cameras=list(event.cameras),
        context=[KeyValue(key=key, value=value) for key, value in event.context],
    )
    message.header.stamp = to_time(event.stamp_ns)
    return message


def goals_from_message(message: GoalStatusArray) -> list[GoalState]:
    """Return the goals of an action status array, in its order."""
    return [
        GoalState(
            goal_id=bytes(bytearray(int(byte) for byte in status.goal_info.goal_id.uuid)),
            stamp_ns=to_nanoseconds(status.goal_info.stamp),
            status=int(status.status),
        )
        for status in message.status_list
    ]


def image_from_message(
    message: ImageMessage | CompressedImageMessage,
) -> RawImage | CompressedImage:
    """Return the plain values of an image message, without a copy of the pixels."""
    if isinstance(message, CompressedImageMessage):
        return CompressedImage(format=message.format, data=memoryview(message.data))
    return RawImage(
        encoding=message.encoding,
        width=message.width,
        height=message.height,
        step=message.step,
        is_bigendian=bool(message.is_bigendian),
        data=memoryview(message.data),
    )


def evidence_to_message(evidence: CameraEvidence) -> msg.CameraEvidence:
    """Return one camera's evidence as a message."""
    return msg.CameraEvidence(
        camera=evidence.camera,
        topic=evidence.topic,
        frames_seen=evidence.frames_seen,
        frames_used=evidence.frames_used,
        frames_undecodable=evidence.frames_undecodable,
        first_stamp=to_time(evidence.first_stamp_ns),
        last_stamp=to_time(evidence.last_stamp_ns),
        largest_gap=to_duration(evidence.largest_gap_ns),
    )


def rounds_to_messages(rounds: Iterable[Round]) -> list[msg.RefinementRound]:
    """Return the answers of refinement rounds as messages."""
    return [
        msg.RefinementRound(
            round=entry.round,
            trajectory=entry.trajectory,
            failure_probability=finite(entry.failure_probability, 0.5),
            failed=entry.failed,
            explanation=entry.explanation,
            detection_entropy=finite(entry.detection_entropy),
            explanation_entropy=finite(entry.explanation_entropy),
            combined_entropy=finite(entry.combined_entropy),
            best=entry.best,
        )
        for entry in rounds
    ]
