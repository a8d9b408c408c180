# SPDX-License-Identifier: Apache-2.0
"""The manifest dataset as records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from armor_ros.datasets.bags import Bag
from armor_ros.datasets.files import check_inside, find_file, find_folder, read_lines
from armor_ros.datasets.importer import Importer, SkippedRecord, picture_folder
from armor_ros.datasets.manifest import (
    MANIFEST_FILE,
    Sample,
    locate,
    read_state,
    sample_from_line,
)
from armor_ros.datasets.record import COLLAGE_VIEW, Record, View
from armor_ros.datasets.views import CollageView, VideoView, read_picture


@dataclass(frozen=True, slots=True)
class ManifestOptions:
    """The manifest needs none."""


class ManifestData(Importer):
    """
    ``manifest.jsonl`` and the files it names; see ``armor_ros.datasets.manifest``.

    The label of a record is the truth where the sample knows it (``judged``), else its label; a
    sample with no view but a collage has the collage as its view. A line that is no sample is
    counted, other than in ``read_manifest``, which refuses the file.
    """

    format = 'manifest'

    def __init__(self, path: Path, options: ManifestOptions) -> None:
        super().__init__(path if path.is_dir() else path.parent)
        self._manifest = path / MANIFEST_FILE if path.is_dir() else path

    def _items(self) -> Iterator[tuple[str, str]]:
        check_inside(self.root, self._manifest)
        for number, line in read_lines(self._manifest):
            yield f'line {number}', line

    def _record(self, name: str, item: str) -> Record:
        sample = sample_from_line(item, name)
        views = {camera: self._view(sample, path) for camera, path in sample.views.items()}
        if not views and sample.collage is not None:
            views = {COLLAGE_VIEW: CollageView(self._file(sample.collage))}
        if not views:
            raise SkippedRecord('record skipped: it has neither a view nor a collage')
        told: dict[str, str] = {}
        if sample.judged not in (None, sample.label):
            told['told_label'] = sample.label
        return Record(
            id=sample.id,
            instruction=sample.instruction,
            views=views,
            fps=sample.fps,
            label=sample.judged or sample.label,
            weak=sample.weak and sample.judged is None,
            explanation=sample.explanation,
            task=sample.task,
            split=sample.split,
            source=sample.source,
            episode=sample.episode,
            group=sample.group,
            robot_status=sample.robot_status,
            injected_mode=sample.injected_mode,
            failure_kind=sample.failure_kind,
            extra=told,
            attached=self._attached(sample),
        )

    def _attached(self, sample: Sample) -> dict[str, Callable[[], object]]:
        attached: dict[str, Callable[[], object]] = {}
        if sample.state is not None:
            attached['state'] = partial(read_state, self.root, sample)
        if sample.collage is not None and sample.views:
            attached['collage'] = partial(_read_collage, self.root, sample.collage)
        if sample.bag is not None:
            attached['bag'] = partial(_look_into_bag, self.root, sample.bag)
        return attached

    def _view(self, sample: Sample, path: str) -> View:
        folder = find_folder(self.root, path)
        if folder is not None:
            view = picture_folder(self.root, folder, sample.fps)
            if view is None:
                raise SkippedRecord('record skipped: a folder of its pictures is empty')
            return view
        # by the promised number of frames, a file cut short is found out
        return VideoView(self._file(path), 0.0, sample.frames / sample.fps)

    def _file(self, path: str) -> Path:
        file = find_file(self.root, path)
        if file is None:
            raise SkippedRecord('record skipped: a file that it names is missing')
        return file


def _read_collage(root: Path, path: str) -> object:
    return read_picture(locate(root, path))


def _look_into_bag(root: Path, path: str) -> object:
    with Bag(locate(root, path)) as bag:
        return bag.info()
