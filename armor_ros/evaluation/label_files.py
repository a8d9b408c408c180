# SPDX-License-Identifier: Apache-2.0
"""
Labels in files: JSON lines, such as the node's own labels.jsonl, or CSV with a head.

A row has ``task_id``, ``sample_id`` or ``id``; ``label`` (or ``outcome``), ``explanation``, or
both; and ``source``, the name of a recording, where ids alone are not unique.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armor_ros.datasets.manifest import Label
from armor_ros.episodes.task import clean_task_id, clean_text
from armor_ros.errors import ArmorError

NODE_FILE = 'labels.jsonl'
_IDS = ('task_id', 'sample_id', 'id')
_LABELS = ('label', 'outcome')
# What only the node writes: a label given through its service.
_NODE_KEY = 'labelled_at_ns'
_WORDS: dict[str, Label] = {
    'success': 'success',
    'succeeded': 'success',
    'failure': 'failure',
    'failed': 'failure',
}


@dataclass(frozen=True, slots=True)
class FileLabel:
    """
    One row: the task or sample it is about, and what it says.

    ``source`` is '' where any recording is meant. ``by_service`` marks what an operator told the
    node (LabelTask).
    """

    id: str
    label: Label | None
    explanation: str | None
    source: str = ''
    by_service: bool = False


def read_label_file(path: Path) -> tuple[FileLabel, ...]:
    """
    Return the rows of a .csv file or of a file of JSON lines.

    Raises ArmorError, which names the line, for a row without an id, without label and
    explanation, or with a label that is neither success nor failure.
    """
    try:
        # errors are told line by line below; a byte order mark is Excel's
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise ArmorError(f'cannot read the labels {path}: {error}') from error
    rows = _csv_rows(path, text) if path.suffix.lower() == '.csv' else _json_rows(path, text)
    return tuple(_row(values, where) for values, where in rows)


def _csv_rows(path: Path, text: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    reader = csv.DictReader(text.splitlines(keepends=True))
    head = [name.strip() for name in reader.fieldnames or ()]
    if not set(head) & set(_IDS) or not set(head) & {*_LABELS, 'explanation'}:
        raise ArmorError(
            f'{path} begins with the columns {", ".join(head) or "none"}; its first line must '
            f'name one of {", ".join(_IDS)}, and label, explanation, or both'
        )
    reader.fieldnames = head
    try:
        for values in reader:
            yield values, f'{path}, line {reader.line_num}'
    except csv.Error as error:
        raise ArmorError(f'{path}, line {reader.line_num}: {error}') from error


def _json_rows(path: Path, text: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f'{path}, line {number}'
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ArmorError(f'{where} is not valid JSON: {error}') from error
        if not isinstance(values, dict):
            raise ArmorError(f'{where} is no object; give {{"task_id": ..., "label": ...}}')
        yield values, where


def _row(values: Mapping[str, Any], where: str) -> FileLabel:
    name = next((str(values[key]) for key in _IDS if values.get(key) not in (None, '')), '')
    if not name:
        raise ArmorError(f'{where} names no task; give one of {", ".join(_IDS)}')
    word = next((values[key] for key in _LABELS if values.get(key) not in (None, '')), None)
    if word is not None and str(word).strip().lower() not in _WORDS:
        raise ArmorError(f'{where}: the label is {word!r}; it must be success or failure')
    explanation = values.get('explanation')
    if explanation is not None and not isinstance(explanation, str):
        raise ArmorError(f'{where}: the explanation is {explanation!r}; it must be a text')
    if word is None and not explanation:
        raise ArmorError(f'{where} has neither a label nor an explanation')
    source = values.get('source')
    return FileLabel(
        id=clean_task_id(name),
        label=None if word is None else _WORDS[str(word).strip().lower()],
        explanation=clean_text(explanation) if explanation else None,
        source=source if isinstance(source, str) else '',
        by_service=_NODE_KEY in values,
    )
