# SPDX-License-Identifier: Apache-2.0
"""A recording as plain values: camera images, action status, task events and the clock."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from armor_ros.datasets.bag_reader import BagReader
from armor_ros.datasets.bag_reports import REPORT_TYPE, BagReport, report_from
from armor_ros.datasets.cameras import IMAGE_TYPES, choose_cameras
from armor_ros.datasets.cdr import deserialize, nanoseconds
from armor_ros.datasets.manifest import Label
from armor_ros.datasets.storage import Problems, RawMessage, Topic
from armor_ros.datasets.typestore import armor_types, standard_types
from armor_ros.episodes.decoding import CompressedImage, RawImage
from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.episodes.recorder import CameraConfig
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus

IMAGE_TYPE, COMPRESSED_TYPE = IMAGE_TYPES
STATUS_TYPE = 'action_msgs/msg/GoalStatusArray'
CLOCK_TYPE = 'rosgraph_msgs/msg/Clock'
TASK_EVENT_TOPIC = '/armor/task_event'
TASK_EVENT_TYPE = 'armor_msgs/msg/TaskEvent'
LABEL_TYPE = 'armor_msgs/srv/LabelTask_Event'
STATUS_SUFFIX = '/_action/status'


@dataclass(frozen=True, slots=True)
class BagImage:
    """
    A camera message. ``stamp_ns`` is the header's, 0 when the camera gave none.

    A message that cannot be read comes as an image of 0 bytes, which no decoder accepts, so that
    it is counted like any other bad image.
    """

    topic: str
    log_ns: int
    stamp_ns: int
    image: RawImage | CompressedImage


@dataclass(frozen=True, slots=True)
class BagStatus:
    """The status array of an action; ``action`` is the action's name ('/move')."""

    action: str
    log_ns: int
    goals: tuple[GoalState, ...]


@dataclass(frozen=True, slots=True)
class BagTaskEvent:
    """A task's START or END as its executor published it."""

    topic: str
    log_ns: int
    event: TaskEvent


@dataclass(frozen=True, slots=True)
class BagClock:
    """A message of /clock."""

    log_ns: int
    clock_ns: int


@dataclass(frozen=True, slots=True)
class BagLabel:
    """An operator's word on a task: a recorded call of the node's service LabelTask."""

    log_ns: int
    task_id: str
    label: Label
    explanation: str


BagMessage = BagImage | BagStatus | BagTaskEvent | BagClock


@dataclass(frozen=True, slots=True)
class BagInfo:
    """
    What a recording holds.

    ``actions`` are the names of actions whose status was recorded, ``task_event_topics`` the
    topics of TaskEvents, ``cameras`` those that ``find_cameras`` chooses. Times are log times in
    nanoseconds; ``problems`` pairs sentences with how often they apply.
    """

    path: Path
    topics: tuple[Topic, ...]
    message_count: int
    start_ns: int
    end_ns: int
    actions: tuple[str, ...]
    task_event_topics: tuple[str, ...]
    cameras: tuple[CameraConfig, ...]
    problems: tuple[tuple[str, int], ...]

    @property
    def duration_ns(self) -> int:
        """Nanoseconds between the first and the last message."""
        return self.end_ns - self.start_ns


class Bag:
    """
    An open recording; see ``BagReader`` for what may be wrong with it and how that is told.

    ``problems`` grows while messages are read.
    """

    def __init__(self, path: str | Path) -> None:
        self._reader = BagReader(path)

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the bag's files."""
        self._reader.close()

    @property
    def problems(self) -> Problems:
        """Sentences on what was wrong so far, each with how often."""
        return self._reader.problems

    def info(self) -> BagInfo:
        """Return what the bag holds, without reading its messages."""
        topics = self._reader.topics
        return BagInfo(
            path=self._reader.path,
            topics=topics,
            message_count=sum(topic.count for topic in topics),
            start_ns=self._reader.start_ns,
            end_ns=self._reader.end_ns,
            actions=tuple(
                topic.name.removesuffix(STATUS_SUFFIX)
                for topic in topics
                if topic.type == STATUS_TYPE and topic.name.endswith(STATUS_SUFFIX)
            ),
            task_event_topics=tuple(
                topic.name for topic in topics if topic.type == TASK_EVENT_TYPE
            ),
            cameras=choose_cameras(topics),
            problems=tuple(sorted(self.problems.items())),
        )

    def read(self, image_topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """
        Yield images, action status, task events and clock in log order.

        ``image_topics`` limits the images (None: those of the cameras that ``info`` names).
        """
        if image_topics is None:
            image_topics = {camera.topic for camera in self.info().cameras}
        wanted = {
            topic.name: topic.type
            for topic in self._reader.topics
            if topic.serialization == 'cdr'
            and (topic.type in _CONVERTERS)
            and (topic.type not in IMAGE_TYPES or topic.name in image_topics)
        }
        for message in self._reader.messages(set(wanted)):
            converter = _CONVERTERS.get(message.type)
            value = None if converter is None else converter(message, self.problems)
            if value is not None:
                yield value

    def labels(self) -> Iterator[BagLabel]:
        """Yield the labels that operators gave the node, where its service's events are there."""
        for message in self._messages(LABEL_TYPE):
            yield from _labels(message, self.problems)

    def reports(self) -> Iterator[BagReport]:
        """Yield the final reports that monitors published, in log order."""
        for message in self._messages(REPORT_TYPE):
            report = report_from(message, self.problems)
            if report is not None:
                yield report

    def _messages(self, kind: str) -> Iterator[RawMessage]:
        topics = {topic.name for topic in self._reader.topics if topic.type == kind}
        # no topic would mean all of them
        messages = self._reader.messages(topics) if topics else ()
        return (message for message in messages if message.type == kind)


def read_bag(
    path: str | Path, image_topics: Collection[str] | None = None
) -> Iterator[BagMessage]:
    """Yield the plain values of a recording in log order; see ``Bag.read``."""
    with Bag(path) as bag:
        yield from bag.read(image_topics)


def find_cameras(path: str | Path) -> tuple[CameraConfig, ...]:
    """Return a recording's cameras, each with a short name and the best of its topics."""
    with Bag(path) as bag:
        return bag.info().cameras


def bag_info(path: str | Path) -> BagInfo:
    """Return what a recording holds."""
    with Bag(path) as bag:
        return bag.info()


def _image(message: RawMessage, problems: Problems) -> BagImage:
    decoded = deserialize(message, standard_types(), problems)
    if decoded is None:
        empty: RawImage | CompressedImage = CompressedImage(format='', data=b'')
        if message.type == IMAGE_TYPE:
            empty = RawImage(encoding='', width=0, height=0, step=0, is_bigendian=False, data=b'')
        return BagImage(message.topic, message.log_ns, 0, empty)
    stamp_ns = nanoseconds(decoded.header.stamp)
    if message.type == COMPRESSED_TYPE:
        compressed = CompressedImage(format=decoded.format, data=memoryview(decoded.data))
        return BagImage(message.topic, message.log_ns, stamp_ns, compressed)
    image = RawImage(
        encoding=decoded.encoding,
        width=decoded.width,
        height=decoded.height,
        step=decoded.step,
        is_bigendian=bool(decoded.is_bigendian),
        data=memoryview(decoded.data),
    )
    return BagImage(message.topic, message.log_ns, stamp_ns, image)


def _status(message: RawMessage, problems: Problems) -> BagStatus | None:
    if not message.topic.endswith(STATUS_SUFFIX):
        return None
    decoded = deserialize(message, standard_types(), problems)
    if decoded is None:
        return None
    goals = tuple(
        GoalState(
            goal_id=bytes(goal.goal_info.goal_id.uuid),
            stamp_ns=nanoseconds(goal.goal_info.stamp),
            status=int(goal.status),
        )
        for goal in decoded.status_list
    )
    return BagStatus(message.topic.removesuffix(STATUS_SUFFIX), message.log_ns, goals)


def _task_event(message: RawMessage, problems: Problems) -> BagTaskEvent | None:
    decoded = deserialize(message, armor_types(), problems)
    if decoded is None:
        return None
    if decoded.phase not in set(TaskPhase):
        problems[f'{message.topic}: a TaskEvent is neither START nor END'] += 1
        return None
    known = decoded.status in set(TaskStatus)
    event = TaskEvent(
        phase=TaskPhase(decoded.phase),
        task_id=decoded.task_id,
        stamp_ns=nanoseconds(decoded.header.stamp),
        name=decoded.task_name,
        instruction=decoded.instruction,
        status=TaskStatus(decoded.status) if known else TaskStatus.UNKNOWN,
        message=decoded.status_message,
        cameras=tuple(decoded.cameras),
        context=tuple((pair.key, pair.value) for pair in decoded.context),
    )
    return BagTaskEvent(message.topic, message.log_ns, event)


def _labels(message: RawMessage, problems: Problems) -> Iterator[BagLabel]:
    decoded = deserialize(message, armor_types(), problems)
    for request in [] if decoded is None else decoded.request:
        # The node refuses other numbers; they are recorded all the same.
        if request.label in _LABELS:
            label = _LABELS[request.label]
            yield BagLabel(message.log_ns, request.task_id, label, request.explanation)


def _clock(message: RawMessage, problems: Problems) -> BagClock | None:
    decoded = deserialize(message, standard_types(), problems)
    return None if decoded is None else BagClock(message.log_ns, nanoseconds(decoded.clock))


_LABELS: dict[int, Label] = {1: 'success', 2: 'failure'}
_CONVERTERS = {
    IMAGE_TYPE: _image,
    COMPRESSED_TYPE: _image,
    STATUS_TYPE: _status,
    TASK_EVENT_TYPE: _task_event,
    CLOCK_TYPE: _clock,
}
