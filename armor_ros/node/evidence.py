# SPDX-License-Identifier: Apache-2.0
"""The picture beside each verdict: published, and stored within a quota."""

from __future__ import annotations

import array

import cv2
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage

from armor_ros.episodes.collage import encode_jpeg, render_collage
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.storage import EvidenceStore
from armor_ros.errors import ArmorError
from armor_ros.node.conversions import to_time
from armor_ros.node.declaration import data_folder
from armor_ros.parameters import MEGABYTE, MonitorParameters


class EvidencePublisher:
    """Shows the collage of each episode on ``~/evidence/compressed``, and keeps it on disk."""

    def __init__(
        self, node: LifecycleNode, parameters: MonitorParameters, qos: QoSProfile
    ) -> None:
        self._node = node
        self._publisher = node.create_publisher(CompressedImage, '~/evidence/compressed', qos)
        self._store: EvidenceStore | None = None
        if parameters.evidence_megabytes:
            self._store = EvidenceStore(
                data_folder(parameters) / 'evidence', parameters.evidence_megabytes * MEGABYTE
            )

    def show(self, episode: Episode) -> str:
        """
        Publish and store the collage; return its URI, empty when it is not stored.

        A picture that fails is a warning: it never costs the report.
        """
        if not episode.frame_count:
            return ''
        try:
            jpeg = encode_jpeg(render_collage(episode))
            message = CompressedImage(format='jpeg', data=array.array('B', jpeg))
            message.header.stamp = to_time(episode.end_ns)
            self._publisher.publish(message)
            if self._store is None:
                return ''
            return self._store.save(episode.task.task_id, episode.end_ns, jpeg).as_uri()
        except (ArmorError, cv2.error) as error:
            self._node.get_logger().warning(str(error))
            return ''

    def close(self) -> None:
        """Drop the publisher."""
        self._node.destroy_publisher(self._publisher)
