# SPDX-License-Identifier: Apache-2.0
"""
How a task went, by whoever knows best.

A file given by the user wins over an operator's word through the node's service, which wins over
what a data set says, which wins over what the robot's own stack said. A canceled task has no
outcome; nor has one that was aborted before anything moved, as when no plan was found: the video
shows no attempt to judge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from armor_ros.datasets.manifest import Label
from armor_ros.episodes.decoding import resize
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.task import TaskStatus
from armor_ros.evaluation.case import LabelSource, TaskLabel
from armor_ros.evaluation.label_files import NODE_FILE, FileLabel, read_label_file

_STATUS_LABELS: dict[TaskStatus, Label] = {
    TaskStatus.SUCCEEDED: 'success',
    TaskStatus.ABORTED: 'failure',
}
# Averaged over a cell, a camera's noise stays within a few of 255 grey levels; a moving arm does
# not.
_CELLS = (24, 32)
_STILL = 8

# The weightiest first.
_WEIGHTS: tuple[LabelSource, ...] = ('sidecar', 'label_task', 'dataset', 'event', 'status', '')

_Key = tuple[str, str]


class LabelBook:
    """
    The labels of files, looked up by task.

    Of two rows on the same task the later counts, and one that names the task's recording counts
    more than one that does not. Files come in the order of their weight: each wins over those
    after it.
    """

    def __init__(self, files: Sequence[Path] = ()) -> None:
        self._given: dict[_Key, TaskLabel] = {}
        self._told: dict[_Key, TaskLabel] = {}
        self.ids: frozenset[str] = frozenset()
        for path in reversed(files):
            self.add(read_label_file(path))

    def add(self, rows: Iterable[FileLabel]) -> None:
        """Take in rows; they win over those that are there."""
        for row in rows:
            kind: LabelSource = 'label_task' if row.by_service else 'sidecar'
            book = self._told if row.by_service else self._given
            book[row.source, row.id] = TaskLabel(row.label, kind, False, row.explanation)
            self.ids |= {row.id}

    def find(self, source: str, name: str) -> list[TaskLabel]:
        """Return what the files say of a task; of equal weight the more precise comes first."""
        keys = ((source, name), ('', name))
        found = [book.get(key) for book in (self._given, self._told) for key in keys]
        return [label for label in found if label is not None]

    def digest(self) -> str:
        """Return a digest of all that the files say."""
        texts = [repr(sorted(book.items(), key=str)) for book in (self._given, self._told)]
        return hashlib.sha256(''.join(texts).encode()).hexdigest()[:16]

    def unknown(self, known: Iterable[str]) -> list[str]:
        """Return the ids that the files name and ``known`` lacks, sorted."""
        return sorted(self.ids - set(known))


def beside(bag: Path) -> LabelBook:
    """
    Return the labels in a labels.jsonl in a recording's folder, or else beside it.

    Raises ArmorError when the file cannot be read as labels.
    """
    folders = (bag, bag.parent) if bag.is_dir() else (bag.parent, bag.parent.parent)
    for folder in folders:
        if (folder / NODE_FILE).is_file():
            return LabelBook([folder / NODE_FILE])
    return LabelBook()


def choose_label(said: Iterable[TaskLabel]) -> TaskLabel:
    """
    Return the weightiest label that says how the task went, with the first fitting explanation.

    An explanation fits that comes with the same label, or with none. Of two labels from the same
    kind of source the first counts.
    """
    said = sorted(said, key=lambda label: _WEIGHTS.index(label.source))
    chosen = next((label for label in said if label.label is not None), None)
    outcome = None if chosen is None else chosen.label
    explanation = next(
        (each.explanation for each in said if each.explanation and each.label in (None, outcome)),
        None,
    )
    if chosen is None:
        source: LabelSource = next((each.source for each in said if each.explanation), '')
        return TaskLabel(None, source, False, explanation)
    return TaskLabel(chosen.label, chosen.source, chosen.weak, explanation)


def status_label(status: TaskStatus, source: LabelSource) -> TaskLabel:
    """Return the weak label in what the robot's stack said; none of a canceled task."""
    label = _STATUS_LABELS.get(status)
    return TaskLabel() if label is None else TaskLabel(label, source, weak=True)


def anything_moves(episode: Episode) -> bool:
    """
    Tell whether anything moves in an episode's clips, by coarse differences to the first frame.

    True as well where that cannot be known: there are less than two frames of every camera.
    """
    clips = [clip for clip in episode.clips if len(clip.stamps_ns) > 1]
    for clip in clips:
        first, *rest = (
            cv2.cvtColor(resize(frame, _CELLS), cv2.COLOR_RGB2GRAY).astype(np.int16)
            for frame in clip.frames
        )
        if any(int(np.abs(frame - first).max()) > _STILL for frame in rest):
            return True
    return not clips
