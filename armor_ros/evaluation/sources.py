# SPDX-License-Identifier: Apache-2.0
"""Recordings and data sets as sources of cases, cut into parts that are worked on one by one."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from armor_ros.datasets.bags import Bag, BagImage
from armor_ros.datasets.record import DataSet, Record
from armor_ros.datasets.storage import Problems
from armor_ros.episodes.decoding import DecodeError, decode_image
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.recorder import CameraConfig
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.task import TaskStatus, clean_task_id
from armor_ros.episodes.text import told
from armor_ros.errors import ArmorError
from armor_ros.evaluation.bag_episodes import BagEpisodes
from armor_ros.evaluation.case import Case, TaskLabel
from armor_ros.evaluation.label_files import FileLabel
from armor_ros.evaluation.labels import (
    LabelBook,
    anything_moves,
    beside,
    choose_label,
    status_label,
)
from armor_ros.evaluation.record_episode import record_episode, status_of

# Records of a data set that are done, or done again after an interruption, together.
PART_RECORDS = 16


@dataclass
class PartLog:
    """
    What is told while a part is read: how far it is (0 to 1), and what was wrong.

    ``problems`` could be passed over; ``failures`` are sentences on sources that gave no case.
    """

    position: float = 0.0
    problems: Problems = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """
    How cases are made.

    ``cameras`` are those of recordings, None means all that are found. ``labels`` are the user's
    own files. Of data sets only ``splits`` are taken, all when there are none. ``as_recorded``
    keeps the size of pictures, in a recording that of its first one, instead of the settings'.
    """

    episodes: EpisodeSettings = field(default_factory=EpisodeSettings)
    cameras: tuple[CameraConfig, ...] | None = None
    labels: LabelBook = field(default_factory=LabelBook)
    splits: tuple[str, ...] = ()
    as_recorded: bool = False


class Source(Protocol):
    """
    A recording or a data set.

    ``name`` is unique among the sources of a run, ``kind`` the format. ``parts`` is the number of
    parts, ``identity`` a digest of what is in it, so that an interrupted run sees when that has
    changed.
    """

    path: Path
    name: str
    kind: str

    def parts(self) -> int:
        """Return the number of parts, at least 1."""

    def identity(self) -> str:
        """Return a digest of what is in it."""

    def cases(self, part: int, log: PartLog) -> Iterator[Case]:
        """Yield the cases of a part in a stable order; ArmorError when it cannot be read."""


class BagSource:
    """A recording: one part, its tasks in the order of their completion."""

    kind = 'bag'

    def __init__(self, path: Path, name: str, settings: SourceSettings) -> None:
        self.path = path
        self.name = name
        self._settings = settings

    def parts(self) -> int:
        """Return 1: what a recording's tasks look like depends on what came before them."""
        return 1

    def identity(self) -> str:
        """Return a digest of the names and lengths of its files, and of the labels beside them."""
        files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        sizes = [(file.name, file.stat().st_size) for file in files if file.is_file()]
        return _digest(repr((sizes, beside(self.path).digest())))

    def cases(self, part: int, log: PartLog) -> Iterator[Case]:
        """Yield a case for each task; a recording without any is told in ``log.failures``."""

        def tell_position(position: float) -> None:
            log.position = min(1.0, position)

        own = self._own_labels(log)
        with Bag(self.path) as bag:
            try:
                for said in bag.labels():
                    row = FileLabel(
                        clean_task_id(said.task_id), said.label, said.explanation, '', True
                    )
                    own.add([row])
                settings = self._settings.episodes
                if self._settings.as_recorded:
                    settings = in_size_of(bag, settings)
                episodes = BagEpisodes(bag, settings, self._settings.cameras, tell_position)
                count = 0
                for episode in episodes:
                    count += 1
                    yield self._case(episode, episodes, own, log)
                if not count:
                    log.failures.append(episodes.why_no_task())
            finally:
                log.problems.update(bag.problems)

    def _own_labels(self, log: PartLog) -> LabelBook:
        try:
            return beside(self.path)
        except ArmorError as error:
            log.problems[f'labels beside the recording are left out: {error}'] += 1
            return LabelBook()

    def _case(self, episode: Episode, episodes: BagEpisodes, own: LabelBook, log: PartLog) -> Case:
        task = episode.task
        weak = status_label(task.status, episodes.status_source(task.task_id))
        if task.status is TaskStatus.ABORTED and not anything_moves(episode):
            log.problems['tasks aborted before anything moved, without label'] += 1
            weak = TaskLabel()
        said = [
            *self._settings.labels.find(self.name, task.task_id),
            *own.find(self.name, task.task_id),
            weak,
        ]
        return Case(
            episode=episode,
            source=self.name,
            label=choose_label(said),
            task_kind=task.name.strip('/'),
            newest_ns=episodes.newest_ns(),
        )


class RecordSource:
    """A data set, in parts of PART_RECORDS records."""

    def __init__(self, path: Path, name: str, data_set: DataSet, settings: SourceSettings) -> None:
        self.path = path
        self.name = name
        self.kind = data_set.format
        self._data_set = data_set
        self._settings = settings
        self._lock = threading.Lock()
        self._list: tuple[Record, ...] | None = None
        self._known_splits: set[str] = set()

    def parts(self) -> int:
        """Return the number of parts; an empty data set has one, which says so."""
        return max(1, -(-len(self.records()) // PART_RECORDS))

    def identity(self) -> str:
        """Return a digest of what the data set says of its records; videos are not looked into."""
        described = [
            (
                record.id,
                record.instruction,
                record.label,
                record.explanation,
                record.robot_status,
                sorted(record.views),
            )
            for record in self.records()
        ]
        return _digest(repr(described))

    def cases(self, part: int, log: PartLog) -> Iterator[Case]:
        """Yield a case for each record of a part; part 0 tells what the data set skipped."""
        records = self.records()
        if part == 0:
            log.problems.update(self._data_set.skipped)
            if not records:
                log.failures.append(self._why_empty())
        chosen = records[part * PART_RECORDS : (part + 1) * PART_RECORDS]
        for number, record in enumerate(chosen, 1):
            case = self.case_of(record, log)
            log.position = number / len(chosen)
            yield case

    def case_of(self, record: Record, log: PartLog) -> Case:
        """Read a record's pictures; what cannot be read is counted."""
        settings = self._settings
        size = None if settings.as_recorded else settings.episodes.frame_size
        return Case(
            episode=record_episode(record, settings.episodes, log.problems, size),
            source=self.name,
            source_kind=self.kind,
            sample_id=record.id,
            label=self.label_of(record),
            split=record.split,
            task_kind=record.task,
            recording=record.episode,
            group=record.group,
            injected_mode=record.injected_mode,
            failure_kind=record.failure_kind,
        )

    def label_of(self, record: Record) -> TaskLabel:
        """Return what is known of a record's outcome, its pictures unread."""
        return choose_label(
            [
                *self._settings.labels.find(self.name, clean_task_id(record.id)),
                TaskLabel(record.label, 'dataset', record.weak, record.explanation),
                status_label(status_of(record), 'status'),
            ]
        )

    def skipped(self) -> list[str]:
        """Return sentences on what was passed over, each with the first that it was."""
        self.records()
        found = []
        for sentence, count in self._data_set.skipped.items():
            examples = self._data_set.examples.get(sentence, [])
            more = '; ...' if count > len(examples) else ''
            names = f' ({"; ".join(examples)}{more})' if examples else ''
            found.append(told(count, f'{sentence}{names}'))
        return found

    def records(self) -> tuple[Record, ...]:
        """Return all records of the chosen splits; they are cheap, their pictures not read."""
        with self._lock:
            if self._list is None:
                splits = self._settings.splits
                kept = []
                for record in self._data_set.records():
                    self._known_splits.add(record.split)
                    if not splits or record.split in splits:
                        kept.append(record)
                self._list = tuple(kept)
            return self._list

    def _why_empty(self) -> str:
        sentence = f'{self.path} holds no usable record'
        found = self.skipped()
        if self._settings.splits:
            sentence += f' of the splits {", ".join(self._settings.splits)}'
            known = ', '.join(sorted(self._known_splits - {''})) or 'none'
            found.append(f'its splits: {known}')
        return f'{sentence}; {"; ".join(found) or "it is empty"}'


def in_size_of(bag: Bag, settings: EpisodeSettings) -> EpisodeSettings:
    """Return the settings with the size of the first picture of a recording, if there is one."""
    told = Counter(bag.problems)
    for message in bag.read():
        if isinstance(message, BagImage):
            try:
                height, width = decode_image(message.image).shape[:2]
            except DecodeError:
                continue
            settings = replace(settings, frame_height=height, frame_width=width)
            break
    # the same messages are read again, with the same problems
    bag.problems.clear()
    bag.problems.update(told)
    return settings


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]
