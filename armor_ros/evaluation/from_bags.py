# SPDX-License-Identifier: Apache-2.0
"""
``armor dataset from-bags``: recordings of a robot at work become a data set to learn from.

What the robot's stack said of a task is a sparse, weak label; an operator's word, with an
explanation, a dense one. The same command again takes in what is new: recordings, labels, reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from armor_ros.datasets.manifest import Sample, write_manifest
from armor_ros.episodes.config_hash import config_hash
from armor_ros.episodes.task import TaskStatus
from armor_ros.errors import ArmorError
from armor_ros.evaluation.case import TaskLabel
from armor_ros.evaluation.labels import LabelBook, beside, choose_label, status_label
from armor_ros.evaluation.opinions import Opinion, find_opinion, read_opinions
from armor_ros.evaluation.recorded import RecordedTask, Recording
from armor_ros.evaluation.sources import SourceSettings
from armor_ros.evaluation.taking_in import NamedBag, identify, read_all
from armor_ros.evaluation.to_label import VALIDATION_SPLIT, Question, question, write_questions
from armor_ros.parameters import MonitorParameters

# Of each camera: pictures as they were recorded may be large.
_BUFFER_BYTES = 1 << 30
# What the folder's content depends on beside the settings.
_LAYOUT = 1


@dataclass(frozen=True, slots=True)
class FromBagsRequest:
    """
    What is to be taken in; see ``armor dataset from-bags --help``.

    ``parameters`` are the monitor's: its cameras, actions, instructions, rate and buffer make the
    clips. ``size`` = (height, width) of pictures, None for as recorded. Of the recordings, a
    share ``validation``, drawn by their content, gets the split 'validation', all others
    ``split``: never is one in two splits. ``reports`` are run folders of ``armor evaluate``; they
    count before what monitors said in the recordings, the first before the others.
    """

    bags: Sequence[Path]
    output: Path
    parameters: MonitorParameters = field(default_factory=MonitorParameters)
    size: tuple[int, int] | None = None
    labels: Sequence[Path] = ()
    reports: Sequence[Path] = ()
    split: str = 'train'
    validation: float = 0.0


@dataclass
class FromBagsSummary:
    """
    What came of it.

    ``samples`` counts them by (split, label, 'dense', 'sparse'); ``questions`` are in the order
    of to_label.jsonl; ``left_out`` and ``notes`` are sentences, each with how often, ``failures``
    sentences on recordings that could not be read; ``unknown`` are ids that label files name and
    no recording has.
    """

    samples: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    questions: list[Question] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def make_data_set(
    request: FromBagsRequest, on_progress: Callable[[float], None] | None = None
) -> FromBagsSummary:
    """
    Write the manifest data set of some recordings, and which of their tasks to label.

    Recordings that were taken in before are not read again; the manifest has those that are
    named, in their order. ``on_progress`` is told how far it is, from 0 to 1. Raises ArmorError
    for bad arguments, a folder that holds something else or was made with other settings, and
    when no task has a label. What is wrong with one recording does not cost the others.
    """
    _check(request)
    labels = LabelBook(request.labels)
    runs = [read_opinions(run) for run in request.reports]
    summary = FromBagsSummary()
    bags = identify(request.bags, summary.notes, summary.failures)
    options, settings = _settings(request)
    recordings = read_all(bags, request.output, options, settings, summary.failures, on_progress)
    collector = _Collector(request, labels, runs, summary)
    for bag in bags:
        if bag.key in recordings:
            collector.add(bag, recordings[bag.key])
    summary.unknown = labels.unknown(collector.ids)
    summary.questions = write_questions(request.output, collector.questions)
    samples = collector.samples
    if not samples:
        reasons = [*summary.failures, *summary.left_out, *summary.notes]
        raise ArmorError('no task has a label: ' + '; '.join(reasons[:5]))
    write_manifest(request.output, samples)
    return summary


class _Collector:
    """Makes samples and questions of recordings, counting what gives neither."""

    def __init__(
        self,
        request: FromBagsRequest,
        labels: LabelBook,
        runs: Sequence[Sequence[Opinion]],
        summary: FromBagsSummary,
    ) -> None:
        self._request = request
        self._labels = labels
        self._runs = runs
        self._summary = summary
        self._taken: Counter[str] = Counter()
        self._seen: set[tuple[str, int, int]] = set()
        self.ids: set[str] = set()
        self.samples: list[Sample] = []
        self.questions: list[Question] = []

    def add(self, bag: NamedBag, recording: Recording) -> None:
        """Take one recording's tasks."""
        own = self._own_labels(bag)
        own.add(recording.labels)
        self._summary.notes.update(recording.problems)
        if recording.empty:
            self._summary.notes[recording.empty] += 1
        for task in recording.tasks:
            self.ids.add(task.task_id)
            identity = (task.task_id, task.start_ns, task.end_ns)
            if identity in self._seen:
                self._leave_out('recorded in another of these recordings too')
                continue
            self._seen.add(identity)
            label = self._label(bag, task, own)
            opinion = self._opinion(bag, recording, task)
            asked = question(task, bag.name, self._split(bag), label, opinion)
            if asked is not None:
                self.questions.append(asked)
            self._add_sample(bag, task, label)

    def _own_labels(self, bag: NamedBag) -> LabelBook:
        try:
            return beside(bag.path)
        except ArmorError as error:
            self._summary.notes[f'labels beside {bag.name} are left out: {error}'] += 1
            return LabelBook()

    def _label(self, bag: NamedBag, task: RecordedTask, own: LabelBook) -> TaskLabel:
        source: Literal['event', 'status'] = 'event' if task.by_event else 'status'
        weak = status_label(TaskStatus[task.status], source) if task.moved else TaskLabel()
        said = [book.find(bag.name, task.task_id) for book in (self._labels, own)]
        return choose_label([*said[0], *said[1], weak])

    def _opinion(self, bag: NamedBag, recording: Recording, task: RecordedTask) -> Opinion | None:
        found = (
            find_opinion(opinions, bag.name, task.task_id, task.end_ns)
            for opinions in (*self._runs, recording.opinions)
        )
        return next((each for each in found if each is not None), None)

    def _add_sample(self, bag: NamedBag, task: RecordedTask, label: TaskLabel) -> None:
        if not task.views:
            self._leave_out('no camera has a picture of them')
            return
        if label.label is None:
            self._leave_out(_why_no_label(task))
            return
        notes = self._summary.notes
        if not task.instruction:
            notes['tasks without instruction: give --instruction, or send TaskEvents'] += 1
        if task.truncated:
            notes['tasks longer than the buffer: their beginning is missing'] += 1
        name = f'{bag.name}/{task.task_id}'
        self._taken[name] += 1
        if self._taken[name] > 1:
            # a recording that loops has a task several times
            name = f'{name}#{self._taken[name]}'
        status = TaskStatus[task.status]
        self.samples.append(
            Sample(
                id=name,
                instruction=task.instruction,
                views=task.views,
                fps=task.fps,
                frames=task.frames,
                label=label.label,
                weak=label.weak,
                task=task.name.strip('/'),
                explanation=label.explanation,
                split=self._split(bag),
                source=bag.name,
                episode=name,
                group=bag.name,
                robot_status='' if status is TaskStatus.UNKNOWN else status.name,
            )
        )
        kind = 'sparse' if label.explanation is None else 'dense'
        self._summary.samples[self._split(bag), label.label, kind] += 1

    def _split(self, bag: NamedBag) -> str:
        drawn = int(bag.key, 16) / 16 ** len(bag.key)
        return VALIDATION_SPLIT if drawn < self._request.validation else self._request.split

    def _leave_out(self, reason: str) -> None:
        self._summary.left_out[reason] += 1


def _why_no_label(task: RecordedTask) -> str:
    if task.status == TaskStatus.CANCELED.name:
        return 'canceled'
    if task.status == TaskStatus.ABORTED.name:
        return 'aborted before anything moved'
    return 'their status says nothing'


def _check(request: FromBagsRequest) -> None:
    if not 0 <= request.validation < 1:
        raise ArmorError(
            f'validation is {request.validation:g}; give the share of recordings to validate '
            'with, at least 0 and less than 1'
        )
    if not request.split.strip():
        raise ArmorError("split is ''; give it a name, such as train")


def _settings(request: FromBagsRequest) -> tuple[SourceSettings, str]:
    """Return how recordings are read, and a digest of it."""
    episodes = request.parameters.episode_settings()
    if request.size is not None:
        height, width = request.size
        episodes = replace(episodes, frame_height=height, frame_width=width)
    episodes = replace(episodes, buffer_bytes=max(episodes.buffer_bytes, _BUFFER_BYTES))
    cameras = request.parameters.camera_configs() or None
    as_recorded = request.size is None
    digest = config_hash(_LAYOUT, episodes, as_recorded, list(cameras or ()))
    return SourceSettings(episodes, cameras, as_recorded=as_recorded), digest
