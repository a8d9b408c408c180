# SPDX-License-Identifier: Apache-2.0
"""What the readers of other people's formats have in common: order, names, and what is skipped."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from armor_ros.datasets.files import check_inside, text_of
from armor_ros.datasets.record import Record, Skipped, View
from armor_ros.datasets.views import PICTURE_ENDINGS, PicturesView, in_order
from armor_ros.errors import ArmorError

EXAMPLES = 3


class SkippedRecord(Exception):  # noqa: N818 - not an error: what to count
    """An item that gives no record; its message is the sentence under which it is counted."""


class Importer(ABC):
    """
    A ``record.DataSet`` of one format.

    ``skipped`` counts sentences, ``examples`` has the first names under each. Both start anew
    with every iteration over the records. A format gives its items, and a record for each.
    """

    format: ClassVar[str]

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: Skipped = Counter()
        self.examples: dict[str, list[str]] = {}

    def records(self) -> Iterator[Record]:
        """
        Yield the records in a stable order, each with an id of its own.

        Raises ArmorError when the description of the whole data set cannot be read.
        """
        self.skipped.clear()
        self.examples.clear()
        taken: dict[str, int] = {}
        for name, item in self._items():
            try:
                record = self._record(name, item)
            except SkippedRecord as reason:
                self.note(str(reason), name)
            except (ArmorError, OSError) as error:
                text = str(error)
                where = '' if text.startswith(name) else f'{name}: '
                self.note('record skipped: it cannot be read', f'{where}{text}')
            else:
                yield self._unique(_cleaned(record), taken)

    @abstractmethod
    def _items(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and the description of each item in a stable order."""

    @abstractmethod
    def _record(self, name: str, item: Any) -> Record:
        """Return the record of an item; raises SkippedRecord or ArmorError where there is none."""

    def note(self, sentence: str, name: str) -> None:
        """Count a sentence on what was passed over, and keep the name as an example of it."""
        self.skipped[sentence] += 1
        examples = self.examples.setdefault(sentence, [])
        if len(examples) < EXAMPLES:
            examples.append(name)

    def note_link(self, folder: Path) -> None:
        """Count a link to a folder, which is not followed."""
        self.note('folder skipped: it is a link; put the folder itself there', folder.name)

    def _unique(self, record: Record, taken: dict[str, int]) -> Record:
        """Number the id of a record where it is taken; ``taken`` has the last number of each."""
        identity = record.id
        while identity in taken:
            taken[record.id] += 1
            identity = f'{record.id}#{taken[record.id]}'
        taken[identity] = 1
        if identity == record.id:
            return record
        self.note('record kept: its id was taken, so that it got a number', record.id)
        return dataclasses.replace(record, id=identity)


def _cleaned(record: Record) -> Record:
    """Return the record with every text made harmless and bounded."""
    changed: dict[str, Any] = {
        field.name: text_of(value)
        for field in dataclasses.fields(record)
        if isinstance(value := getattr(record, field.name), str)
    }
    changed['id'] = changed['id'] or 'record'
    changed['label'] = record.label
    changed['explanation'] = text_of(record.explanation) or None
    changed['views'] = {text_of(name) or 'camera': view for name, view in record.views.items()}
    changed['extra'] = {text_of(key): text_of(value) for key, value in record.extra.items()}
    return dataclasses.replace(record, **changed)


def picture_folder(root: Path, folder: Path, fps: float) -> View | None:
    """
    Return the pictures of a folder in the order of their numbers; None when it has none.

    Raises ArmorError when a link leads out of ``root``.
    """
    try:
        found = [
            entry
            for entry in folder.iterdir()
            if entry.suffix.lower() in PICTURE_ENDINGS and not entry.name.startswith('.')
        ]
    except OSError:
        return None
    for entry in found:
        if entry.is_symlink():
            check_inside(root, entry)
    return PicturesView(in_order(found), fps) if found else None
