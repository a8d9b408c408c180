# SPDX-License-Identifier: Apache-2.0
"""Files of somebody else's data set: found below its folder only, and read within limits."""

from __future__ import annotations

import csv
import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from armor_ros.episodes.text import clean_text
from armor_ros.errors import ArmorError

MAX_TEXT_BYTES = 512 << 20
MAX_LINE_BYTES = 16 << 20
_HEAD_BYTES = 1 << 16
MAX_ENTRIES = 1_000_000


def find_file(root: Path, path: str) -> Path | None:
    """
    Return where a file named by a data set lies, None when there is no such regular file.

    Raises ArmorError when the path is absolute, has '..', or a link leads it out of ``root``.
    """
    return _find(root, path, Path.is_file)


def find_folder(root: Path, path: str) -> Path | None:
    """Return where a folder lies that a data set names; as ``find_file`` does for files."""
    return _find(root, path, Path.is_dir)


def _find(root: Path, path: str, is_right: Callable[[Path], bool]) -> Path | None:
    if not path or '\0' in path:
        return None
    if PurePosixPath(path).is_absolute() or '..' in PurePosixPath(path).parts:
        raise ArmorError(f'the path {path!r} leads out of {root}; only files below it are read')
    place = root / path
    try:
        if not is_right(place):
            return None
        check_inside(root, place)
    except (OSError, ValueError, RuntimeError):
        # a name that no file can have, or links in a circle
        return None
    return place


def check_inside(root: Path, place: Path) -> None:
    """Raise ArmorError when a link leads ``place`` out of ``root``."""
    if not place.resolve().is_relative_to(_resolved(root.absolute())):
        raise ArmorError(
            f'{place} is a link that leads out of {root}; put the file itself there '
            '(a download with links to a cache: use the option that copies)'
        )


@functools.lru_cache(maxsize=16)
def _resolved(root: Path) -> Path:
    return root.resolve()


def children(folder: Path) -> list[Path]:
    """
    Return what lies in a folder, in natural order, hidden entries left out.

    Returns nothing where there is no such folder. Raises ArmorError for one that cannot be
    listed, or has more than MAX_ENTRIES entries.
    """
    try:
        if not folder.is_dir():
            return []
        found = [entry for entry in folder.iterdir() if not entry.name.startswith('.')]
    except OSError as error:
        raise ArmorError(f'cannot list {folder}: {error}') from error
    if len(found) > MAX_ENTRIES:
        raise ArmorError(f'{folder} has {len(found)} entries; the limit is {MAX_ENTRIES}')
    return sorted(found, key=lambda entry: natural_key(entry.name))


def subfolders(folder: Path, on_link: Callable[[Path], None] | None = None) -> list[Path]:
    """
    Return the folders in a folder, in natural order.

    Links to folders are not followed: they may lead out, or in a circle. ``on_link`` is told of
    each.
    """
    folders = []
    for entry in children(folder):
        try:
            is_folder, is_link = entry.is_dir(), entry.is_symlink()
        except (OSError, RuntimeError):
            continue
        if is_folder and is_link and on_link is not None:
            on_link(entry)
        if is_folder and not is_link:
            folders.append(entry)
    return folders


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts numbers within names by their value: 'a2' before 'a10'."""
    parts = re.split('([0-9]+)', text)
    return tuple(
        (1, len(part.lstrip('0')), part.lstrip('0')) if index % 2 else (0, 0, part)
        for index, part in enumerate(parts)
    )


def read_text(path: Path) -> str:
    """Return a text file as UTF-8; raises ArmorError when it is unreadable or too large."""
    try:
        length = path.stat().st_size
        if length > MAX_TEXT_BYTES:
            raise ArmorError(
                f'{path} has {length >> 20} MiB; the limit is {MAX_TEXT_BYTES >> 20}: split it'
            )
        return path.read_text(encoding='utf-8-sig')
    except (OSError, ValueError) as error:
        raise ArmorError(f'cannot read {path}: {error}') from error


def read_json(path: Path, nan: bool = False) -> Any:
    """
    Return a JSON file's content; raises ArmorError naming the file.

    ``nan`` lets the words NaN and Infinity pass, as None, which JSON does not know.
    """
    return parse_json(read_text(path), str(path), nan)


def parse_json(text: str, where: str, nan: bool = False) -> Any:
    """Parse JSON; ``where`` names it in the ArmorError that a mistake raises."""

    def constant(word: str) -> None:
        if not nan:
            raise ValueError(f'{word} is not a value of JSON')

    try:
        return json.loads(text, parse_constant=constant)
    except (ValueError, RecursionError, MemoryError) as error:
        raise ArmorError(f'{where} is not valid JSON: {error}') from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """
    Yield the number, from 1, and the text of each line of a UTF-8 file that is not blank.

    Raises ArmorError when the file is unreadable or a line is longer than MAX_LINE_BYTES.
    """
    try:
        with path.open('rb') as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b''), 1):
                if len(line) == MAX_LINE_BYTES:
                    raise ArmorError(f'{path}, line {number}: over {MAX_LINE_BYTES >> 20} MiB')
                text = line.decode('utf-8-sig' if number == 1 else 'utf-8', 'replace').strip()
                if text:
                    yield number, text
    except OSError as error:
        raise ArmorError(f'cannot read {path}: {error}') from error


def read_table(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file, blank ones left out; raises ArmorError on a broken one."""
    try:
        lines = read_text(path).splitlines()
        return [row for row in csv.reader(lines) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ArmorError(f'{path} is not valid CSV: {error}') from error


def read_head(path: Path) -> str:
    """Return the first 64 KiB of a file as text, '' when it cannot be read: for a look at it."""
    try:
        with path.open('rb') as file:
            return file.read(_HEAD_BYTES).decode('utf-8', 'replace').lstrip('\ufeff').lstrip()
    except OSError:
        return ''


def text_of(value: object) -> str:
    """Return a text or number of a data set as harmless text on one line, '' for all else."""
    if value == '' or isinstance(value, bool) or not isinstance(value, (str, int)):
        return ''
    try:
        return clean_text(str(value))
    except ValueError:
        # more digits than Python writes
        return ''


def split_of(name: str) -> str:
    """Return the split that a file's name tells: 'train', 'val', 'test' or ''."""
    found = re.search('(train|val|test)', name.lower())
    return found.group(1) if found else ''


def spelled_out(name: str) -> str:
    """Return a name of a task as words: 'FailPickCube-v1' becomes 'fail pick cube'."""
    words = re.sub(r'[-_]v\d+$', '', name)
    words = re.sub(r'(?<=[a-z0-9])(?=[A-Z])', ' ', words)
    return text_of(re.sub(r'[_\-]+', ' ', words)).lower()
