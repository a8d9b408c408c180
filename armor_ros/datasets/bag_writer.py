# SPDX-License-Identifier: Apache-2.0
"""Writing recordings that rosbag2 and its users can read, from plain values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import (
    CompressionFormat,
    CompressionMode,
    StoragePlugin,
    Writer,
    WriterError,
)

from armor_ros.datasets.bags import (
    CLOCK_TYPE,
    COMPRESSED_TYPE,
    IMAGE_TYPE,
    STATUS_SUFFIX,
    STATUS_TYPE,
    TASK_EVENT_TYPE,
    BagImage,
    BagMessage,
    BagStatus,
    BagTaskEvent,
)
from armor_ros.datasets.cameras import camera_name
from armor_ros.datasets.typestore import armor_types
from armor_ros.episodes.decoding import CompressedImage
from armor_ros.episodes.task import TaskEvent
from armor_ros.errors import ArmorError

_SECOND = 1_000_000_000
_STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
_COMPRESSIONS = {
    'none': CompressionMode.NONE,
    'message': CompressionMode.MESSAGE,
    'file': CompressionMode.FILE,
    'chunk': CompressionMode.STORAGE,
}


class BagWriter:
    """
    A new recording in the directory ``path``, which must not exist yet.

    ``storage`` is 'mcap' or 'sqlite3'; ``compression`` (zstd) is 'none', 'message', 'file', or
    'chunk' (MCAP only). Leaving the ``with`` block completes the recording.
    """

    def __init__(
        self, path: str | Path, *, storage: str = 'mcap', compression: str = 'none'
    ) -> None:
        self._path = Path(path)
        self._types = armor_types()
        self._connections: dict[str, Connection] = {}
        plugin = _choose(_STORAGES, storage, 'storage')
        mode = _choose(_COMPRESSIONS, compression, 'compression')
        if self._path.exists():
            raise ArmorError(f'{path} exists already; remove it or choose another name')
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = Writer(self._path, version=9, storage_plugin=plugin)
            if mode is not CompressionMode.NONE:
                self._writer.set_compression(mode, CompressionFormat.ZSTD)
            self._writer.open()
        except (WriterError, OSError) as error:
            raise ArmorError(f'cannot write a recording to {path}: {error}') from error

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Complete the recording; nothing can be written afterwards."""
        try:
            self._writer.close()
        except (WriterError, OSError) as error:
            raise ArmorError(f'cannot complete the recording {self._path}: {error}') from error

    def write(self, message: BagMessage) -> None:
        """Append a message, logged at its ``log_ns`` (nanoseconds, not negative)."""
        if isinstance(message, BagImage):
            compressed = isinstance(message.image, CompressedImage)
            kind = COMPRESSED_TYPE if compressed else IMAGE_TYPE
            self._append(message.topic, kind, message.log_ns, self._image(message))
        elif isinstance(message, BagStatus):
            topic = message.action + STATUS_SUFFIX
            self._append(topic, STATUS_TYPE, message.log_ns, self._status(message))
        elif isinstance(message, BagTaskEvent):
            event = self._task_event(message.event)
            self._append(message.topic, TASK_EVENT_TYPE, message.log_ns, event)
        else:
            clock = self._new(CLOCK_TYPE, clock=self._time(message.clock_ns))
            self._append('/clock', CLOCK_TYPE, message.log_ns, clock)

    def write_raw(self, topic: str, kind: str, log_ns: int, data: bytes) -> None:
        """Append bytes that are a serialized message of type ``kind``, unchecked."""
        try:
            self._writer.write(self._connection(topic, kind), log_ns, data)
        except (WriterError, OSError) as error:
            raise ArmorError(f'cannot write to the recording {self._path}: {error}') from error

    def _append(self, topic: str, kind: str, log_ns: int, message: Any) -> None:
        self.write_raw(topic, kind, log_ns, bytes(self._types.serialize_cdr(message, kind)))

    def _connection(self, topic: str, kind: str) -> Connection:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic,
                kind,
                typestore=self._types,
                offered_qos_profiles=[_offered_qos(kind)],
            )
        return self._connections[topic]

    def _new(self, kind: str, **fields: Any) -> Any:
        return self._types.types[kind](**fields)

    def _time(self, stamp_ns: int) -> Any:
        sec, nanosec = divmod(stamp_ns, _SECOND)
        return self._new('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)

    def _header(self, stamp_ns: int, frame_id: str = '') -> Any:
        return self._new('std_msgs/msg/Header', stamp=self._time(stamp_ns), frame_id=frame_id)

    def _image(self, message: BagImage) -> Any:
        header = self._header(message.stamp_ns, camera_name(message.topic))
        image = message.image
        data = np.frombuffer(image.data, np.uint8)
        if isinstance(image, CompressedImage):
            return self._new(COMPRESSED_TYPE, header=header, format=image.format, data=data)
        return self._new(
            IMAGE_TYPE,
            header=header,
            height=image.height,
            width=image.width,
            encoding=image.encoding,
            is_bigendian=int(image.is_bigendian),
            step=image.step,
            data=data,
        )

    def _status(self, message: BagStatus) -> Any:
        goals = []
        for goal in message.goals:
            uuid = np.frombuffer(goal.goal_id, np.uint8)
            info = self._new(
                'action_msgs/msg/GoalInfo',
                goal_id=self._new('unique_identifier_msgs/msg/UUID', uuid=uuid),
                stamp=self._time(goal.stamp_ns),
            )
            goals.append(
                self._new('action_msgs/msg/GoalStatus', goal_info=info, status=goal.status)
            )
        return self._new(STATUS_TYPE, status_list=goals)

    def _task_event(self, event: TaskEvent) -> Any:
        pair = 'diagnostic_msgs/msg/KeyValue'
        return self._new(
            TASK_EVENT_TYPE,
            header=self._header(event.stamp_ns),
            phase=int(event.phase),
            task_id=event.task_id,
            task_name=event.name,
            instruction=event.instruction,
            status=int(event.status),
            status_message=event.message,
            cameras=list(event.cameras),
            context=[self._new(pair, key=key, value=value) for key, value in event.context],
        )


def write_bag(
    path: str | Path,
    messages: Iterable[BagMessage],
    *,
    storage: str = 'mcap',
    compression: str = 'none',
) -> None:
    """Write messages to a new recording in the directory ``path``; see ``BagWriter``."""
    with BagWriter(path, storage=storage, compression=compression) as writer:
        for message in messages:
            writer.write(message)


def _choose(values: dict[str, Any], name: str, what: str) -> Any:
    if name not in values:
        raise ArmorError(f'{what} {name!r} is not known; choose one of {", ".join(values)}')
    return values[name]


def _offered_qos(kind: str) -> Qos:
    """Return the profile that publishers of such a message have: action servers latch status."""
    latched = kind == STATUS_TYPE
    never = QosTime(2147483647, 4294967295)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=never,
        lifespan=never,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=never,
        avoid_ros_namespace_conventions=False,
    )
