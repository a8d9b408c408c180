# SPDX-License-Identifier: Apache-2.0
"""From what a user names to sources: recordings, folders of them, and data sets of any format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from armor_ros.datasets.bag_reader import is_recording
from armor_ros.datasets.manifest import MANIFEST_FILE
from armor_ros.datasets.record import DataSet
from armor_ros.errors import ArmorError
from armor_ros.evaluation.sources import BagSource, RecordSource, Source, SourceSettings


def data_set_opener(
    data_format: str = 'auto', options: Sequence[str] = ()
) -> Callable[[Path], DataSet]:
    """
    Return a function that opens data sets of a format, or of whichever they are ('auto').

    ``options`` are "name=value", the value as YAML has it. Raises ArmorError for one that is not.
    """
    values: dict[str, object] = {}
    for option in options:
        name, separator, value = option.partition('=')
        if not separator or not name.strip():
            raise ArmorError(f'option {option!r} is not "name=value"')
        try:
            values[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ArmorError(f'option {option!r}: the value is no YAML: {error}') from error

    def open_one(path: Path) -> DataSet:
        # pyarrow and PyAV are imported only where there is a data set
        from armor_ros.datasets.detect import open_data_set

        return open_data_set(path, data_format, **values)

    return open_one


def open_sources(
    paths: Sequence[Path],
    settings: SourceSettings,
    open_data_set: Callable[[Path], DataSet],
) -> tuple[list[Source], list[str]]:
    """
    Open everything that was named, in order; return the sources, and sentences on what failed.

    A folder of recordings stands for all of them. Two sources of one name are told apart by the
    folders they lie in. Raises ArmorError when one is named twice.
    """
    expanded = [each for path in paths for each in _expand(path)]
    for path, count in Counter(path.resolve() for path in expanded).items():
        if count > 1:
            raise ArmorError(
                f'{path} is named {count} times; its tasks would count {count} times: name it once'
            )
    sources: list[Source] = []
    failures = []
    for path, name in zip(expanded, unique_names(expanded), strict=True):
        try:
            if not path.exists() or is_recording(path):
                sources.append(BagSource(path, name, settings))
            else:
                sources.append(RecordSource(path, name, open_data_set(path), settings))
        except ArmorError as error:
            failures.append(str(error))
    return sources, failures


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return each path's last part, with as many of the parts before as tell equal ones apart."""
    whole = [path.resolve().parts for path in paths]
    names = []
    for parts in whole:
        length = 1
        rivals = [other for other in whole if other != parts]
        while length < len(parts) and any(other[-length:] == parts[-length:] for other in rivals):
            length += 1
        names.append('/'.join(parts[-length:]))
    return names


def _expand(path: Path) -> list[Path]:
    """Return the recordings in a folder of recordings, else the path itself."""
    if path.name == 'metadata.yaml':
        path = path.parent
    if not path.is_dir() or is_recording(path) or (path / MANIFEST_FILE).exists():
        return [path]
    return sorted({file.parent for file in path.glob('*/metadata.yaml')}) or [path]
