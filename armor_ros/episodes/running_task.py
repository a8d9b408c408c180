# SPDX-License-Identifier: Apache-2.0
"""A task between its START and its Episode, and the Episode's making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from armor_ros.episodes.camera_track import CameraTrack
from armor_ros.episodes.episode import CameraClip, CameraEvidence, Episode
from armor_ros.episodes.settings import EpisodeSettings, seconds_to_ns
from armor_ros.episodes.task import TaskEvent

# An END stamped further ahead of its receipt than this is awaited no longer than this.
MAX_AHEAD_NS = 5_000_000_000


@dataclass(slots=True)
class RunningTask:
    """
    A task that has started; ``end`` is set once it has ended.

    ``receive_ns`` is when its START was received. ``cut`` says that its beginning is missing or
    a guess. ``deadline_ns`` is when its Episode is made, whatever is missing.
    """

    task_id: str
    cameras: tuple[str, ...]
    start_ns: int
    receive_ns: int
    cut: bool = False
    end: TaskEvent | None = None
    end_ns: int = 0
    deadline_ns: int = 0

    def finish(self, event: TaskEvent, receive_ns: int, settings: EpisodeSettings) -> None:
        """End the task with its END event; an END before the START moves the START."""
        self.end, self.end_ns = event, event.stamp_ns
        if self.end_ns < self.start_ns:
            lookback_ns = seconds_to_ns(settings.lookback)
            ran_ns = receive_ns - self.receive_ns
            known = not self.cut and 0 <= ran_ns <= lookback_ns
            self.start_ns = max(0, self.end_ns - (ran_ns if known else lookback_ns))
            self.cut = True
        awaited_ns = min(self.end_ns, receive_ns + MAX_AHEAD_NS)
        self.deadline_ns = awaited_ns + seconds_to_ns(settings.post_roll + settings.settle)

    def clip_start_ns(self, settings: EpisodeSettings) -> int:
        """Return the first instant of the clip, pre-roll included."""
        return max(0, self.start_ns - seconds_to_ns(settings.pre_roll))

    def clip_end_ns(self, settings: EpisodeSettings) -> int:
        """Return the last instant of the clip of an ended task, post-roll included."""
        return self.end_ns + seconds_to_ns(settings.post_roll)

    def shows(self, camera: str, stamp_ns: int, settings: EpisodeSettings) -> bool:
        """Tell whether a frame belongs to the clip, as far as is known yet."""
        if camera not in self.cameras or stamp_ns < self.clip_start_ns(settings):
            return False
        return self.end is None or stamp_ns <= self.clip_end_ns(settings)


def make_episodes(
    tasks: Sequence[RunningTask],
    tracks: Mapping[str, CameraTrack],
    settings: EpisodeSettings,
    *,
    stacked: bool = True,
) -> list[Episode]:
    """
    Make the Episodes of ended tasks from what the cameras have kept.

    Tasks that are made at once share the memory of their frames. Those that are not ``stacked``
    are ``FrameSequence``s, which share it with the buffer.
    """
    clips: dict[tuple[str, str], CameraClip] = {}
    for name, track in tracks.items():
        viewers = [task for task in tasks if name in task.cameras]
        if not viewers:
            continue
        stamps, frames = track.buffer.select(
            min(task.clip_start_ns(settings) for task in viewers),
            max(task.clip_end_ns(settings) for task in viewers),
            stacked=stacked,
        )
        for task in viewers:
            bounds = task.clip_start_ns(settings), task.clip_end_ns(settings)
            clips[task.task_id, name] = track.clip(*bounds, stamps, frames)
    return [_make_episode(task, clips, tracks, settings) for task in tasks]


def _make_episode(
    task: RunningTask,
    clips: Mapping[tuple[str, str], CameraClip],
    tracks: Mapping[str, CameraTrack],
    settings: EpisodeSettings,
) -> Episode:
    assert task.end is not None
    start_ns, end_ns = task.clip_start_ns(settings), task.clip_end_ns(settings)
    lost = any(name in tracks and tracks[name].has_lost(start_ns) for name in task.cameras)
    return Episode(
        task=task.end,
        start_ns=task.start_ns,
        end_ns=task.end_ns,
        clip_start_ns=start_ns,
        clip_end_ns=end_ns,
        clips=tuple(
            clips.get((task.task_id, name)) or _no_clip(name, end_ns - start_ns, settings)
            for name in task.cameras
        ),
        truncated=task.cut or lost,
        fps=settings.fps,
    )


def _no_clip(camera: str, span_ns: int, settings: EpisodeSettings) -> CameraClip:
    """Return the empty clip of a camera that a task names and nobody knows."""
    return CameraClip(
        evidence=CameraEvidence(camera, '', 0, 0, 0, 0, 0, span_ns),
        frames=np.empty((0, *settings.frame_size, 3), np.uint8),
        stamps_ns=np.empty(0, np.int64),
    )
