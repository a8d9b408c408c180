# SPDX-License-Identifier: Apache-2.0
"""``armor dataset info`` and ``validate``: what is in a source, and whether all of it is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from armor_ros.datasets.bags import Bag, BagImage
from armor_ros.datasets.record import Record
from armor_ros.episodes.decoding import DecodeError, decode_image
from armor_ros.episodes.text import told
from armor_ros.errors import ArmorError
from armor_ros.evaluation.bag_episodes import BagEpisodes
from armor_ros.evaluation.labels import beside, choose_label, status_label
from armor_ros.evaluation.sources import BagSource, RecordSource, Source, SourceSettings

# Small enough to hold many clips; a decoder reads all of a file whatever is kept of it.
_SIZE = (32, 32)
_SOME_FPS = 5.0


@dataclass
class SourceInfo:
    """
    What a source holds.

    ``labels`` counts 'success', 'failure' and 'none', weak ones as 'success (weak)' and so on;
    ``cameras`` maps names to what is known of them, ``skipped`` are sentences on what was passed
    over.
    """

    name: str
    kind: str
    tasks: int = 0
    explained: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    cameras: dict[str, str] = field(default_factory=dict)
    rates: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)


def describe_source(source: Source, settings: SourceSettings) -> SourceInfo:
    """Return what a source holds, without decoding a picture; raises ArmorError if unreadable."""
    if isinstance(source, RecordSource):
        return _describe_records(source)
    if isinstance(source, BagSource):
        return _describe_bag(source, settings)
    raise TypeError(type(source).__name__)


def find_faults(source: Source, tell: Callable[[float], None], workers: int = 4) -> list[str]:
    """
    Read and decode everything in a source; return sentences on what is wrong, in a stable order.

    ``tell`` is told how far it is, from 0 to 1.
    """
    if isinstance(source, RecordSource):
        return _faults_of_records(source, tell, workers)
    if isinstance(source, BagSource):
        return _faults_of_bag(source, tell)
    raise TypeError(type(source).__name__)


def _describe_records(source: RecordSource) -> SourceInfo:
    info = SourceInfo(source.name, source.kind)
    cameras: Counter[str] = Counter()
    for record in source.records():
        info.tasks += 1
        info.explained += bool(record.explanation)
        info.labels[_label_name(record.label, record.weak)] += 1
        info.splits[record.split or 'none'] += 1
        info.kinds[record.task or 'unnamed'] += 1
        info.rates[f'{record.fps:g}'] += 1
        cameras.update(list(record.views))
    info.cameras = {name: f'{count} records' for name, count in sorted(cameras.items())}
    info.skipped = source.skipped()
    return info


def _describe_bag(source: BagSource, settings: SourceSettings) -> SourceInfo:
    info = SourceInfo(source.name, source.kind)
    own = beside(source.path)
    with Bag(source.path) as bag:
        held = bag.info()
        seconds = max(held.duration_ns / 1e9, 1e-9)
        counts = {topic.name: topic.count for topic in held.topics}
        for camera in held.cameras:
            count = counts[camera.topic]
            info.cameras[camera.name] = f'{camera.topic}, {count} images'
            if count > 1:
                info.rates[f'{count / seconds:.1f}'] += 1
        # without cameras no picture is read
        episodes = BagEpisodes(bag, settings.episodes, ())
        for episode in episodes:
            task = episode.task
            weak = status_label(task.status, episodes.status_source(task.task_id))
            known = [
                *settings.labels.find(source.name, task.task_id),
                *own.find(source.name, task.task_id),
            ]
            label = choose_label([*known, weak])
            info.tasks += 1
            info.explained += bool(label.explanation)
            info.labels[_label_name(label.label, label.weak)] += 1
            info.kinds[task.name or 'unnamed'] += 1
        info.skipped = [told(count, sentence) for sentence, count in bag.problems.items()]
    return info


def _label_name(label: str | None, weak: bool) -> str:
    if label is None:
        return 'none'
    return f'{label} (weak)' if weak else label


def _faults_of_records(
    source: RecordSource, tell: Callable[[float], None], workers: int
) -> list[str]:
    records = source.records()
    faults = source.skipped()
    if not records:
        faults.append(f'{source.name} holds no usable record')
    with ThreadPoolExecutor(workers) as pool:
        for number, found in enumerate(pool.map(_faults_of_record, records), 1):
            faults += found
            tell(number / len(records))
    return faults


def _faults_of_record(record: Record) -> Sequence[str]:
    faults = []
    for name, view in record.views.items():
        try:
            view.read(record.fps or _SOME_FPS, _SIZE)
        except ArmorError as error:
            faults.append(f'{record.id}, {name}: {error}')
    for name, read in record.attached.items():
        try:
            read()
        except ArmorError as error:
            faults.append(f'{record.id}, {name}: {error}')
    return faults


def _faults_of_bag(source: BagSource, tell: Callable[[float], None]) -> list[str]:
    bad: Counter[str] = Counter()
    try:
        with Bag(source.path) as bag:
            info = bag.info()
            duration = max(1, info.duration_ns)
            for message in bag.read():
                tell(min(1.0, (message.log_ns - info.start_ns) / duration))
                if isinstance(message, BagImage):
                    try:
                        decode_image(message.image, _SIZE)
                    except DecodeError as error:
                        bad[f'{message.topic}: {error}'] += 1
            bad.update(bag.problems)
    except ArmorError as error:
        return [str(error)]
    return [told(count, sentence) for sentence, count in sorted(bad.items())]
