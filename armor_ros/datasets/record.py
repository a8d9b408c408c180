# SPDX-License-Identifier: Apache-2.0
"""
Labelled clips, whoever recorded them: what every importer gives and every consumer takes.

A ``DataSet`` is an opened folder or file of some format; its ``Record``s are cheap values, and
pictures are read only when a view is asked for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from armor_ros.datasets.manifest import Label
from armor_ros.datasets.video import Frames

# Sentences on what was passed over, each with how often.
Skipped = Counter[str]

# The view of a data set that has ready collages instead of cameras (AHA): one picture.
COLLAGE_VIEW = 'collage'


class View(Protocol):
    """One camera of a record, not read yet."""

    def read(self, fps: float, size: tuple[int, int] | None = None) -> Frames:
        """
        Return (frames, H, W, 3) uint8 RGB, sampled at ``fps``, as large as recorded or ``size``.

        Frame k is the first one at or after k / fps seconds of the clip's start. ``size`` is
        (height, width). No more is held in memory than what is returned. Raises ArmorError when
        the view cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Record:
    """
    One task of a data set, with the fields of the manifest's ``Sample`` (see there).

    ``label`` None means that nothing is known. ``weak`` says that the label is what the robot's
    own stack said, not a person's or a simulator's. ``fps`` is the rate of the recording, 0 where
    the data set has no time (a collage, keyframes). ``attached`` are files beside the views, by
    the name of their field: each is a function that reads it, or raises ArmorError.
    """

    id: str
    instruction: str
    views: dict[str, View]
    fps: float
    label: Label | None = None
    weak: bool = False
    explanation: str | None = None
    task: str = ''
    split: str = ''
    source: str = ''
    episode: str = ''
    group: str = ''
    robot_status: str = ''
    injected_mode: str = ''
    failure_kind: str = ''
    extra: dict[str, str] = field(default_factory=dict)
    attached: dict[str, Callable[[], object]] = field(default_factory=dict)


class DataSet(Protocol):
    """
    An opened data set.

    ``skipped`` grows while records are iterated: nothing is passed over in silence. ``examples``
    has the first names, or reasons, of each of its sentences.
    """

    skipped: Skipped
    examples: dict[str, list[str]]

    @property
    def format(self) -> str:
        """
        Return its short name.

        One of 'manifest', 'aha', 'armbench', 'lerobot', 'droid', 'robofac', 'failsafe'.
        """

    def records(self) -> Iterator[Record]:
        """Yield the records in a stable order; one that cannot be used is counted instead."""
