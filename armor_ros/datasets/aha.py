# SPDX-License-Identifier: Apache-2.0
"""
Conversations as AHA (Duan et al., 2025) has them: a collage, a question, yes or no and why.

A JSON list of ``{"id", "image", "conversations": [{"from": "human", "value"}, {"from": "gpt",
"value"}]}``. The paths of images are often those of the machine that made them.
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
from armor_ros.datasets.record import COLLAGE_VIEW, Record
from armor_ros.datasets.views import CollageView
from armor_ros.errors import ArmorError

# A bare reason may begin with "No ...", too: as an answer it has punctuation after it.
_ANSWER = re.compile(r'\s*["\']?(?:(yes)\b[\s,.:;!]*|(no)\s*(?:[,.:;!]+\s*|$))', re.IGNORECASE)
_FULL_STOP = re.compile(r'\.(?=\s|$)')
# "<task>_<failure mode>_wp<waypoint>_episode<number>", as the generator names its folders
_RECORDING = re.compile(
    r'(?P<task>.+)_(?P<mode>grasp|slip|translation_[xyz]|rotation_[xyz]|no_rotation'
    r'|wrong_sequence|wrong_object|wrong_action)_wp\d+_episode\d+'
)
_MAX_PATH = 4096
_MOST_FOLDERS = 20


@dataclass(frozen=True, slots=True)
class AhaOptions:
    """``images`` is a folder with the pictures, '' for the folder of the JSON file."""

    images: str = ''


class AhaData(Importer):
    """
    One JSON file, or all in a folder that have this layout.

    "Yes, ..." is a success, "No, <reason>" a failure; an answer with neither is the bare reason
    of a failure, as some generators write it. An image is looked for by as much of the end of
    its path as there is in the folder or in one just below it, so that ``/home/x/data/a/0.png``
    is found as ``a/0.png`` or ``pictures/a/0.png``. ``extra['question_id']`` is the id as it was.
    """

    format = 'aha'

    def __init__(self, path: Path, options: AhaOptions) -> None:
        folder = path if path.is_dir() else path.parent
        super().__init__(Path(options.images) if options.images else folder)
        self._files = aha_files(path)
        self._sources: dict[Path, str] = {}
        self._folders: list[str] = []

    def _items(self) -> Iterator[tuple[str, Any]]:
        self._sources.clear()
        folders = [folder.name for folder in subfolders(self.root, self.note_link)]
        # many are the folders of attempts, which the paths name
        self._folders = folders if len(folders) <= _MOST_FOLDERS else []
        for path in self._files:
            rows = read_json(path)
            if not isinstance(rows, list):
                raise ArmorError(f'{path} is no list of conversations, as AHA writes them')
            for number, row in enumerate(rows):
                yield f'{path.name}, entry {number}', (path, row)

    def _record(self, name: str, item: tuple[Path, Any]) -> Record:
        path, row = item
        if not isinstance(row, dict):
            raise SkippedRecord('entry skipped: it is not an object')
        question, answer = _turns(row.get('conversations'))
        label, explanation = parse_answer(answer)
        identity = text_of(row.get('id'))
        image = row.get('image')
        if isinstance(image, list) and len(image) == 1:
            image = image[0]
        if not isinstance(image, str) or not 0 < len(image) < _MAX_PATH:
            raise SkippedRecord('entry skipped: it names no image, or more than one')
        instruction = parse_sub_task(question)
        if not instruction:
            self.note('entry kept: its question names no sub-task, so it has no instruction', name)
        episode, task, mode = _recording(image)
        return Record(
            id=identity or f'{path.stem}_{name.rsplit(" ", 1)[-1]}',
            instruction=instruction,
            views={COLLAGE_VIEW: CollageView(self._image(image))},
            fps=0.0,
            label=label,
            explanation=explanation or None,
            task=spelled_out(task),
            split=split_of(path.stem),
            source='aha',
            # collages of one attempt show the same pictures
            episode=episode,
            injected_mode=mode,
            extra={'question_id': identity},
        )

    def _image(self, image: str) -> Path:
        parts = PurePosixPath(image.replace('\\', '/').lstrip('/')).parts
        if '..' in parts:
            raise SkippedRecord('entry skipped: the path of its image has ".."')
        found = self._find(parts)
        if found is None:
            raise SkippedRecord('entry skipped: its image is not below the folder of pictures')
        if self._sources.setdefault(found, image) != image:
            raise SkippedRecord(
                'entry skipped: its image is not there, only another of the same name'
            )
        return found

    def _find(self, parts: tuple[str, ...]) -> Path | None:
        """Return the file that has most of the path, in the folder or in one just below."""
        tails = ['/'.join(parts[start:]) for start in range(len(parts))]
        for path in tails:
            found = find_file(self.root, path)
            if found is not None:
                return found
        for path in tails:
            below = [find_file(self.root, f'{folder}/{path}') for folder in self._folders]
            there = [file for file in below if file is not None]
            if len(there) > 1:
                raise SkippedRecord('entry skipped: several folders have an image of its name')
            if there:
                return there[0]
        return None


def aha_files(path: Path) -> list[Path]:
    """Return the files of this layout: the file itself, or those in the folder."""
    files = [path] if path.is_file() else children(path)
    return [file for file in files if file.suffix.lower() == '.json' and _is_aha(file)]


def _is_aha(file: Path) -> bool:
    head = read_head(file)
    return head.startswith('[') and '"conversations"' in head


def _turns(conversations: object) -> tuple[str, str]:
    """Return the first question and the first answer."""
    said = {'human': '', 'gpt': ''}
    for turn in conversations if isinstance(conversations, list) else []:
        if isinstance(turn, dict) and said.get(str(turn.get('from'))) == '':
            value = turn.get('value')
            said[str(turn.get('from'))] = value if isinstance(value, str) else ''
    if not said['gpt'].strip():
        raise SkippedRecord('entry skipped: its conversation has no answer')
    return said['human'], said['gpt']


def parse_answer(answer: str) -> tuple[Label, str]:
    """
    Return the label that an answer gives, and what it says beside yes or no.

    An answer that begins with neither is the reason of a failure.
    """
    found = _ANSWER.match(answer)
    if found is None:
        return 'failure', answer.strip()
    rest = answer[found.end() :].strip()
    return ('success' if found.group(1) else 'failure'), rest


def parse_sub_task(question: str) -> str:
    """
    Return what a question says that the robot does, up to the full stop, or ''.

    It stands after "performing", or in questions without that word after "robot arm".
    """
    for words in ('performing ', 'robot arm '):
        _, found, rest = question.partition(words)
        if found:
            stop = _FULL_STOP.search(rest)
            return text_of(rest[: stop.start()]) if stop else ''
    return ''


def _recording(image: str) -> tuple[str, str, str]:
    """Return the attempt, its task and failure mode that the path of an image tells, or ''."""
    for part in PurePosixPath(image).parts[-2:]:
        found = _RECORDING.match(part)
        if found:
            return found.group(0), found.group('task'), found.group('mode')
    return '', '', ''
