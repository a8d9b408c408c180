# SPDX-License-Identifier: Apache-2.0
"""LeRobot data sets of the versions 2.0, 2.1 and 3.x as records, one an episode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armor_ros.datasets.files import find_file
from armor_ros.datasets.importer import Importer, SkippedRecord
from armor_ros.datasets.lerobot_layout import (
    LerobotInfo,
    episode_columns,
    expand,
    number_of,
    read_episodes,
    read_info,
    whole_of,
)
from armor_ros.datasets.lerobot_pictures import ParquetPicturesView
from armor_ros.datasets.manifest import Label
from armor_ros.datasets.parquet import read_rows
from armor_ros.datasets.record import Record, View
from armor_ros.datasets.views import VideoView
from armor_ros.errors import ArmorError

# Names under which success is recorded; the format has no standard one.
SUCCESS_FIELDS = (
    'next.success',
    'is_episode_successful',
    'is_success',
    'episode_success',
    'success',
)


@dataclass(frozen=True, slots=True)
class LerobotOptions:
    """
    Where the label is.

    ``success_field`` is a column of the frames or of the list of episodes, '' for the first of
    ``SUCCESS_FIELDS`` that is there. With ``reward_threshold`` an episode is a success when its
    last ``reward_field`` is at least that.
    """

    success_field: str = ''
    reward_threshold: float | None = None
    reward_field: str = 'next.reward'


class LerobotData(Importer):
    """
    One record an episode, with a view for each camera.

    An episode is a success when its success field is true in any frame, as LeRobot's own
    evaluation counts. Without such a field the records have no label.
    """

    format = 'lerobot'

    def __init__(self, path: Path, options: LerobotOptions) -> None:
        super().__init__(path)
        self._options = options
        self._info = read_info(path)
        self._field = self._find_field()
        # the labels of the file that was read last: episodes of one file follow each other
        self._labels: tuple[Path | None, dict[int, Label]] = (None, {})

    def _items(self) -> Iterator[tuple[str, dict[str, Any] | None]]:
        self._labels = (None, {})
        if not self._field:
            self.note(
                'data set without labels: it has no success field; name one with success_field, '
                'or give reward_threshold',
                str(self.root),
            )
        yield from read_episodes(self.root, self._info)

    def _record(self, name: str, item: dict[str, Any] | None) -> Record:
        if item is None:
            raise SkippedRecord('episode skipped: its line is not a JSON object')
        number = whole_of(item.get('episode_index'))
        length = whole_of(item.get('length'))
        if number is None or not length:
            raise SkippedRecord('episode skipped: its number or its length is not told')
        identity = f'episode_{number:06d}'
        views = self._views(identity, number, length, item)
        if not views:
            raise SkippedRecord('episode skipped: it has no camera that can be read')
        tasks = _tasks(item)
        if not tasks:
            self.note('episode kept: it names no task, so it has no instruction', identity)
        return Record(
            id=identity,
            instruction='; '.join(tasks),
            views=views,
            fps=self._info.fps,
            label=self._label(identity, number, item),
            split=next(
                (name for name, (low, high) in self._info.splits.items() if low <= number < high),
                '',
            ),
            source=self.root.resolve().name,
            episode=identity,
        )

    def _views(
        self, identity: str, number: int, length: int, item: dict[str, Any]
    ) -> dict[str, View]:
        views: dict[str, View] = {}
        for camera, column in self._info.cameras('video').items():
            view = self._video(number, length, column, item)
            if view is None:
                self.note(f'view {camera} skipped: its video is missing', identity)
            else:
                views[camera] = view
        pictures = self._info.cameras('image')
        data = self._data_file(number, item) if pictures else None
        for camera, column in pictures.items():
            if data is None:
                self.note(
                    f'view {camera} skipped: the file with its pictures is missing', identity
                )
            else:
                views[camera] = ParquetPicturesView(data, column, number, self._info.fps)
        return views

    def _video(
        self, number: int, length: int, column: str, item: dict[str, Any]
    ) -> VideoView | None:
        info = self._info
        if info.major == 2:
            path = find_file(self.root, expand(info.video_path, _places(info, number, column)))
            return VideoView(path, 0.0, length / info.fps) if path else None
        chunk, file = (whole_of(item.get(f'videos/{column}/{key}_index')) for key in _SHARED)
        start = number_of(item.get(f'videos/{column}/from_timestamp'))
        end = number_of(item.get(f'videos/{column}/to_timestamp'))
        if None in (chunk, file) or start is None or end is None or not 0 <= start < end:
            return None
        places = _shared_places(chunk, file, column)
        path = find_file(self.root, expand(info.video_path, places))
        return VideoView(path, start, end) if path else None

    def _data_file(self, number: int, item: dict[str, Any]) -> Path | None:
        info = self._info
        if info.major == 2:
            return find_file(self.root, expand(info.data_path, _places(info, number, '')))
        chunk, file = (whole_of(item.get(f'data/{key}_index')) for key in _SHARED)
        return find_file(self.root, expand(info.data_path, _shared_places(chunk, file, '')))

    def _find_field(self) -> str:
        """Return the column that tells success, '' when there is none."""
        known = {*self._info.features, *episode_columns(self.root, self._info)}
        if self._options.reward_threshold is not None:
            if self._options.reward_field not in known:
                raise ArmorError(_unknown('reward_field', self._options.reward_field, known))
            return self._options.reward_field
        if self._options.success_field:
            if self._options.success_field not in known:
                raise ArmorError(_unknown('success_field', self._options.success_field, known))
            return self._options.success_field
        return next((name for name in SUCCESS_FIELDS if name in known), '')

    def _label(self, identity: str, number: int, item: dict[str, Any]) -> Label | None:
        if not self._field:
            return None
        told = number_of(item.get(self._field))
        if told is not None:
            return self._judge([told])
        path = self._data_file(number, item)
        if path is None:
            self.note('episode kept without label: the file with its frames is missing', identity)
            return None
        if self._labels[0] != path:
            try:
                self._labels = (path, self._read_labels(path))
            except ArmorError as error:
                self._labels = (path, {})
                self.note('file without labels: it cannot be read', str(error))
        label = self._labels[1].get(number)
        if label is None:
            self.note('episode kept without label: its success is not told', identity)
        return label

    def _read_labels(self, path: Path) -> dict[int, Label]:
        values: dict[int, list[float]] = {}
        for row in read_rows(path, ('episode_index', self._field)):
            number, value = whole_of(row.get('episode_index')), number_of(row.get(self._field))
            if number is None or value is None:
                continue
            # of the values before only the largest matters
            largest = max([*values.get(number, [value])[:1], value])
            values[number] = [largest, value]
        return {number: self._judge(both) for number, both in values.items()}

    def _judge(self, values: list[float]) -> Label:
        """Judge by the largest value and the last, in this order; one may stand for both."""
        if self._options.reward_threshold is not None:
            return 'success' if values[-1] >= self._options.reward_threshold else 'failure'
        return 'success' if values[0] > 0.5 else 'failure'


_SHARED = ('chunk', 'file')


def _places(info: LerobotInfo, number: int, column: str) -> dict[str, str | int]:
    return {
        'episode_chunk': number // info.chunks_size,
        'episode_index': number,
        'video_key': column,
    }


def _shared_places(chunk: int | None, file: int | None, column: str) -> dict[str, str | int]:
    return {'chunk_index': chunk or 0, 'file_index': file or 0, 'video_key': column}


def _tasks(item: dict[str, Any]) -> list[str]:
    tasks = item.get('tasks')
    found = tasks if isinstance(tasks, list) else [tasks]
    return [task for task in found if isinstance(task, str) and task]


def _unknown(option: str, value: str, known: set[str]) -> str:
    return f'{option} is {value!r}, which the data set does not have; it has: ' + ', '.join(
        sorted(name for name in known if not name.startswith('videos/'))
    )
