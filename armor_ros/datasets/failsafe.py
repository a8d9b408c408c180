# SPDX-License-Identifier: Apache-2.0
"""
The simulated attempts of FailSafe (Lin et al., 2025), as pictures of three cameras.

``<task>/<seed>/Ground_Truth`` and ``<task>/<seed>/<n>_<type>_<stage>`` hold ``front``, ``side``
and ``wrist`` with ``<i>.png``; ``vla_data_*.json``, beside them or in ``json_files``, has a row a
sub-task: task, instruction, sub_task, failure_type ("None" for a success) and its pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from armor_ros.datasets.files import (
    children,
    find_file,
    read_head,
    read_json,
    spelled_out,
    subfolders,
    text_of,
)
from armor_ros.datasets.importer import Importer, SkippedRecord, picture_folder
from armor_ros.datasets.record import Record, View
from armor_ros.datasets.views import PICTURE_ENDINGS, PicturesView
from armor_ros.errors import ArmorError

CAMERAS = ('front', 'side', 'wrist')
GROUND_TRUTH = 'Ground_Truth'
_ATTEMPT = re.compile(r'\d+_(?P<type>.+)_(?P<stage>\d+)')
_INSTRUCTIONS = {
    'PickCube': 'pick up the red cube',
    'PushCube': 'push the cube to the goal region in front of it',
    'StackCube': 'stack the red cube on the green cube',
}


@dataclass(frozen=True, slots=True)
class FailsafeOptions:
    """
    What makes a record, and the rate of the pictures.

    ``records``: 'rows' of the JSON files, whole 'attempts' from the folders, 'auto' for rows
    where there are any. ``fps`` is the rate of an attempt's pictures, by default the simulator's
    control rate; 0 takes every picture. A row's pictures are taken as they are listed.
    """

    records: Literal['auto', 'rows', 'attempts'] = 'auto'
    fps: float = 20.0


class FailsafeData(Importer):
    """One record a row or an attempt; ``injected_mode`` is the type of failure."""

    format = 'failsafe'

    def __init__(self, path: Path, options: FailsafeOptions) -> None:
        super().__init__(path)
        if not 0 <= options.fps <= 1000:
            raise ArmorError(f'fps is {options.fps}; give a number from 0 to 1000')
        self._options = options
        self._files = row_files(path)
        if options.records == 'rows' and not self._files:
            raise ArmorError(f'{path} has no vla_data_*.json; use records: attempts')

    def _items(self) -> Iterator[tuple[str, Any]]:
        if self._files and self._options.records != 'attempts':
            yield from self._rows()
        else:
            for folder in attempt_folders(self.root, self.note_link):
                yield folder.relative_to(self.root).as_posix(), folder

    def _rows(self) -> Iterator[tuple[str, Any]]:
        for file in self._files:
            rows = read_json(file)
            if not isinstance(rows, list):
                raise ArmorError(f'{file} is no list of rows, as FailSafe writes it')
            for number, row in enumerate(rows):
                yield f'{file.stem}_{number}', row

    def _record(self, name: str, item: Any) -> Record:
        return self._attempt(name, item) if isinstance(item, Path) else self._row(name, item)

    def _attempt(self, name: str, folder: Path) -> Record:
        views: dict[str, View] = {}
        for camera in subfolders(folder, self.note_link):
            view = picture_folder(self.root, camera, self._options.fps)
            if view is not None:
                views[camera.name] = view
        if not views:
            raise SkippedRecord('attempt skipped: it has no pictures')
        kind = _ATTEMPT.fullmatch(folder.name)
        success = folder.name == GROUND_TRUTH
        task = folder.parent.parent.name
        return Record(
            id=name,
            instruction=_instruction(task),
            views=views,
            fps=self._options.fps,
            label='success' if success else 'failure',
            task=task,
            source='failsafe',
            episode=name,
            group=f'{task}/{folder.parent.name}',
            injected_mode=kind.group('type') if kind else ('' if success else folder.name),
        )

    def _row(self, name: str, row: Any) -> Record:
        if not isinstance(row, dict) or 'failure_type' not in row:
            raise SkippedRecord('row skipped: it has no failure_type')
        pictures = self._pictures(row.get('image'))
        task = text_of(row.get('task'))
        kind = text_of(row['failure_type'])
        success = kind.lower() in ('', 'none')
        folders = next(iter(pictures.values()))[0].relative_to(self.root).parts[:-2]
        sub_task = row.get('sub_task')
        whole = text_of(row.get('instruction')) or _instruction(task)
        return Record(
            id=name,
            instruction=sub_task if isinstance(sub_task, str) and text_of(sub_task) else whole,
            views={camera: PicturesView(tuple(files), 0.0) for camera, files in pictures.items()},
            fps=0.0,
            label='success' if success else 'failure',
            task=task,
            source='failsafe',
            episode='/'.join(folders),
            group='/'.join(folders[:-1]),
            injected_mode='' if success else kind,
            extra={'instruction': whole},
        )

    def _pictures(self, paths: object) -> dict[str, list[Path]]:
        """Return a row's pictures by camera, each camera's in the order of the row."""
        if isinstance(paths, str):
            paths = [paths]
        if not isinstance(paths, list) or not paths:
            raise SkippedRecord('row skipped: it lists no pictures')
        pictures: dict[str, list[Path]] = {}
        for path in paths:
            if not isinstance(path, str):
                raise SkippedRecord('row skipped: it lists no pictures')
            plain = PurePosixPath(path.replace('\\', '/'))
            found = find_file(self.root, str(plain))
            if found is None or plain.suffix.lower() not in PICTURE_ENDINGS:
                raise SkippedRecord('row skipped: one of its pictures is missing')
            pictures.setdefault(plain.parent.name or 'camera', []).append(found)
        return pictures


def row_files(path: Path) -> list[Path]:
    """Return the JSON files with rows, in order."""
    return [
        file
        for folder in (path, path / 'json_files')
        for file in children(folder)
        if file.suffix.lower() == '.json' and _has_rows(file)
    ]


def attempt_folders(root: Path, on_link: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield the folders of attempts in natural order, a seed's success before its failures."""
    for task in subfolders(root, on_link):
        for seed in subfolders(task, on_link):
            attempts = subfolders(seed, on_link)
            if any(attempt.name == GROUND_TRUTH for attempt in attempts):
                yield from sorted(attempts, key=lambda attempt: attempt.name != GROUND_TRUTH)
            else:
                yield from (one for one in attempts if _ATTEMPT.fullmatch(one.name))


def is_failsafe(path: Path) -> bool:
    """Tell whether a folder has rows or attempts of this layout."""
    if not path.is_dir():
        return False
    return bool(row_files(path)) or any(
        (attempt / camera).is_dir() for attempt in attempt_folders(path) for camera in CAMERAS
    )


def _has_rows(file: Path) -> bool:
    head = read_head(file)
    return head.startswith('[') and '"failure_type"' in head and '"image"' in head


def _instruction(task: str) -> str:
    for name, instruction in _INSTRUCTIONS.items():
        if name in task:
            return instruction
    return spelled_out(task)
