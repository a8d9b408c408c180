# SPDX-License-Identifier: Apache-2.0
"""What follows from an episode and a verdict: the same for the live node and for recordings."""

from __future__ import annotations

from collections.abc import Mapping

from armor_ros.episodes.diagnosis import ReportStatus, Verdict
from armor_ros.episodes.episode import CameraEvidence, Episode
from armor_ros.episodes.task import TaskStatus

_SECOND = 1e9


def check_frames(
    episode: Episode, newest_ns: Mapping[str, int] | None = None
) -> tuple[ReportStatus, str]:
    """
    Tell whether there is anything to look at: OK and '', else the status and a sentence why not.

    ``newest_ns`` holds the stamp of each camera's newest frame by camera name, whatever task it
    belongs to (0 or absent: the camera never gave one). With it, frames from another time than
    the clip's are STALE_FRAMES; all else without a usable frame is NO_FRAMES.
    """
    if episode.frame_count or episode.collage is not None:
        return ReportStatus.OK, ''
    newest_ns = newest_ns or {}
    evidence = [clip.evidence for clip in episode.clips]
    if not evidence:
        return ReportStatus.NO_FRAMES, 'no camera shows this task; check the names of its cameras'
    stale = [
        camera for camera in evidence if not camera.frames_seen and newest_ns.get(camera.camera)
    ]
    details = '; '.join(_describe(camera, episode, newest_ns) for camera in evidence)
    if stale and not any(camera.frames_seen for camera in evidence):
        return (
            ReportStatus.STALE_FRAMES,
            f'no frame is from the time of the task: {details}. Check that cameras and tasks use '
            'the same clock (use_sim_time) and that the cameras still run',
        )
    return (
        ReportStatus.NO_FRAMES,
        f'no camera gave a usable frame during the task: {details}. Check the camera topics',
    )


def disagrees(status: TaskStatus, verdict: Verdict) -> bool:
    """
    Tell whether the video contradicts the robot's own stack.

    SUCCEEDED against FAILURE, ABORTED against SUCCESS; a canceled task has no outcome to
    contradict, and neither UNKNOWN nor ABSTAIN says anything.
    """
    return (status, verdict) in (
        (TaskStatus.SUCCEEDED, Verdict.FAILURE),
        (TaskStatus.ABORTED, Verdict.SUCCESS),
    )


def _describe(camera: CameraEvidence, episode: Episode, newest_ns: Mapping[str, int]) -> str:
    where = f'{camera.camera} ({camera.topic})'
    if camera.frames_undecodable:
        return (
            f'{where} gave {camera.frames_seen} images, {camera.frames_undecodable} of which '
            'could not be decoded'
        )
    if camera.frames_seen:
        return f'{where} gave {camera.frames_seen} images, none of which was kept'
    newest = newest_ns.get(camera.camera, 0)
    if not newest:
        return f'{where} gave none'
    if newest < episode.clip_start_ns:
        gap = (episode.clip_start_ns - newest) / _SECOND
        return f'the last one of {where} is {gap:.1f} s older than the task'
    if newest > episode.clip_end_ns:
        gap = (newest - episode.clip_end_ns) / _SECOND
        return f'the last one of {where} is {gap:.1f} s younger than the task'
    return f'{where} gave none'
