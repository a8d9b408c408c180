# SPDX-License-Identifier: Apache-2.0
"""
Recordings taken into a data set once: clips of every task on disk, and what was recorded of it.

A recording is known by its content, so that it may be renamed, and lie elsewhere. What is said of
its tasks later changes nothing here: clips are there for all tasks, those without label too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from armor_ros.configuration import config_from_dict
from armor_ros.datasets.bag_reader import recording_files
from armor_ros.datasets.bags import Bag
from armor_ros.datasets.convert import WrittenClips, write_clips
from armor_ros.datasets.manifest import write_whole
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.task import TaskStatus, clean_task_id
from armor_ros.episodes.text import safe_file_name
from armor_ros.errors import ArmorError
from armor_ros.evaluation.bag_episodes import BagEpisodes
from armor_ros.evaluation.label_files import FileLabel
from armor_ros.evaluation.labels import anything_moves
from armor_ros.evaluation.opinions import Opinion
from armor_ros.evaluation.sources import SourceSettings, in_size_of

RECORDINGS = 'recordings'
CLIPS = 'clips'
_EDGE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class RecordedTask:
    """
    One task as it was recorded.

    ``status`` is the name of a TaskStatus, ``by_event`` says that a TaskEvent told it, not an
    action. ``moved`` is False where the cameras show that nothing moved. Of ``views`` (camera ->
    mp4 file, relative to the data set) there are none where no camera had a picture.
    """

    task_id: str
    name: str
    instruction: str
    status: str
    by_event: bool
    start_ns: int
    end_ns: int
    fps: float
    moved: bool = True
    truncated: bool = False
    views: dict[str, str] = field(default_factory=dict)
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Recording:
    """
    One recording: its tasks, and what operators and monitors said of them while it was made.

    ``settings`` is a digest of the settings it was read with. ``problems`` are sentences on what
    was wrong with it, each with how often; ``empty`` says why it has no task, '' where it has.
    """

    key: str
    settings: str
    tasks: tuple[RecordedTask, ...] = ()
    labels: tuple[FileLabel, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    problems: dict[str, int] = field(default_factory=dict)
    empty: str = ''


def content_key(path: Path) -> str:
    """
    Return a digest of a recording's content: lengths, beginnings and ends of its files.

    Names, places and what lies beside do not matter. Raises ArmorError when it is none.
    """
    parts = []
    for file in recording_files(path):
        try:
            length = file.stat().st_size
            with file.open('rb') as stream:
                edges = stream.read(_EDGE_BYTES)
                stream.seek(max(0, length - _EDGE_BYTES))
                edges += stream.read(_EDGE_BYTES)
        except OSError as error:
            raise ArmorError(f'cannot read {file}: {error.strerror or error}') from error
        parts.append(f'{length} {hashlib.sha256(edges).hexdigest()}')
    return hashlib.sha256('\n'.join(sorted(parts)).encode()).hexdigest()[:16]


def load_recording(root: Path, key: str, settings: str) -> Recording | None:
    """
    Return a recording that was taken in before, None where it was not, or clips of it are gone.

    Raises ArmorError when that was done with other settings.
    """
    path = _file_of(root, key)
    try:
        recording = config_from_dict(Recording, json.loads(path.read_text(encoding='utf-8')))
    except (OSError, ValueError, RecursionError, ArmorError):
        # whatever it is, it is written again
        return None
    if recording.settings != settings:
        raise ArmorError(
            f'{root} was made with other settings (cameras, instructions, rate, size, or another '
            'parameters file); repeat those, or choose another output folder'
        )
    views = [root / view for task in recording.tasks for view in task.views.values()]
    return recording if all(view.is_file() for view in views) else None


def take_in(
    path: Path,
    root: Path,
    key: str,
    options: SourceSettings,
    settings: str,
    tell: Callable[[float], None],
) -> Recording:
    """
    Read a recording, write the clips of its tasks below ``root``, then what is known of them.

    ``tell`` is told how far it is, from 0 to 1. Raises ArmorError when it cannot be read, or a
    file cannot be written.
    """
    names: Counter[str] = Counter()
    tasks = []
    with Bag(path) as bag:
        labels = tuple(
            FileLabel(clean_task_id(told.task_id), told.label, told.explanation or None, '', True)
            for told in bag.labels()
        )
        opinions = tuple(Opinion.of_report(report) for report in bag.reports())
        episodes_settings = options.episodes
        if options.as_recorded:
            episodes_settings = in_size_of(bag, episodes_settings)
        episodes = BagEpisodes(bag, episodes_settings, options.cameras, tell)
        for episode in episodes:
            name = safe_file_name(episode.task.task_id)
            names[name] += 1
            folder = name if names[name] == 1 else f'{name}.{names[name]}'
            clips = write_clips(root, f'{CLIPS}/{key}/{folder}', episode)
            source = episodes.status_source(episode.task.task_id)
            tasks.append(_recorded(episode, clips, by_event=source == 'event'))
        empty = '' if tasks else episodes.why_no_task()
        problems = dict(sorted(bag.problems.items()))
    recording = Recording(key, settings, tuple(tasks), labels, opinions, problems, empty)
    text = json.dumps(dataclasses.asdict(recording), indent=1, allow_nan=False)
    write_whole(_file_of(root, key), text + '\n')
    return recording


def _file_of(root: Path, key: str) -> Path:
    return root / RECORDINGS / f'{key}.json'


def _recorded(episode: Episode, clips: WrittenClips | None, *, by_event: bool) -> RecordedTask:
    task = episode.task
    return RecordedTask(
        task_id=task.task_id,
        name=task.name,
        instruction=task.instruction,
        status=task.status.name,
        by_event=by_event,
        start_ns=episode.start_ns,
        end_ns=episode.end_ns,
        fps=episode.fps,
        # of other tasks it does not matter, and it takes a while
        moved=task.status is not TaskStatus.ABORTED or anything_moves(episode),
        truncated=episode.truncated,
        views={} if clips is None else clips.views,
        frames=0 if clips is None else clips.frames,
    )
