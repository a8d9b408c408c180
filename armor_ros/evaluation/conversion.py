# SPDX-License-Identifier: Apache-2.0
"""``armor dataset convert``: recordings and data sets to a manifest, or to recordings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from armor_ros.datasets.convert import Annotation, write_recording, write_sample
from armor_ros.datasets.manifest import MANIFEST_FILE, sample_to_line, write_whole
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.text import safe_file_name
from armor_ros.errors import ArmorError
from armor_ros.evaluation.case import Case
from armor_ros.evaluation.labels import LabelBook
from armor_ros.evaluation.opening import data_set_opener, open_sources
from armor_ros.evaluation.parts import FinishedPart, PartStore, units_of
from armor_ros.evaluation.reading import ReadAhead
from armor_ros.evaluation.sources import Source, SourceSettings

TARGETS = ('manifest', 'mcap', 'sqlite3')
USUAL_FPS = {'manifest': 5.0, 'mcap': 10.0, 'sqlite3': 10.0}
_PARTS = '.parts'
_WORKERS = 2
# Of each camera: longer than about any task, and as much as a small machine has.
_BUFFER_SECONDS = 600.0
_BUFFER_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class ConversionRequest:
    """
    What is to be converted, and to what: one of ``TARGETS``.

    ``fps`` 0 means the target's usual rate. ``size`` = (height, width); None means as recorded,
    in a recording with several cameras the size of the first picture.
    """

    sources: Sequence[Path]
    output: Path
    target: str = 'manifest'
    fps: float = 0.0
    size: tuple[int, int] | None = None
    data_format: str = 'auto'
    data_options: Sequence[str] = ()
    splits: Sequence[str] = ()
    labels: Sequence[Path] = ()


@dataclass
class ConversionSummary:
    """What was written, and what was left out: sentences, each with how often."""

    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def convert(
    request: ConversionRequest, on_progress: Callable[[float, int], None] | None = None
) -> ConversionSummary:
    """
    Convert sources into the folder ``output``; the same call again goes on after an interruption.

    ``on_progress`` is told how far it is, from 0 to 1, and how many samples are written. What
    cannot be converted is counted. Raises ArmorError when nothing can be, or the folder holds
    something else.
    """
    if request.target not in TARGETS:
        raise ArmorError(f'target is {request.target!r}; it must be one of {", ".join(TARGETS)}')
    sources, failures = open_conversion(request)
    if not sources:
        raise ArmorError('\n'.join(failures) or 'no sources were given')
    is_several = len(sources) + len(failures) > 1
    store = PartStore(request.output / _PARTS, _identity(request, is_several))
    _check_output(request.output)
    units = units_of(sources)
    finished = store.finished(units)
    left = [unit for unit in units if unit.key not in finished]
    lines: dict[str, list[str]] = {unit.key: [] for unit in left}
    names: dict[str, Counter[str]] = {unit.key: Counter() for unit in left}
    written = 0
    with ReadAhead(left, _WORKERS) as reading:
        for unit, case in reading:
            if unit is None:
                continue
            log = reading.logs[unit.key]
            if case is not None:
                name = f'{case.source}/{case.id}' if is_several else case.id
                names[unit.key][name] += 1
                if names[unit.key][name] > 1:
                    # a recording that loops has a task several times
                    name = f'{name}#{names[unit.key][name]}'
                try:
                    lines[unit.key].append(_write(request, case, name))
                    written += 1
                except ArmorError as error:
                    log.problems[f'left out: {error}'] += 1
            else:
                done = FinishedPart(
                    tuple(lines.pop(unit.key)), dict(log.problems), tuple(log.failures)
                )
                store.save(unit, done)
            if on_progress is not None:
                on_progress(reading.position, written)
    parts = [store.load(unit) for unit in units]
    summary = _conclude(request, parts)
    summary.failures[:0] = failures
    if not summary.written:
        reasons = [*summary.failures, *summary.left_out]
        raise ArmorError('nothing was converted: ' + '; '.join(reasons[:5]))
    if not summary.failures:
        store.clear()
    return summary


def open_conversion(request: ConversionRequest) -> tuple[list[Source], list[str]]:
    """Open the sources so that all of each clip is kept, in the size and at the rate asked for."""
    height, width = request.size or (EpisodeSettings().frame_height, EpisodeSettings().frame_width)
    settings = SourceSettings(
        EpisodeSettings(
            fps=request.fps or USUAL_FPS[request.target],
            frame_height=height,
            frame_width=width,
            buffer_seconds=_BUFFER_SECONDS,
            buffer_bytes=_BUFFER_BYTES,
        ),
        labels=LabelBook(request.labels),
        splits=tuple(request.splits),
        as_recorded=request.size is None,
    )
    opener = data_set_opener(request.data_format, request.data_options)
    return open_sources(request.sources, settings, opener)


def _write(request: ConversionRequest, case: Case, name: str) -> str:
    """Write one case; return its line: a sample, or the name of a recording."""
    label = case.label
    note = Annotation(
        id=name,
        label=label.label,
        weak=label.weak,
        explanation=label.explanation,
        task=case.task_kind,
        split=case.split,
        source=case.source,
        episode=case.recording or name,
        group=case.group,
        injected_mode=case.injected_mode,
    )
    if request.target == 'manifest':
        return sample_to_line(write_sample(request.output, case.episode, note))
    folder = safe_file_name(name)
    write_recording(request.output / folder, case.episode, note, storage=request.target)
    return folder


def _conclude(request: ConversionRequest, parts: Sequence[FinishedPart]) -> ConversionSummary:
    """Put the manifest together, once everything is written."""
    lines = [line for part in parts for line in part.lines]
    summary = ConversionSummary(written=len(lines))
    for part in parts:
        summary.left_out.update(part.problems)
        summary.failures += part.failures
    if request.target == 'manifest' and lines:
        write_whole(request.output / MANIFEST_FILE, '\n'.join(lines) + '\n')
    return summary


def _identity(request: ConversionRequest, is_several: bool) -> str:
    told = (
        is_several,
        request.target,
        request.fps or USUAL_FPS[request.target],
        request.size,
        list(request.splits),
        list(request.data_options),
        LabelBook(request.labels).digest(),
    )
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _check_output(output: Path) -> None:
    """Raise ArmorError when the folder holds anything but the beginning of a conversion."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()) and not (output / _PARTS).is_dir():
            raise ArmorError(f'{output} is not empty; choose another folder, or remove it')
        (output / _PARTS).mkdir(exist_ok=True)
    except OSError as error:
        raise ArmorError(f'cannot write to {output}: {error.strerror or error}') from error
