# SPDX-License-Identifier: Apache-2.0
"""Episodes for tests of whoever looks at them."""

from __future__ import annotations

import numpy as np

from armor_ros.episodes.episode import CameraClip, CameraEvidence, Episode
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus


def make_episode(
    *,
    color: tuple[int, int, int] = (90, 120, 30),
    frames: int = 7,
    size: tuple[int, int] = (56, 72),
    cameras: tuple[str, ...] = ('front', 'wrist'),
    instruction: str = 'pick up the red cube',
    status: TaskStatus = TaskStatus.SUCCEEDED,
    message: str = '',
    collage: bool = False,
) -> Episode:
    """Return an episode whose frames are of one color that brightens, at 5 frames a second."""
    stamps = np.arange(frames, dtype=np.int64) * 200_000_000
    last = int(stamps[-1]) if frames else 0
    pixels = np.zeros((frames, *size, 3), np.uint8)
    for index in range(frames):
        pixels[index] = np.clip(np.array(color) + 4 * index, 0, 255)
    clips = tuple(
        CameraClip(
            CameraEvidence(camera, f'/{camera}/image_raw', frames, frames, 0, 0, last, 0),
            pixels,
            stamps,
        )
        for camera in cameras
    )
    return Episode(
        task=TaskEvent(
            TaskPhase.END, 'task', last, 'pick', instruction, status=status, message=message
        ),
        start_ns=0,
        end_ns=last,
        clip_start_ns=0,
        clip_end_ns=last,
        clips=() if collage else clips,
        truncated=False,
        fps=5.0,
        collage=np.full((60, 120, 3), color, np.uint8) if collage else None,
    )
