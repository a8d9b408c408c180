# SPDX-License-Identifier: Apache-2.0
"""
The raw recordings of DROID (Khazatsky et al., 2024).

``<lab>/{success,failure}/<date>/<time>/`` with ``metadata_<uuid>.json`` and
``recordings/MP4/<serial>.mp4`` for each camera. Attempts without metadata are incomplete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from armor_ros.datasets.files import (
    check_inside,
    children,
    find_file,
    read_json,
    subfolders,
    text_of,
)
from armor_ros.datasets.importer import Importer, SkippedRecord
from armor_ros.datasets.manifest import Label
from armor_ros.datasets.record import Record
from armor_ros.datasets.video import probe_video
from armor_ros.datasets.views import VideoView
from armor_ros.errors import ArmorError

CAMERAS = ('wrist', 'ext1', 'ext2')
_OUTCOMES: dict[str, Label] = {'success': 'success', 'failure': 'failure'}
_MOST_DEPTH = 6
_INSTRUCTIONS = tuple(f'language_instruction{number}' for number in (1, 2, 3))


@dataclass(frozen=True, slots=True)
class DroidOptions:
    """
    ``annotations`` is the data set's file of instructions by uuid.

    '' takes ``aggregated-annotations*.json`` from the folder if it is there; without it, or for
    attempts that it does not have, the instruction is the metadata's ``current_task``.
    """

    annotations: str = ''


class DroidData(Importer):
    """
    One record an attempt, with the left pictures of the wrist's and the two external cameras.

    The label is the metadata's ``success``, what the collector said, else the folder's name.
    The folder may be the whole data set, a lab's, or any below it.
    """

    format = 'droid'

    def __init__(self, path: Path, options: DroidOptions) -> None:
        super().__init__(path)
        self._options = options
        self._instructions: dict[str, Any] = {}

    def _items(self) -> Iterator[tuple[str, Path]]:
        self._instructions = self._read_instructions()
        for folder in attempt_folders(self.root, self.note_link):
            yield str(folder.relative_to(self.root)), folder

    def _record(self, name: str, item: Path) -> Record:
        metadata = self._metadata(item)
        uuid = text_of(metadata.get('uuid'))
        outcome = _outcome(item)
        label = _OUTCOMES.get(outcome)
        success = metadata.get('success')
        if isinstance(success, bool):
            if label is not None and (label == 'success') != success:
                self.note('attempt kept: its metadata and its folder disagree on success', name)
            label = 'success' if success else 'failure'
        if label is None:
            raise SkippedRecord('attempt skipped: neither metadata nor folder tell its outcome')
        views = self._views(name, item, metadata)
        if not views:
            raise SkippedRecord('attempt skipped: it has no video in recordings/MP4')
        first = next(iter(views.values()))
        return Record(
            id=uuid or name,
            instruction=self._instruction(name, uuid, metadata),
            views=dict(views),
            fps=probe_video(first.path).fps,
            label=label,
            task=text_of(metadata.get('current_task')),
            source='droid',
            episode=uuid or name,
            group=text_of(metadata.get('lab')),
        )

    def _metadata(self, folder: Path) -> dict[str, Any]:
        file = _metadata_file(folder)
        if file is None:
            raise SkippedRecord('attempt skipped: it has no metadata, so it is incomplete')
        check_inside(self.root, file)
        metadata = read_json(file, nan=True)
        if not isinstance(metadata, dict):
            raise SkippedRecord('attempt skipped: its metadata is not an object')
        return metadata

    def _views(self, name: str, folder: Path, metadata: dict[str, Any]) -> dict[str, VideoView]:
        views: dict[str, VideoView] = {}
        for camera in CAMERAS:
            file = self._video(folder, _file_name(metadata, camera))
            if file is not None:
                views[camera] = VideoView(file)
            else:
                self.note(f'view {camera} skipped: its video is missing', name)
        return views

    def _video(self, folder: Path, file_name: str) -> Path | None:
        if not file_name:
            return None
        inside = folder.relative_to(self.root) / 'recordings' / 'MP4' / file_name
        return find_file(self.root, inside.as_posix())

    def _instruction(self, name: str, uuid: str, metadata: dict[str, Any]) -> str:
        annotated = self._instructions.get(uuid)
        candidates = [metadata.get('current_task')]
        if isinstance(annotated, dict):
            candidates = [annotated.get(key) for key in _INSTRUCTIONS] + candidates
        for candidate in candidates:
            if isinstance(candidate, str) and text_of(candidate):
                return text_of(candidate)
        self.note('attempt kept: it names no task, so it has no instruction', name)
        return ''

    def _read_instructions(self) -> dict[str, Any]:
        if self._options.annotations:
            files = [Path(self._options.annotations)]
        else:
            files = [
                file
                for file in children(self.root)
                if file.name.startswith('aggregated-annotations') and file.suffix == '.json'
            ]
            for file in files:
                check_inside(self.root, file)
        instructions: dict[str, Any] = {}
        for file in files:
            content = read_json(file)
            if not isinstance(content, dict):
                raise ArmorError(f'{file} is not an object of instructions by uuid')
            instructions.update(content)
        return instructions


def attempt_folders(root: Path, on_link: Callable[[Path], None], depth: int = 0) -> Iterator[Path]:
    """Yield the folders of attempts at or below a folder, in natural order."""
    if _is_attempt(root):
        yield root
    elif depth < _MOST_DEPTH:
        for folder in subfolders(root, on_link):
            yield from attempt_folders(folder, on_link, depth + 1)


def is_droid(path: Path) -> bool:
    """Tell whether an attempt lies at or below the folder, within the first that are looked at."""
    looked_at = 0
    folders = [path]
    while folders and looked_at < 200:
        folder = folders.pop()
        looked_at += 1
        if _is_attempt(folder):
            return bool(_outcome(folder)) and _metadata_file(folder) is not None
        depth = len(folder.parts) - len(path.parts)
        if depth < _MOST_DEPTH:
            folders += reversed(subfolders(folder)[:20])
    return False


def _is_attempt(folder: Path) -> bool:
    return (folder / 'recordings').is_dir() or _metadata_file(folder) is not None


def _metadata_file(folder: Path) -> Path | None:
    found = (
        entry
        for entry in children(folder)
        if entry.name.startswith('metadata_') and entry.suffix == '.json'
    )
    return next(found, None)


def _outcome(folder: Path) -> str:
    """Return the nearest folder's name that is an outcome, '' when none above is."""
    return next((part for part in reversed(folder.resolve().parts) if part in _OUTCOMES), '')


def _file_name(metadata: dict[str, Any], camera: str) -> str:
    """Return the name of a camera's video: by its path, which is the collector's, or serial."""
    path = metadata.get(f'{camera}_mp4_path')
    if isinstance(path, str) and path:
        return PurePosixPath(path).name
    serial = text_of(metadata.get(f'{camera}_cam_serial'))
    return f'{serial}.mp4' if serial else ''
