# SPDX-License-Identifier: Apache-2.0
"""The Episode: all that the cameras saw of one task, and what they missed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from armor_ros.episodes.task import TaskEvent
from armor_ros.errors import ArmorError


@dataclass(frozen=True, slots=True)
class CameraEvidence:
    """
    What one camera contributed to an episode.

    ``frames_seen`` counts every message stamped inside the clip, ``frames_used`` the sampled
    frames in it, ``frames_undecodable`` the messages whose image could not be read. Stamps are
    those of the first and last used frame (0 without frames); ``largest_gap_ns`` is the longest
    time inside the clip's bounds without a used frame, the time before the first and after the
    last included.
    """

    camera: str
    topic: str
    frames_seen: int
    frames_used: int
    frames_undecodable: int
    first_stamp_ns: int
    last_stamp_ns: int
    largest_gap_ns: int


@dataclass(frozen=True, slots=True)
class CameraClip:
    """
    The sampled frames of one camera.

    ``frames`` is (N, H, W, 3) uint8 RGB, ``stamps_ns`` is (N,) int64, strictly increasing.
    """

    evidence: CameraEvidence
    frames: npt.NDArray[np.uint8]
    stamps_ns: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Episode:
    """
    One task as the cameras saw it.

    ``task`` is the END event. ``start_ns``/``end_ns`` bound the task, ``clip_start_ns``/
    ``clip_end_ns`` the frames (pre-roll and post-roll included, both ends inclusive).
    ``truncated`` says that the task was longer than the buffer, so that its beginning is missing.
    ``fps`` is the sampling rate, frames a second. ``collage`` is the (H, W, 3) uint8 RGB picture
    of a data set that has ready collages and no clips; it is looked at as it is.
    """

    task: TaskEvent
    start_ns: int
    end_ns: int
    clip_start_ns: int
    clip_end_ns: int
    clips: tuple[CameraClip, ...]
    truncated: bool
    fps: float
    collage: npt.NDArray[np.uint8] | None = None

    def clip(self, camera: str = '') -> CameraClip:
        """
        Return the clip of one camera, the first that has frames when ``camera`` is empty.

        Raises ArmorError when the camera is unknown.
        """
        if not camera:
            with_frames = [clip for clip in self.clips if len(clip.stamps_ns)]
            if not with_frames:
                hint = '; it comes as a ready collage: set input_mode to collage'
                raise ArmorError(
                    f'task {self.task.task_id!r} has no frames from any camera'
                    + (hint if self.collage is not None else '')
                )
            return with_frames[0]
        for clip in self.clips:
            if clip.evidence.camera == camera:
                return clip
        known = ', '.join(clip.evidence.camera for clip in self.clips) or 'none'
        raise ArmorError(f'no camera {camera!r} in this episode; its cameras are: {known}')

    @property
    def frame_count(self) -> int:
        """Frames used, over all cameras."""
        return sum(len(clip.stamps_ns) for clip in self.clips)
