# SPDX-License-Identifier: Apache-2.0
"""
The finished parts of a run on disk, so that one that was interrupted goes on where it stopped.

A part is a file of JSON lines, written whole or not at all: a head, then the part's predictions.
Its name is a digest of what was read, so that it stays valid when sources are added or reordered.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armor_ros.datasets.manifest import write_whole
from armor_ros.episodes.text import safe_file_name
from armor_ros.errors import ArmorError
from armor_ros.evaluation.sources import Source

PARTS = 'parts'


@dataclass(frozen=True, slots=True)
class Unit:
    """One part of one source: what a process works on at a time."""

    source: Source
    part: int
    key: str


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """The lines of a part, and what was wrong with its source (see ``PartLog``)."""

    lines: tuple[str, ...]
    problems: dict[str, int]
    failures: tuple[str, ...]


def units_of(sources: Sequence[Source]) -> list[Unit]:
    """Return all parts of all sources in order, each with a key of its own."""
    units = []
    for source in sources:
        count, identity = source.parts(), source.identity()
        for part in range(count):
            text = repr((source.name, source.kind, identity, part, count))
            digest = hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]
            units.append(Unit(source, part, f'{safe_file_name(source.name)[:40]}.{digest}'))
    return units


class PartStore:
    """
    The parts of one run in a folder.

    ``run`` is the identity of everything that decides what a part holds, beside what is read.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = folder
        self._run = run

    def finished(self, units: Sequence[Unit]) -> set[str]:
        """
        Return the keys of the parts that need not be done again.

        One whose source failed is to be tried again. Raises ArmorError when the folder holds
        parts of another run.
        """
        done = set()
        wanted = {unit.key for unit in units}
        for path in sorted(self._folder.glob('*.jsonl')):
            head = _read_head(path)
            if head is None or head.get('failures'):
                continue
            if head.get('run') != self._run:
                raise ArmorError(
                    f'{self._folder} holds the beginning of another run (of another model, other '
                    'settings or other labels); repeat it with those, choose another output '
                    'folder, or start anew with --overwrite'
                )
            if path.stem in wanted:
                done.add(path.stem)
        return done

    def save(self, unit: Unit, part: FinishedPart) -> None:
        """Write a part; raises ArmorError when it cannot be written."""
        head = {
            'run': self._run,
            'source': unit.source.name,
            'part': unit.part,
            'problems': part.problems,
            'failures': list(part.failures),
        }
        text = '\n'.join([json.dumps(head), *part.lines]) + '\n'
        write_whole(self._path(unit), text)

    def load(self, unit: Unit) -> FinishedPart:
        """Read a part; raises ArmorError when it is not there."""
        path = self._path(unit)
        try:
            # only at newlines: other characters that split lines may stand in a text
            head, *lines = path.read_text(encoding='utf-8').rstrip('\n').split('\n')
            told = json.loads(head)
            return FinishedPart(tuple(lines), told['problems'], tuple(told['failures']))
        except (OSError, ValueError, KeyError) as error:
            raise ArmorError(
                f'the finished part {path} cannot be read: {error}; if several machines work '
                'together, the output must be in a folder that they share'
            ) from error

    def clear(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, unit: Unit) -> Path:
        return self._folder / f'{unit.key}.jsonl'


def holds_finished(folder: Path) -> bool:
    """Tell whether there is a finished part in a folder of runs' parts, whichever run's."""
    heads = map(_read_head, folder.glob('*/*.jsonl'))
    return any(head is not None and not head.get('failures') for head in heads)


def _read_head(path: Path) -> dict[str, Any] | None:
    """Return a part's head; None for a file that is none."""
    try:
        with path.open(encoding='utf-8') as file:
            head = json.loads(file.readline())
    except (OSError, ValueError):
        return None
    return head if isinstance(head, dict) else None
