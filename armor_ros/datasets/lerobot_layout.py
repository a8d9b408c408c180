# SPDX-License-Identifier: Apache-2.0
"""
Where LeRobot data sets keep their episodes: ``meta/info.json`` and the lists beside it.

Versions 2.0 and 2.1 have ``meta/episodes.jsonl`` and one file an episode; 3.x has
``meta/episodes/**.parquet`` and files that many episodes share.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armor_ros.datasets.files import (
    check_inside,
    children,
    find_file,
    parse_json,
    read_json,
    read_lines,
    subfolders,
)
from armor_ros.datasets.parquet import column_names, read_rows
from armor_ros.errors import ArmorError

INFO_FILE = 'meta/info.json'
_DATA_V2 = 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet'
_VIDEO_V2 = 'videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4'
_DATA_V3 = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
_VIDEO_V3 = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'
_PLACEHOLDER = re.compile(r'\{(\w+)(?::0?(\d{1,2})d)?\}')
_PREFIXES = ('observation.images.', 'observation.image.', 'observation.')


@dataclass(frozen=True, slots=True)
class LerobotInfo:
    """
    What ``meta/info.json`` says.

    ``major`` is 2 or 3; ``features`` maps each column to its description; ``splits`` maps a name
    to the first episode and the one after the last.
    """

    major: int
    fps: float
    chunks_size: int
    data_path: str
    video_path: str
    features: dict[str, dict[str, Any]]
    splits: dict[str, tuple[int, int]]

    def cameras(self, dtype: str) -> dict[str, str]:
        """
        Return the cameras of a kind, 'video' or 'image': the column of each by a short name.

        Pictures of depth are no camera's.
        """
        found: dict[str, str] = {}
        for column, feature in self.features.items():
            if feature.get('dtype') != dtype or _is_depth(feature):
                continue
            prefix = next((one for one in _PREFIXES if column.startswith(one)), '')
            short = column[len(prefix) :] or column
            found[column if short in found else short] = column
        return found


def read_info(root: Path) -> LerobotInfo:
    """Read ``meta/info.json``; raises ArmorError when it is missing, broken or of a version."""
    file = find_file(root, INFO_FILE)
    if file is None:
        raise ArmorError(f'{root} has no {INFO_FILE}, which every LeRobot data set has')
    info = read_json(file, nan=True)
    if not isinstance(info, dict):
        raise ArmorError(f'{file} is not an object')
    version = str(info.get('codebase_version'))
    if not re.match(r'v?[23]\.', version):
        raise ArmorError(
            f'{file}: codebase_version is {version[:20]!r}; versions 2.0, 2.1 and 3.x are read: '
            'convert the data set with the scripts of lerobot'
        )
    third = version.lstrip('v')[0] == '3'
    fps = number_of(info.get('fps'))
    if fps is None or not 0 < fps <= 1000:
        raise ArmorError(f'{file}: fps is {info.get("fps")!r}; it must be a number above 0')
    features = info.get('features')
    chunks = whole_of(info.get('chunks_size'))
    return LerobotInfo(
        major=3 if third else 2,
        fps=fps,
        chunks_size=chunks if chunks and chunks > 0 else 1000,
        data_path=_template(info, 'data_path', _DATA_V3 if third else _DATA_V2),
        video_path=_template(info, 'video_path', _VIDEO_V3 if third else _VIDEO_V2),
        features={
            name: feature
            for name, feature in (features if isinstance(features, dict) else {}).items()
            if isinstance(feature, dict)
        },
        splits=_splits(info.get('splits')),
    )


def episode_files(root: Path) -> list[Path]:
    """Return the parquet files that list a v3 data set's episodes, in order."""
    folder = root / 'meta' / 'episodes'
    files = [
        file
        for place in (folder, *subfolders(folder))
        for file in children(place)
        if file.suffix == '.parquet'
    ]
    for file in files:
        check_inside(root, file)
    return files


def episode_columns(root: Path, info: LerobotInfo) -> tuple[str, ...]:
    """Return the columns of the list of episodes without its statistics; in v2 its first keys."""
    if info.major == 2:
        first = next((row for _, row in read_episodes(root, info)), None)
        return tuple(first or ())
    files = episode_files(root)
    names = column_names(files[0]) if files else ()
    return tuple(name for name in names if not name.startswith('stats/'))


def read_episodes(root: Path, info: LerobotInfo) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """
    Yield where each episode is listed, and its row; None for a line that is no object.

    Raises ArmorError when the list is missing or cannot be read.
    """
    if info.major == 3:
        columns = episode_columns(root, info)
        files = episode_files(root)
        if not files:
            raise ArmorError(f'{root} has no meta/episodes/**.parquet, the list of its episodes')
        for file in files:
            for number, row in enumerate(read_rows(file, columns)):
                yield f'{file.name}, row {number}', row
        return
    file = root / 'meta' / 'episodes.jsonl'
    check_inside(root, file)
    for number, line in read_lines(file):
        yield f'{file.name}, line {number}', _object(line)


def expand(template: str, values: dict[str, str | int]) -> str:
    """
    Fill the placeholders of a path, ``{name}`` and ``{name:03d}``, and nothing else.

    Raises ArmorError for a placeholder without a value.
    """

    def fill(found: re.Match[str]) -> str:
        name, width = found.groups()
        if name not in values:
            raise ArmorError(f'the path {template!r} has the unknown placeholder {name!r}')
        value = values[name]
        return str(value).zfill(int(width)) if width else str(value)

    return _PLACEHOLDER.sub(fill, template)


def number_of(value: object) -> float | None:
    """Return a finite number, also from a list of one; None for anything else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, (bool, int, float)):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    return None


def whole_of(value: object) -> int | None:
    """Return a whole number from 0 to 10^9, None for anything else."""
    number = number_of(value)
    if number is None or number != int(number) or not 0 <= number <= 10**9:
        return None
    return int(number)


def _object(line: str) -> dict[str, Any] | None:
    """Return the object on a line of JSON, None when there is none."""
    try:
        value = parse_json(line, 'line', nan=True)
    except ArmorError:
        return None
    return value if isinstance(value, dict) else None


def _is_depth(feature: dict[str, Any]) -> bool:
    tags = [feature, feature.get('info'), feature.get('video_info')]
    return any(
        isinstance(tag, dict) and (tag.get('video.is_depth_map') or tag.get('is_depth_map'))
        for tag in tags
    )


def _template(info: dict[str, Any], key: str, default: str) -> str:
    value = info.get(key)
    return value if isinstance(value, str) and value else default


def _splits(value: object) -> dict[str, tuple[int, int]]:
    """Parse {"train": "0:80"}; what is written otherwise is left out."""
    splits: dict[str, tuple[int, int]] = {}
    for name, text in (value if isinstance(value, dict) else {}).items():
        found = re.fullmatch(r'(\d{1,9}):(\d{1,9})', str(text))
        if found:
            splits[str(name)] = (int(found.group(1)), int(found.group(2)))
    return splits
