# SPDX-License-Identifier: Apache-2.0
"""The picture beside each verdict: drawn aside, published, and stored within a quota."""

from __future__ import annotations

import array
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class _Picture:
    """A collage; ``uri`` is empty when it is not stored, ``problem`` says what went wrong."""

    jpeg: bytes = b''
    uri: str = ''
    problem: str = ''


class EvidencePublisher:
    """
    Shows the collage of each episode on ``~/evidence/compressed``, and keeps it on disk.

    A picture takes some ten milliseconds to draw and store, so that a thread of its own does it;
    all methods belong to the node's thread. ``on_drawn`` is called from the other one.
    """

    def __init__(
        self,
        node: LifecycleNode,
        parameters: MonitorParameters,
        qos: QoSProfile,
        on_drawn: Callable[[], None],
    ) -> None:
        self._node = node
        self._on_drawn = on_drawn
        self._publisher = node.create_publisher(CompressedImage, '~/evidence/compressed', qos)
        self._store: EvidenceStore | None = None
        if parameters.evidence_megabytes:
            self._store = EvidenceStore(
                data_folder(parameters) / 'evidence', parameters.evidence_megabytes * MEGABYTE
            )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='armor-evidence')
        # By identity: two tasks may have the same name. The episode is held, so that it stays.
        self._drawn: dict[int, tuple[Episode, Future[_Picture]]] = {}

    def draw(self, episode: Episode) -> None:
        """Begin with the picture of an episode that ``show`` will be asked for."""
        if id(episode) not in self._drawn:
            picture = self._thread.submit(self._draw, episode)
            self._drawn[id(episode)] = (episode, picture)
            picture.add_done_callback(lambda _: self._on_drawn())

    def is_drawn(self, episode: Episode) -> bool:
        """Whether ``show`` would not have to wait."""
        entry = self._drawn.get(id(episode))
        return entry is not None and entry[1].done()

    def show(self, episode: Episode) -> str:
        """
        Publish the collage, once; return its URI, empty when it is not stored.

        A picture that fails is a warning: it never costs the report.
        """
        self.draw(episode)
        _, future = self._drawn.pop(id(episode))
        picture = future.result()
        if picture.problem:
            self._node.get_logger().warning(picture.problem)
        if picture.jpeg:
            message = CompressedImage(format='jpeg', data=array.array('B', picture.jpeg))
            message.header.stamp = to_time(episode.end_ns)
            self._publisher.publish(message)
        return picture.uri

    def close(self) -> None:
        """Drop the publisher and the thread."""
        self._thread.shutdown(wait=True)
        self._node.destroy_publisher(self._publisher)

    def _draw(self, episode: Episode) -> _Picture:
        """Draw and store, in the other thread; never raises."""
        if not episode.frame_count:
            return _Picture()
        jpeg = b''
        try:
            jpeg = encode_jpeg(render_collage(episode))
            if self._store is None:
                return _Picture(jpeg)
            path = self._store.save(episode.task.task_id, episode.end_ns, jpeg)
            return _Picture(jpeg, path.as_uri())
        except (ArmorError, cv2.error) as error:
            return _Picture(jpeg, problem=str(error))
        except Exception as error:  # whatever it is, it is not to cost the report
            return _Picture(jpeg, problem=f'no picture: {type(error).__name__}: {error}')
