# SPDX-License-Identifier: Apache-2.0
"""
Questions and answers of RoboFAC (Lu et al., 2025) about videos of failed and successful tasks.

``{video_id: {"video", "task", "annos": {question_type: [{"value": question}, {"value":
answer}]}}}`` in ``test_qa_sim/``, ``test_qa_realworld/`` and beside them; the videos lie in
``simulation_data/`` and ``realworld_data/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from armor_ros.datasets.files import (
    children,
    find_file,
    read_head,
    read_json,
    spelled_out,
    split_of,
    subfolders,
    text_of,
)
from armor_ros.datasets.importer import Importer, SkippedRecord
from armor_ros.datasets.manifest import Label
from armor_ros.datasets.record import Record
from armor_ros.datasets.video import probe_video
from armor_ros.datasets.views import VideoView
from armor_ros.errors import ArmorError

_VIDEO_FOLDERS = ('simulation_data', 'realworld_data', '')
_LABELS: dict[str, Label] = {'yes': 'success', 'no': 'failure'}
# Folders that were renamed after the annotations had been written; the longer names first.
_RENAMED = (
    ('dataset_success_cleaned', 'success_data'),
    ('Rotation2-', 'SpinPullStack-'),
    ('Rotation-', 'SpinStack-'),
)


@dataclass(frozen=True, slots=True)
class RobofacOptions:
    """``videos`` is the folder that holds simulation_data and realworld_data, '' for the same."""

    videos: str = ''


class RobofacData(Importer):
    """
    One record a video.

    "Failure detection" asks whether the task was done: yes is a success. The instruction is the
    answer to "Task identification", the explanation that to "Failure explanation",
    ``injected_mode`` that to "Failure identification".
    """

    format = 'robofac'

    def __init__(self, path: Path, options: RobofacOptions) -> None:
        folder = path if path.is_dir() else path.parent
        # a file lies in a folder of its own beside those of the videos
        if not path.is_dir() and not (folder / 'simulation_data').is_dir():
            folder = folder.parent if (folder.parent / 'simulation_data').is_dir() else folder
        super().__init__(Path(options.videos) if options.videos else folder)
        self._files = robofac_files(path)

    def _items(self) -> Iterator[tuple[str, Any]]:
        for path in self._files:
            content = read_json(path)
            if not isinstance(content, dict):
                raise ArmorError(f'{path} is no object of videos, as RoboFAC writes it')
            for name, entry in content.items():
                yield name, (path, entry)

    def _record(self, name: str, item: tuple[Path, Any]) -> Record:
        path, entry = item
        if not isinstance(entry, dict) or not isinstance(entry.get('annos'), dict):
            raise SkippedRecord('entry skipped: it has no questions and answers')
        answers = {
            kind: answer for kind, turns in entry['annos'].items() if (answer := _answer(turns))
        }
        video = self._video(entry.get('video'))
        if video is None:
            raise SkippedRecord('entry skipped: its video is not below the folder')
        return Record(
            id=name,
            instruction=answers.get('Task identification') or spelled_out(_renamed(entry)),
            views={_camera(video): VideoView(video)},
            fps=probe_video(video).fps,
            label=self._label(name, answers, video),
            explanation=answers.get('Failure explanation'),
            task=text_of(_renamed(entry)),
            split=split_of(path.stem) or split_of(path.parent.name),
            source='robofac',
            episode=_episode(video.relative_to(self.root)),
            injected_mode=answers.get('Failure identification', ''),
        )

    def _label(self, name: str, answers: dict[str, str], video: Path) -> Label | None:
        word = re.match(r'\W*([a-z]+)', answers.get('Failure detection', '').lower())
        label = _LABELS.get(word.group(1)) if word else None
        if label is None and 'Failure explanation' in answers:
            return 'failure'
        if label is None and 'success_data' in video.parts:
            return 'success'
        if label is None:
            self.note('entry kept without label: no answer tells whether the task was done', name)
        return label

    def _video(self, path: object) -> Path | None:
        if not isinstance(path, str):
            return None
        for name in dict.fromkeys((path, _rename(path))):
            for folder in _VIDEO_FOLDERS:
                found = find_file(self.root, f'{folder}/{name}' if folder else name)
                if found is not None:
                    return found
        return None


def robofac_files(path: Path) -> list[Path]:
    """Return the files of this layout: the file itself, or those in the folder or just below."""
    if path.is_file():
        files = [path]
    else:
        below = [entry for folder in subfolders(path) for entry in _annotations(folder)]
        files = [*children(path), *below]
    return [file for file in files if file.suffix.lower() == '.json' and _is_robofac(file)]


def _annotations(folder: Path) -> list[Path]:
    return [] if folder.name in _VIDEO_FOLDERS else children(folder)


def _is_robofac(file: Path) -> bool:
    head = read_head(file)
    return head.startswith('{') and '"annos"' in head and '"video"' in head


def _answer(turns: object) -> str:
    """Return the last turn's text."""
    if not isinstance(turns, list) or len(turns) < 2 or not isinstance(turns[-1], dict):
        return ''
    value = turns[-1].get('value')
    return text_of(value) if isinstance(value, str) else ''


def _rename(path: str) -> str:
    for old, new in _RENAMED:
        path = path.replace(old, new)
    return path


def _renamed(entry: dict[str, Any]) -> str:
    task = text_of(entry.get('task'))
    return task.replace('Rotation2', 'SpinPullStack').replace('Rotation', 'SpinStack')


def _camera(video: Path) -> str:
    """Return the camera that a folder of the path names, else 'camera'."""
    for part in video.parts:
        if part.startswith('observation.images.'):
            return part.removeprefix('observation.images.') or 'camera'
    return 'camera'


def _episode(path: Path) -> str:
    """Return the path without the camera: what two cameras saw is one episode."""
    parts = [part for part in path.parts if not part.startswith('observation.images.')]
    return PurePosixPath(*parts).with_suffix('').as_posix()
