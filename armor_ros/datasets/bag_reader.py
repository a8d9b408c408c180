# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 recording as one stream of serialized messages, whatever files it consists of."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any

import yaml

from armor_ros.datasets.compression import ZSTD_MAGIC, expand_file, unzstd
from armor_ros.datasets.mcap import McapFile
from armor_ros.datasets.sqlite import SqliteFile
from armor_ros.datasets.storage import (
    Problems,
    RawMessage,
    Storage,
    Topic,
    merge_by_time,
)
from armor_ros.errors import ArmorError

_METADATA = 'metadata.yaml'
_SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
_MAX_MESSAGE = 1 << 28
# Times of ROS messages fit into int32 seconds.
_MAX_LOG_NS = 2**31 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Layout:
    """The files of a bag, and those that its metadata names but are not there."""

    parts: tuple[Path, ...]
    missing: tuple[str, ...] = ()


class BagReader:
    """
    The messages of one recording in log order.

    ``path`` is a bag's directory, its metadata.yaml, or a single .mcap, .db3 or zstd-compressed
    file. Missing parts, a file cut off, damaged chunks and unreadable messages are counted in
    ``problems`` (sentence -> times); a bag that gives nothing at all raises ArmorError.
    ``start_ns``/``end_ns`` are the log times of the first and the last message, 0 without any.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.problems: Problems = Counter()
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._storages: list[Storage] = []
        layout = _find_parts(self.path)
        if layout.missing:
            self.problems[
                f'{len(layout.missing)} of {len(layout.missing) + len(layout.parts)} parts of the '
                f'bag are missing: {", ".join(layout.missing)}'
            ] += 1
        try:
            self._open(layout)
        except BaseException:
            self.close()
            raise
        self.topics = _combine(self._storages)
        filled = [storage for storage in self._storages if storage.end_ns or storage.start_ns]
        self.start_ns = min((storage.start_ns for storage in filled), default=0)
        self.end_ns = max((storage.end_ns for storage in filled), default=0)

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; the reader is of no use afterwards."""
        for storage in self._storages:
            storage.close()
        self._storages.clear()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of some topics (None: all) in log order, zstd already undone."""
        merged = merge_by_time(
            [(storage.start_ns, partial(storage.messages, topics)) for storage in self._storages]
        )
        for message in merged:
            if not 0 <= message.log_ns < _MAX_LOG_NS:
                self.problems[f'{message.topic}: a message has an impossible log time'] += 1
                continue
            if bytes(message.data[:4]) != ZSTD_MAGIC:
                yield message
                continue
            try:
                data, complete = unzstd(message.data, _MAX_MESSAGE)
            except ValueError as error:
                self.problems[f'{message.topic}: a zstd message is damaged: {error}'] += 1
                continue
            if complete:
                yield replace(message, data=memoryview(data))
            else:
                self.problems[f'{message.topic}: a zstd message is cut off'] += 1

    def _open(self, layout: _Layout) -> None:
        errors: list[ArmorError] = []
        for part in layout.parts:
            try:
                self._storages.append(self._open_part(part))
            except ArmorError as error:
                errors.append(error)
        if not self._storages:
            raise errors[0]
        for failure in errors:
            self.problems[str(failure)] += 1

    def _open_part(self, part: Path) -> Storage:
        plain = self._expand(part) if part.suffix == '.zstd' else part
        if plain.suffix == '.mcap':
            return McapFile(plain, self.problems, shown=part)
        return SqliteFile(plain, self.problems, shown=part)

    def _expand(self, part: Path) -> Path:
        """Undo the zstd compression of a whole file, into a scratch folder."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix='armor-bag-')
        target = Path(self._scratch.name) / part.stem
        try:
            if not expand_file(part, target):
                self.problems[f'{part.name}: the compressed file ends early'] += 1
        except ValueError as error:
            raise ArmorError(
                f'{part} cannot be decompressed: {error}; check that it was copied whole'
            ) from error
        except OSError as error:
            raise ArmorError(
                f'{part} cannot be decompressed into {target.parent}: {error.strerror}; '
                'set TMPDIR to a folder with room'
            ) from error
        return target


def is_recording(path: Path) -> bool:
    """Tell whether a path looks like a recording: a bag's folder, its metadata, or a file."""
    if path.name == _METADATA or path.name.endswith((*_SUFFIXES, '.bag')):
        return True
    if not path.is_dir():
        return False
    return any(
        entry.name == _METADATA or entry.name.endswith(_SUFFIXES) for entry in path.iterdir()
    )


def recording_files(path: Path) -> tuple[Path, ...]:
    """Return the files with a recording's messages; raises ArmorError when there is none."""
    return _find_parts(path).parts


def _find_parts(path: Path) -> _Layout:
    if path.name == _METADATA:
        path = path.parent
    if not path.exists():
        raise ArmorError(
            f'{path} does not exist; give a rosbag2 directory or a .mcap/.db3 file, or, '
            'where they are taken, a data set'
        )
    if path.is_dir():
        return _find_in_directory(path)
    if path.suffix == '.bag':
        raise ArmorError(
            f'{path} is a ROS 1 bag; convert it first: rosbags-convert --src {path.name} '
            f'--dst {path.stem}'
        )
    if not path.name.endswith(_SUFFIXES):
        raise ArmorError(
            f'{path} is no rosbag2 file; give a bag directory or a file that ends in '
            + ', '.join(_SUFFIXES)
        )
    return _Layout((path,))


def _find_in_directory(folder: Path) -> _Layout:
    # In any order: parts are merged by the times of their messages.
    present = sorted(entry for entry in folder.iterdir() if entry.name.endswith(_SUFFIXES))
    named = _named_in_metadata(folder / _METADATA)
    by_name = {entry.name: entry for entry in present}
    parts = []
    missing = []
    for name in named:
        found = by_name.get(name) or by_name.get(f'{name}.zstd')
        found = found or by_name.get(name.removesuffix('.zstd'))
        if found is None:
            missing.append(name)
        else:
            parts.append(found)
    # Renamed or unlisted files are still the recording: never less than what is there.
    parts = parts or present
    if parts:
        return _Layout(tuple(parts), tuple(missing))
    below = sorted({entry.parent.name for entry in folder.glob(f'*/{_METADATA}')})
    if below:
        raise ArmorError(f'{folder} holds several bags; give one of them: ' + ', '.join(below))
    if missing:
        raise ArmorError(
            f'{folder} holds none of the files that its {_METADATA} names ({", ".join(missing)}); '
            'copy them beside it'
        )
    raise ArmorError(f'{folder} holds no recording: no file ends in ' + ', '.join(_SUFFIXES))


def _named_in_metadata(path: Path) -> list[str]:
    """Return the file names that metadata.yaml lists; none when it is absent or unreadable."""
    try:
        content: Any = yaml.safe_load(path.read_text(encoding='utf-8'))
        names = content['rosbag2_bagfile_information']['relative_file_paths']
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return []
    if not isinstance(names, list):
        return []
    return [PurePath(str(name)).name for name in names]


def _combine(storages: list[Storage]) -> tuple[Topic, ...]:
    """Join the topics of all parts; the same name and type is the same topic."""
    topics: dict[tuple[str, str], Topic] = {}
    for storage in storages:
        for topic in storage.topics:
            known = topics.get((topic.name, topic.type))
            if known is None:
                topics[topic.name, topic.type] = topic
            else:
                topics[topic.name, topic.type] = replace(
                    known, count=known.count + topic.count, qos=known.qos or topic.qos
                )
    return tuple(sorted(topics.values(), key=lambda topic: (topic.name, topic.type)))
