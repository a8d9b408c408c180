# SPDX-License-Identifier: Apache-2.0
"""Recordings and data sets in, predictions.jsonl and pictures of the evidence out."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from armor_ros.datasets.manifest import write_whole
from armor_ros.episodes.collage import render_clip, render_collage, save_picture
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.text import safe_file_name
from armor_ros.errors import ArmorError
from armor_ros.evaluation.asking import Asking
from armor_ros.evaluation.case import Case
from armor_ros.evaluation.parts import PARTS, FinishedPart, PartStore, Unit, units_of
from armor_ros.evaluation.prediction import Prediction
from armor_ros.evaluation.predictor import Predictor
from armor_ros.evaluation.processes import Processes
from armor_ros.evaluation.reading import ReadAhead
from armor_ros.evaluation.sources import Source

PREDICTIONS = 'predictions.jsonl'
EVIDENCE = 'evidence'
_MAX_WORKERS = 4


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """
    How far an evaluation is.

    ``position`` is the part of what this process has to read that has been read, from 0 to 1;
    ``tasks`` counts the answers; ``prediction`` is the one just made, None between.
    """

    position: float
    tasks: int
    prediction: Prediction | None = None


@dataclass(frozen=True, slots=True)
class EvaluationSummary:
    """
    What an evaluation gave.

    ``verdicts`` and ``statuses`` count lines by name; ``problems`` are sentences on what was
    wrong with a source but could be passed over, each with its source's name and how often;
    ``failures`` are sentences on sources that gave no line at all. ``ids`` names every task and
    sample.
    """

    predictions: Path
    tasks: int
    verdicts: dict[str, int]
    statuses: dict[str, int]
    labels: dict[str, int]
    disagreements: int
    problems: tuple[tuple[str, str, int], ...]
    failures: tuple[str, ...]
    ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """
    How a run is done.

    ``evidence`` is the folder that pictures are written below and named relative to, None for no
    pictures. ``workers`` are the threads that read ahead of the model, 0 means a sensible number.
    ``parts`` is where finished parts are kept, None for a folder of the output that goes when the
    run is complete.
    """

    evidence: Path | None = None
    workers: int = 0
    parts: Path | None = None


def evaluate(
    sources: Sequence[Source],
    predictor: Predictor,
    output: Path,
    options: RunOptions | None = None,
    *,
    run: str = '',
    processes: Processes | None = None,
    on_progress: Callable[[EvaluationProgress], None] | None = None,
) -> EvaluationSummary:
    """
    Have every task of some sources answered, and write ``output``/predictions.jsonl.

    The lines come in the order of the sources, whoever was ready first; the same input gives the
    same bytes, the ``timing`` of each line apart. What is finished is kept as parts until all is,
    so that an interrupted run goes on where it stopped: ``run`` is the identity of whatever else
    decides what a line says (labels, for one). With several ``processes`` each does a share of
    the work; the main one writes the whole.

    A task without usable frames, and one on which the model fails, is a line with the verdict
    UNKNOWN. A source without tasks, or one that cannot be read, is told in ``failures``; when
    there is no other, ArmorError says why.
    """
    if not sources:
        raise ArmorError('no sources were given; name at least one recording or data set')
    processes = processes or Processes()
    options = options or RunOptions()
    store = PartStore(options.parts or output / PARTS, f'{run}.{predictor.identity}')
    units = units_of(sources)
    finished = processes.on_main(lambda: _begin(output, store, units))
    left = [unit for unit in units if unit.key not in finished]
    share = left[processes.index :: processes.count]
    workers = options.workers or _usual_workers(processes.count)
    with ReadAhead(share, workers) as reading:
        _answer(reading, predictor, store, options.evidence, on_progress)
    processes.wait()
    summary = processes.on_main(lambda: _merge(output, store, units))
    if options.parts is None and not summary.failures:
        processes.on_main(store.clear)
    return summary


def _usual_workers(processes: int) -> int:
    return max(1, min(_MAX_WORKERS, (os.cpu_count() or 1) // processes))


def _begin(output: Path, store: PartStore, units: Sequence[Unit]) -> set[str]:
    """Make the folder; return the keys of what an earlier run has finished."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArmorError(
            f'cannot write to {output}: {error.strerror or error}; choose another output folder '
            'or make room'
        ) from error
    return store.finished(units)


def _answer(
    reading: ReadAhead,
    predictor: Predictor,
    store: PartStore,
    evidence: Path | None,
    on_progress: Callable[[EvaluationProgress], None] | None,
) -> None:
    """Answer the cases as they are read, and store each part when it is complete."""
    tell = on_progress or (lambda progress: None)
    pictures = {unit.key: Pictures(evidence) for unit in reading.units}
    tasks = 0

    def count(prediction: Prediction) -> None:
        nonlocal tasks
        tasks += 1
        tell(EvaluationProgress(reading.position, tasks, prediction))

    def save(unit: Unit, lines: tuple[str, ...]) -> None:
        log = reading.logs[unit.key]
        problems = dict(sorted(log.problems.items()))
        store.save(unit, FinishedPart(lines, problems, tuple(log.failures)))

    with Asking(predictor, count, save) as asking:
        for unit, case in reading:
            if unit is not None and case is not None:
                picture, problem = pictures[unit.key].save(case)
                if problem:
                    reading.logs[unit.key].problems[problem] += 1
                asking.ask(unit, case, picture)
            elif unit is not None:
                asking.end(unit)
            tell(EvaluationProgress(reading.position, tasks))


def _merge(output: Path, store: PartStore, units: Sequence[Unit]) -> EvaluationSummary:
    """Put the parts together; raises ArmorError when there is no line at all."""
    parts = [store.load(unit) for unit in units]
    texts = [line for part in parts for line in part.lines]
    failures = tuple(sentence for part in parts for sentence in part.failures)
    if not texts:
        raise ArmorError('\n'.join(failures) or 'the sources hold no task')
    path = output / PREDICTIONS
    write_whole(path, '\n'.join(texts) + '\n')
    lines = [json.loads(text) for text in texts]

    def count(key: str) -> dict[str, int]:
        return dict(sorted(Counter(line[key] or '' for line in lines).items()))

    problems: Counter[tuple[str, str]] = Counter()
    for unit, part in zip(units, parts, strict=True):
        for sentence, times in part.problems.items():
            problems[unit.source.name, sentence] += times
    return EvaluationSummary(
        predictions=path,
        tasks=len(lines),
        verdicts=count('verdict'),
        statuses=count('status'),
        labels=count('label_source'),
        disagreements=sum(line['disagrees_with_status'] for line in lines),
        problems=tuple((*key, times) for key, times in problems.items()),
        failures=failures,
        ids=frozenset(line[key] for line in lines for key in ('task_id', 'sample_id')),
    )


class Pictures:
    """Writes what the answers of one unit rest on below ``folder``/evidence (None: nowhere)."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._names: Counter[str] = Counter()

    def save(self, case: Case) -> tuple[str, str]:
        """Return the picture's path relative to the folder ('' without), and what went wrong."""
        episode = case.episode
        if self._folder is None or not (episode.frame_count or episode.collage is not None):
            return '', ''
        name = safe_file_name(f'{case.source}/{case.id}')
        self._names[name] += 1
        if self._names[name] > 1:
            name = f'{name}.{self._names[name]}'
        relative = f'{EVIDENCE}/{name}.jpg'
        if (self._folder / relative).exists():
            # of the same run, interrupted, or of the model when a baseline answers
            return relative, ''
        try:
            save_picture(self._folder / relative, _picture(episode))
        except ArmorError as error:
            # A verdict is worth more than its picture.
            return '', str(error)
        return relative, ''


def _picture(episode: Episode) -> npt.NDArray[np.uint8]:
    if episode.collage is not None and not episode.frame_count:
        return episode.collage
    return render_collage(episode) if len(episode.clips) > 1 else render_clip(episode)
