# SPDX-License-Identifier: Apache-2.0
"""
The videos of ARMBench (Mitash et al., 2023) with damaged and undamaged items.

``videos/<id>.mp4``, ``annotations/<id>.json`` with ``id`` and ``label`` (nominal, open,
deconstruction), ``train.csv`` and ``test.csv`` without header, whose first column is the id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armor_ros.datasets.files import (
    check_inside,
    children,
    find_file,
    read_json,
    read_table,
    split_of,
    text_of,
)
from armor_ros.datasets.importer import Importer, SkippedRecord
from armor_ros.datasets.manifest import Label
from armor_ros.datasets.record import Record
from armor_ros.datasets.sampling import Crop
from armor_ros.datasets.video import probe_video
from armor_ros.datasets.views import VideoView
from armor_ros.errors import ArmorError

CROP = (100, 80, 850, 650)
SIDECAR = 'explanations.csv'
_SPLITS = ('train.csv', 'val.csv', 'test.csv')
_LABELS: dict[str, Label] = {
    'nominal': 'success',
    'open': 'failure',
    'deconstruction': 'failure',
}


@dataclass(frozen=True, slots=True)
class ArmbenchOptions:
    """
    ``explanations`` is a CSV file ``id,explanation``, '' for ``explanations.csv`` if it is there.

    ``crop`` (left, top, right, bottom) is what the data set's own code cuts out; None takes the
    whole picture. ``instruction`` is that of every record: the data set has none.
    """

    explanations: str = ''
    crop: tuple[int, ...] | None = CROP
    instruction: str = 'transport an object from one bin to another'


class ArmbenchData(Importer):
    """
    The annotated videos, in the order of the CSV files, those in none of them at the end.

    ``nominal`` is a success; the other labels are failures, and ``injected_mode`` has their name.
    """

    format = 'armbench'

    def __init__(self, path: Path, options: ArmbenchOptions) -> None:
        super().__init__(path)
        self._options = options
        self._crop = _checked(options.crop)
        self._explanations: dict[str, str] = {}

    def _items(self) -> Iterator[tuple[str, str]]:
        self._explanations = self._read_explanations()
        splits: dict[str, str] = {}
        for name in _SPLITS:
            table = find_file(self.root, name)
            for row in read_table(table) if table else []:
                splits.setdefault(row[0].strip(), split_of(name))
        for identity, split in splits.items():
            yield identity, split
        for file in children(self.root / 'annotations'):
            if file.suffix == '.json' and file.stem not in splits:
                splits[file.stem] = ''
                yield file.stem, ''
        for identity in self._explanations:
            if identity not in splits:
                self.note('explanation unused: no video has its id', identity)

    def _record(self, name: str, item: str) -> Record:
        annotation = self._annotation(name)
        label = str(annotation.get('label')).strip().lower()
        if label not in _LABELS:
            raise SkippedRecord(
                'video skipped: its label is none of nominal, open and deconstruction'
            )
        identity = annotation.get('id', name)
        identity = str(identity) if isinstance(identity, (str, int)) else name
        video = find_file(self.root, f'videos/{identity}.mp4')
        if video is None:
            raise SkippedRecord('video skipped: it is annotated but not there')
        return Record(
            id=identity,
            instruction=self._options.instruction,
            views={'camera': VideoView(video, crop=self._crop)},
            fps=probe_video(video).fps,
            label=_LABELS[label],
            explanation=self._explanations.get(identity),
            task='transport',
            split=item,
            source='armbench',
            episode=identity,
            injected_mode='' if label == 'nominal' else label,
        )

    def _annotation(self, name: str) -> dict[str, Any]:
        file = find_file(self.root, f'annotations/{name}.json')
        if file is None:
            raise SkippedRecord('video skipped: it has no annotation')
        annotation = read_json(file, nan=True)
        if not isinstance(annotation, dict):
            raise SkippedRecord('video skipped: its annotation is not an object')
        return annotation

    def _read_explanations(self) -> dict[str, str]:
        """Return the sidecar's explanations by id; those that are empty are left out."""
        if self._options.explanations:
            file: Path | None = Path(self._options.explanations)
        else:
            file = find_file(self.root, SIDECAR)
        if file is None:
            return {}
        return read_explanations(file)


def read_explanations(file: Path) -> dict[str, str]:
    """
    Read a CSV file ``id,explanation``, with or without that header.

    Raises ArmorError when it is unreadable, a line has no second column, or an id comes twice.
    """
    explanations: dict[str, str] = {}
    for number, row in enumerate(read_table(file), 1):
        if len(row) < 2:
            raise ArmorError(f'{file}, row {number}: it needs two columns, id and explanation')
        identity, explanation = row[0].strip(), text_of(row[1])
        if number == 1 and identity.lower() == 'id':
            continue
        if identity in explanations:
            raise ArmorError(f'{file}, row {number}: the id {identity!r} comes twice')
        if explanation:
            explanations[identity] = explanation
    return explanations


def _checked(crop: tuple[int, ...] | None) -> Crop | None:
    if crop is None:
        return None
    if len(crop) != 4 or not (0 <= crop[0] < crop[2] and 0 <= crop[1] < crop[3]):
        raise ArmorError(
            f'crop is {crop}; give (left, top, right, bottom) with left < right and top < bottom, '
            'or none for the whole picture'
        )
    return (crop[0], crop[1], crop[2], crop[3])


def is_armbench(path: Path) -> bool:
    """Tell whether a folder has annotations and videos as ARMBench has them."""
    if not path.is_dir() or not (path / 'videos').is_dir():
        return False
    check_inside(path, path / 'annotations')
    return any(file.suffix == '.json' for file in children(path / 'annotations'))
