# SPDX-License-Identifier: Apache-2.0
"""One Episode as a sample of a manifest, or as a recording like a robot's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from armor_ros.datasets.bag_writer import write_bag
from armor_ros.datasets.bags import TASK_EVENT_TOPIC, BagImage, BagMessage, BagTaskEvent
from armor_ros.datasets.manifest import Label, Sample
from armor_ros.datasets.video import Frames, write_video
from armor_ros.episodes.collage import encode_jpeg, save_picture
from armor_ros.episodes.decoding import CompressedImage
from armor_ros.episodes.episode import CameraClip, Episode
from armor_ros.episodes.settings import period_ns
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus
from armor_ros.episodes.text import safe_file_name
from armor_ros.errors import ArmorError

EPOCH_NS = 1_577_836_800 * 1_000_000_000
"""The robot's clock where a data set has none: 2020-01-01 00:00:00 UTC."""

LABELS_FILE = 'labels.jsonl'
_MS = 1_000_000
_STATUS: dict[Label, TaskStatus] = {
    'success': TaskStatus.SUCCEEDED,
    'failure': TaskStatus.ABORTED,
}


@dataclass(frozen=True, slots=True)
class Annotation:
    """
    What goes with an Episode into another format; see ``manifest.Sample``.

    ``weak`` says that the label is the word of the robot's own stack.
    """

    id: str
    label: Label | None = None
    weak: bool = False
    explanation: str | None = None
    task: str = ''
    split: str = ''
    source: str = ''
    episode: str = ''
    group: str = ''
    injected_mode: str = ''


@dataclass(frozen=True, slots=True)
class WrittenClips:
    """
    An episode's pictures on disk; paths are relative to the folder of the manifest.

    ``views`` maps cameras to mp4 files, all of ``frames`` frames; ``collage`` is a ready collage,
    which has one.
    """

    views: dict[str, str]
    frames: int
    collage: str | None = None


def write_sample(root: Path, episode: Episode, note: Annotation) -> Sample:
    """
    Write an episode's clips as mp4 files below ``root``; return the sample that names them.

    See ``write_clips``. Raises ArmorError for an episode without label or pictures, and when a
    file cannot be written.
    """
    if note.label is None:
        raise ArmorError(f'{note.id} has no label, which a sample of a manifest needs')
    folder = safe_file_name(note.id)
    clips = write_clips(root, f'clips/{folder}', episode)
    if clips is None:
        if episode.collage is None:
            raise ArmorError(f'{note.id} has no picture')
        clips = WrittenClips({}, 1, f'collages/{folder}.png')
        save_picture(root / f'collages/{folder}.png', episode.collage)
    status = episode.task.status
    return Sample(
        id=note.id,
        instruction=episode.task.instruction,
        views=clips.views,
        fps=episode.fps,
        frames=clips.frames,
        label=note.label,
        weak=note.weak,
        task=note.task,
        explanation=note.explanation,
        split=note.split,
        source=note.source,
        episode=note.episode,
        group=note.group,
        robot_status='' if status is TaskStatus.UNKNOWN else status.name,
        injected_mode=note.injected_mode,
        collage=clips.collage,
    )


def write_clips(root: Path, folder: str, episode: Episode) -> WrittenClips | None:
    """
    Write an episode's clips as mp4 files into ``folder`` below ``root``; None if it has no frame.

    All views get the same time steps, one every 1 / fps seconds of the clip: each shows the
    newest frame until then, the first one before it. A camera without frames is left out, and
    of odd sides one row or column. Raises ArmorError when a file cannot be written.
    """
    steps = _time_steps(episode)
    views = {}
    for clip in episode.clips:
        if len(clip.stamps_ns):
            name = clip.evidence.camera
            path = f'{folder}/{safe_file_name(name)}.mp4'
            _write_clip(root / path, _at_steps(clip, steps), episode.fps)
            views[name] = path
    return WrittenClips(views, len(steps)) if views else None


def write_recording(
    path: Path, episode: Episode, note: Annotation, *, storage: str = 'mcap'
) -> None:
    """
    Write an episode as a rosbag2 recording in the new folder ``path``, whole or not at all.

    It has a topic of JPEG pictures a camera, and a TaskEvent for the task's start and end, the
    latter with the robot's status; a label that is not the robot's own goes into labels.jsonl
    beside. Raises ArmorError for an episode without frames, and when it cannot be written.
    """
    if not episode.frame_count:
        what = 'only a ready collage' if episode.collage is not None else 'no picture'
        raise ArmorError(f'{note.id} has {what}: there is nothing that a camera would record')
    unfinished = path.with_name(f'.{path.name}.tmp')
    shutil.rmtree(unfinished, ignore_errors=True)
    messages = sorted(_messages(episode, note), key=lambda message: message.log_ns)
    write_bag(unfinished, messages, storage=storage)
    try:
        if note.label is not None and not note.weak:
            row = {
                'task_id': episode.task.task_id,
                'label': note.label,
                'explanation': note.explanation or '',
            }
            (unfinished / LABELS_FILE).write_text(json.dumps(row) + '\n', encoding='utf-8')
        shutil.rmtree(path, ignore_errors=True)
        unfinished.rename(path)
    except OSError as error:
        raise ArmorError(f'cannot write the recording {path}: {error}') from error


def _messages(episode: Episode, note: Annotation) -> Iterator[BagMessage]:
    offset = 0 if episode.clip_start_ns else EPOCH_NS
    task = episode.task
    status = task.status
    if status is TaskStatus.UNKNOWN and note.weak and note.label is not None:
        status = _STATUS[note.label]
    for clip in episode.clips:
        topic = f'/{_topic_name(clip.evidence.camera)}/image_raw/compressed'
        for stamp, frame in zip(clip.stamps_ns, clip.frames, strict=True):
            stamp_ns = int(stamp) + offset
            picture = CompressedImage('jpeg', encode_jpeg(frame))
            yield BagImage(topic, stamp_ns, stamp_ns, picture)
    for phase, stamp_ns in (
        (TaskPhase.START, episode.start_ns + offset),
        (TaskPhase.END, episode.end_ns + offset),
    ):
        event = TaskEvent(
            phase=phase,
            task_id=task.task_id,
            stamp_ns=stamp_ns,
            name=task.name,
            instruction=task.instruction,
            status=status if phase is TaskPhase.END else TaskStatus.UNKNOWN,
            message=task.message if phase is TaskPhase.END else '',
            context=task.context,
        )
        # the last picture is the task's: its end is told after it
        yield BagTaskEvent(TASK_EVENT_TOPIC, stamp_ns + _MS * (phase is TaskPhase.END), event)


def _topic_name(camera: str) -> str:
    """Return a camera's name as a part of a topic's: letters, digits, '_', no digit in front."""
    name = ''.join(char if char.isascii() and char.isalnum() else '_' for char in camera)
    return name if name[:1].isalpha() else f'camera_{name}'


def _time_steps(episode: Episode) -> npt.NDArray[np.int64]:
    """Return the instants of a clip's frames, from its beginning to its end."""
    period = period_ns(episode.fps)
    count = (episode.clip_end_ns - episode.clip_start_ns) // period + 1
    return episode.clip_start_ns + period * np.arange(count, dtype=np.int64)


def _at_steps(clip: CameraClip, steps: npt.NDArray[np.int64]) -> Frames:
    newest = np.searchsorted(clip.stamps_ns, steps, 'right') - 1
    return np.asarray(clip.frames[np.maximum(newest, 0)], np.uint8)


def _write_clip(path: Path, frames: Frames, fps: float) -> None:
    """Write an mp4 file whole or not at all."""
    height, width = (side - side % 2 for side in frames.shape[1:3])
    if not height or not width:
        raise ArmorError(f'pictures of {frames.shape[2]} x {frames.shape[1]} pixels are too small')
    unfinished = path.with_name(f'.{path.name}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(unfinished, frames[:, :height, :width], fps)
        unfinished.replace(path)
    except OSError as error:
        raise ArmorError(f'cannot write {path}: {error}') from error
