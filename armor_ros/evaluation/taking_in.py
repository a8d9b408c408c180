# SPDX-License-Identifier: Apache-2.0
"""Which recordings are meant, and reading those that a data set does not have yet."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from armor_ros.datasets.record import DataSet
from armor_ros.errors import ArmorError
from armor_ros.evaluation.opening import open_sources
from armor_ros.evaluation.recorded import (
    RECORDINGS,
    Recording,
    content_key,
    load_recording,
    take_in,
)
from armor_ros.evaluation.sources import SourceSettings

_WORKERS = 2


@dataclass(frozen=True, slots=True)
class NamedBag:
    """A recording, its name among those that are given, and the digest of its content."""

    path: Path
    name: str
    key: str


def identify(paths: Sequence[Path], notes: Counter[str], failures: list[str]) -> list[NamedBag]:
    """
    Return the recordings in the order given, a folder of them for all that it holds.

    A copy of another is left out, and told in ``notes``; what cannot be read is told in
    ``failures``. Raises ArmorError when nothing is left, or one is named twice.
    """
    sources, failed = open_sources(paths, SourceSettings(), _refuse)
    failures += failed
    bags: dict[str, NamedBag] = {}
    for source in sources:
        try:
            bag = NamedBag(source.path, source.name, content_key(source.path))
        except ArmorError as error:
            failures.append(str(error))
            continue
        other = bags.setdefault(bag.key, bag)
        if other is not bag:
            notes[f'{bag.path} is left out: it is a copy of {other.path}'] += 1
    if not bags:
        raise ArmorError('\n'.join(failures) or 'no recordings were given')
    return list(bags.values())


def _refuse(path: Path) -> DataSet:
    raise ArmorError(
        f'{path} is no recording; give rosbag2 folders or files (armor dataset convert takes '
        'data sets)'
    )


def _prepare(output: Path) -> None:
    """Make the folder; raises ArmorError when it holds anything but a data set of this kind."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()) and not (output / RECORDINGS).is_dir():
            raise ArmorError(f'{output} is not empty; choose another folder, or remove it')
        (output / RECORDINGS).mkdir(exist_ok=True)
    except OSError as error:
        raise ArmorError(f'cannot write to {output}: {error.strerror or error}') from error


def read_all(
    bags: Sequence[NamedBag],
    output: Path,
    options: SourceSettings,
    settings: str,
    failures: list[str],
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, Recording]:
    """
    Return what is known of each recording by its key, reading those that are new.

    ``settings`` is a digest of all that decides what is read. ``on_progress`` is told how far it
    is, from 0 to 1. What cannot be read is told in ``failures``. Raises ArmorError when
    ``output`` cannot be written, holds something else, or was made with other settings.
    """
    _prepare(output)
    known = {bag.key: load_recording(output, bag.key, settings) for bag in bags}
    new = [bag for bag in bags if known[bag.key] is None]
    progress = _Progress(len(new), on_progress or (lambda position: None))

    def read(bag: NamedBag) -> Recording | ArmorError:
        try:
            track = progress.track(bag.key)
            return take_in(bag.path, output, bag.key, options, settings, track)
        except ArmorError as error:
            return error

    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            for bag, result in zip(new, pool.map(read, new), strict=True):
                if isinstance(result, ArmorError):
                    failures.append(str(result))
                else:
                    known[bag.key] = result
        except BaseException:
            progress.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return {key: recording for key, recording in known.items() if recording is not None}


class _Progress:
    """How far several readers are; they stop when they are told to."""

    def __init__(self, count: int, tell: Callable[[float], None]) -> None:
        self._count = count
        self._tell = tell
        self._positions: dict[str, float] = {}
        self._stopped = threading.Event()

    def track(self, key: str) -> Callable[[float], None]:
        """Return what a reader is to call with its position, from 0 to 1."""

        def move(position: float) -> None:
            if self._stopped.is_set():
                raise ArmorError('reading was interrupted')
            self._positions[key] = min(1.0, max(0.0, position))
            self._tell(sum(list(self._positions.values())) / self._count)

        return move

    def stop(self) -> None:
        """Make all readers end with an error."""
        self._stopped.set()
