# SPDX-License-Identifier: Apache-2.0
"""A record of a data set as an Episode, as if a robot had recorded it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from armor_ros.datasets.cameras import usual_order
from armor_ros.datasets.record import COLLAGE_VIEW, Record
from armor_ros.datasets.storage import Problems
from armor_ros.datasets.video import Frames
from armor_ros.episodes.episode import CameraClip, CameraEvidence, Episode
from armor_ros.episodes.settings import EpisodeSettings, period_ns
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus, clean_event
from armor_ros.errors import ArmorError

_STATUS = {status.name: status for status in TaskStatus}


def record_episode(
    record: Record,
    settings: EpisodeSettings,
    problems: Problems,
    size: tuple[int, int] | None = None,
) -> Episode:
    """
    Read a record's views at the settings' ``fps``; time 0 is the clip's beginning.

    Frames are ``size`` = (height, width), None means as large as recorded. Cameras come in the
    usual order (front, wrist, overhead, all others). Of a clip longer than ``buffer_seconds`` the
    end is kept, as a robot would, and the episode is ``truncated``. A view that cannot be read is
    counted in ``problems`` and gives a camera without frames. A ready collage keeps its size.
    """
    views, cut = _read_views(record, settings, problems, size)
    collage = views.pop(COLLAGE_VIEW, None)
    period = period_ns(settings.fps)
    count = max((len(frames) for frames in views.values()), default=1)
    end_ns = max(count - 1, 0) * period
    return Episode(
        task=clean_event(
            TaskEvent(
                phase=TaskPhase.END,
                task_id=record.id,
                stamp_ns=end_ns,
                name=record.task,
                instruction=record.instruction,
                status=status_of(record),
                context=tuple(record.extra.items()),
            )
        ),
        start_ns=0,
        end_ns=end_ns,
        clip_start_ns=0,
        clip_end_ns=end_ns,
        clips=tuple(
            _clip(name, views[name], period, end_ns)
            for name in usual_order(name for name in record.views if name != COLLAGE_VIEW)
        ),
        truncated=cut,
        fps=settings.fps,
        collage=collage[0] if collage is not None and len(collage) else None,
    )


def status_of(record: Record) -> TaskStatus:
    """Return what the robot's stack said; UNKNOWN when it said nothing that is a status."""
    return _STATUS.get(record.robot_status, TaskStatus.UNKNOWN)


def _read_views(
    record: Record,
    settings: EpisodeSettings,
    problems: Problems,
    size: tuple[int, int] | None,
) -> tuple[dict[str, Frames], bool]:
    """Return the frames of each view, none of one that cannot be read; and if any were cut."""
    most = max(1, int(settings.buffer_seconds * settings.fps))
    found: dict[str, Frames] = {}
    cut = False
    for name, view in record.views.items():
        try:
            frames = view.read(settings.fps, None if name == COLLAGE_VIEW else size)
        except ArmorError as error:
            problems[f'{record.id}, {name}: {error}'] += 1
            frames = np.empty((0, *(size or settings.frame_size), 3), np.uint8)
        cut = cut or len(frames) > most
        # a slice would keep the whole alive
        found[name] = frames if len(frames) <= most else frames[-most:].copy()
    return found, cut


def _clip(name: str, frames: npt.NDArray[np.uint8], period: int, end_ns: int) -> CameraClip:
    stamps = np.arange(len(frames), dtype=np.int64) * period
    edges = np.concatenate(([0], stamps, [end_ns]))
    evidence = CameraEvidence(
        camera=name,
        topic='',
        frames_seen=len(frames),
        frames_used=len(frames),
        frames_undecodable=0,
        first_stamp_ns=0,
        last_stamp_ns=int(stamps[-1]) if len(stamps) else 0,
        largest_gap_ns=int(np.diff(edges).max()),
    )
    return CameraClip(evidence=evidence, frames=frames, stamps_ns=stamps)
