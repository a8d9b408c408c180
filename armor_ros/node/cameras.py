# SPDX-License-Identifier: Apache-2.0
"""One camera topic: a subscription that fits its publishers, and why it is silent if it is."""

from __future__ import annotations

import difflib
import struct
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from armor_ros.episodes.recorder import CameraConfig

IMAGE_TYPES = {
    'sensor_msgs/msg/Image': Image,
    'sensor_msgs/msg/CompressedImage': CompressedImage,
}
# Enough for a burst of one camera while another image is being decoded.
QUEUE_DEPTH = 10


def read_stamp(serialized: bytes) -> int:
    """
    Return the header stamp of a serialized image in nanoseconds, without deserialising it.

    Image and CompressedImage begin with the header, whose stamp (int32 seconds, uint32
    nanoseconds) follows the four bytes of the CDR representation. Raises ValueError when the
    message is too short.
    """
    if len(serialized) < 12:
        raise ValueError(f'an image message of {len(serialized)} bytes has no stamp')
    order = '<' if serialized[1] & 1 else '>'
    seconds, nanoseconds = struct.unpack_from(order + 'iI', serialized, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """Why a camera delivers frames or not: ``level`` 0 OK, 1 WARN, 2 ERROR."""

    level: int
    message: str


class CameraSubscription:
    """
    Keeps one subscription that matches the QoS and the type of the topic's publishers.

    ``on_message(camera, stamp_ns, serialized, message_type)`` is called for each message, which
    is still serialised: most messages of a 30 Hz camera are never looked at. ``refresh`` is to be
    called about once a second.
    """

    def __init__(
        self,
        node: LifecycleNode,
        camera: CameraConfig,
        on_message: Callable[[str, int, bytes, type], None],
    ) -> None:
        self.camera = camera
        self.messages = 0
        self.malformed = 0
        self._node = node
        self._topic = node.resolve_topic_name(camera.topic)
        self._on_message = on_message
        self._subscription: Subscription | None = None
        self._shape: tuple[str, ReliabilityPolicy] | None = None

    def refresh(self) -> None:
        """Look at the topic's publishers, and subscribe (again) if they need another QoS."""
        publishers = [
            info
            for info in self._node.get_publishers_info_by_topic(self._topic)
            if info.topic_type in IMAGE_TYPES
        ]
        if not publishers:
            return
        type_name = publishers[0].topic_type
        # A reliable reader hears no best-effort writer; a best-effort reader hears both.
        every_reliable = all(
            info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            for info in publishers
            if info.topic_type == type_name
        )
        reliability = (
            ReliabilityPolicy.RELIABLE if every_reliable else ReliabilityPolicy.BEST_EFFORT
        )
        if self._shape != (type_name, reliability):
            self._subscribe(type_name, reliability)

    def _subscribe(self, type_name: str, reliability: ReliabilityPolicy) -> None:
        self.close()
        message_type = IMAGE_TYPES[type_name]

        def receive(serialized: bytes) -> None:
            self.messages += 1
            try:
                stamp_ns = read_stamp(serialized)
            except ValueError:
                self.malformed += 1
                return
            self._on_message(self.camera.name, stamp_ns, serialized, message_type)

        self._subscription = self._node.create_subscription(
            message_type,
            self._topic,
            receive,
            # Volatile fits writers of either durability.
            QoSProfile(
                history=HistoryPolicy.KEEP_LAST,
                depth=QUEUE_DEPTH,
                reliability=reliability,
                durability=DurabilityPolicy.VOLATILE,
            ),
            raw=True,
        )
        self._shape = (type_name, reliability)
        self._node.get_logger().info(
            f'camera {self.camera.name}: subscribed to {self._topic} '
            f'({type_name}, {reliability.name.lower().replace("_", " ")})'
        )

    def close(self) -> None:
        """Drop the subscription."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = None
        self._shape = None

    def health(self, seconds_since_message: float, patience: float) -> CameraHealth:
        """
        Explain the camera's state.

        ``seconds_since_message`` counts from the subscription while there was no message. A
        silence of less than ``patience`` seconds is nothing to speak of.
        """
        if seconds_since_message < patience:
            return CameraHealth(0, f'watching {self._topic}')
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        images = [info for info in publishers if info.topic_type in IMAGE_TYPES]
        if not publishers:
            return CameraHealth(2, f'no publisher on {self._topic}. {self._near_names()}')
        if not images:
            types = ', '.join(sorted({info.topic_type for info in publishers}))
            return CameraHealth(
                2, f'{self._topic} carries {types}, not images. {self._near_names()}'
            )
        writers = '; '.join(
            f'{info.node_namespace.rstrip("/")}/{info.node_name} '
            f'({info.qos_profile.reliability.name.lower()}, '
            f'{info.qos_profile.durability.name.lower()})'
            for info in images
        )
        since = f'no message for {seconds_since_message:.1f} s'
        return CameraHealth(2, f'{since} on {self._topic}; its publishers: {writers}')

    def _near_names(self) -> str:
        """Name image topics that the user may have meant."""
        topics = image_topics(self._node)
        if not topics:
            return 'There is no image topic in the graph: is the camera driver running?'
        near = difflib.get_close_matches(self._topic, topics, n=3, cutoff=0.4) or topics[:5]
        return 'Image topics in the graph: ' + ', '.join(near)


def image_topics(node: LifecycleNode) -> list[str]:
    """Return the names of all image topics that another node publishes, sorted."""
    own = node.get_fully_qualified_name() + '/'
    return sorted(
        name
        for name, types in node.get_topic_names_and_types()
        if any(type_name in IMAGE_TYPES for type_name in types)
        and not name.startswith(own)
        and node.count_publishers(name)
    )


def deserialize(serialized: bytes, message_type: type) -> Image | CompressedImage:
    """Return the message; whatever the middleware raises on garbage is raised as ValueError."""
    try:
        return deserialize_message(serialized, message_type)
    except Exception as error:  # the middleware's own exception types differ by vendor
        raise ValueError(f'the message cannot be deserialised: {error}') from error
