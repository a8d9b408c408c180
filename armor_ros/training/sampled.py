# SPDX-License-Identifier: Apache-2.0
"""
What models said before a phase began, kept in the folder of the run.

A file has a line for each thing that was asked, in the order of asking, so that an interrupted run
goes on where it stopped. Processes share the asking, and the first one writes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from armor_ros.datasets.manifest import write_whole
from armor_ros.errors import ArmorError
from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training.schedule import PhasePlan

SAMPLED_FOLDER = 'sampled'

Asked = TypeVar('Asked')
# Answers to each of some things that are asked, as values for a line of JSON.
Answer = Callable[[Sequence[Asked]], list[dict[str, Any]]]
# What a policy answered before each round, of a sample in an epoch.
History = Callable[[str, int], Sequence[PreviousAnswer]]


@dataclass(frozen=True, slots=True)
class SamplingReport:
    """
    What was sampled before phase number ``phase`` began.

    ``kept`` of ``asked`` lines serve in it; ``seconds`` are those of sampling, and of training the
    models that were asked.
    """

    phase: int
    step: int
    asked: int
    kept: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """
    What a phase learns from beside the data set.

    ``explanations`` are those of samples that have none of their own, ``accounts`` are what was
    told of the clips, both by sample; ``history`` is what an online phase quotes, None where the
    model in training is asked.
    """

    explanations: Mapping[str, str] = field(default_factory=dict)
    accounts: Mapping[str, str] = field(default_factory=dict)
    history: History | None = None


def sampled_file(run: Path, name: str) -> Path:
    """Return the file of a name in a run's folder."""
    return run / SAMPLED_FOLDER / f'{name}.jsonl'


def explanations_file(run: Path, phase: int) -> Path:
    """Return the file of explanations that were verified before a phase."""
    return sampled_file(run, f'phase-{phase}-explanations')


def accounts_file(run: Path, phase: int) -> Path:
    """Return the file of what the model told of the clips before a phase."""
    return sampled_file(run, f'phase-{phase}-accounts')


def fold_file(run: Path, phase: int, fold: int) -> Path:
    """Return the file of what a fold's clips were answered by a model that has not seen them."""
    return sampled_file(run, f'phase-{phase}-fold-{fold}')


def ask_all(
    accelerator: Accelerator,
    file: Path,
    asked: Sequence[Asked],
    answer: Answer[Asked],
    size: int,
    on_turn: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """
    Return the answer to each thing asked, in order; those that ``file`` has already are not asked.

    Each process asks for ``size`` at a time. ``on_turn`` is called in all of them after each turn,
    whose answers are then kept. Raises ArmorError when the file has answers to something else.
    """
    lines = _agreed(accelerator, read_sampled(file) if accelerator.is_main_process else [])
    if len(lines) > len(asked):
        raise ArmorError(f'{file} has {len(lines)} lines, of {len(asked)} at most; remove it')
    if accelerator.is_main_process:
        _write(file, lines)
    place = accelerator.process_index
    while len(lines) < len(asked):
        began = time.monotonic()
        first = len(lines) + place * size
        own = asked[first : min(first + size, len(asked))]
        # all processes answer equally often: they may have to wait for each other in the model
        answers = gather_object(answer(own or asked[-1:])[: len(own)])
        lines += answers
        if accelerator.is_main_process:
            _add(file, answers, time.monotonic() - began)
        on_turn()
    return lines


def read_sampled(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a file, without one that was cut off; none when it is not there."""
    if not file.is_file():
        return []
    rows = file.read_text(encoding='utf-8').split('\n')
    try:
        # what follows the last line break is either nothing or half a line
        return [json.loads(row) for row in rows[:-1]]
    except ValueError as error:
        raise ArmorError(f'{file} is damaged ({error}); remove it to sample anew') from error


def sampling_seconds(file: Path) -> float:
    """Return how long the answers in a file took."""
    try:
        return float(json.loads(_clock(file).read_text())['seconds'])
    except (OSError, ValueError, KeyError):
        return 0.0


def add_seconds(file: Path, seconds: float) -> None:
    """Count more time to what the answers in a file took."""
    write_whole(_clock(file), json.dumps({'seconds': sampling_seconds(file) + seconds}) + '\n')


def read_history(run: Path, plan: PhasePlan) -> History:
    """
    Return what the folds' clips were answered before a phase (see ``cross_fitting``).

    Raises ArmorError when some are missing.
    """
    answers: dict[tuple[str, int], list[PreviousAnswer]] = {}
    for fold in range(plan.phase.folds):
        for line in read_sampled(fold_file(run, plan.index, fold)):
            rounds = [PreviousAnswer(*answer) for answer in line['rounds']]
            answers[line['sample'], line['epoch']] = rounds
    wanted = len(plan.chosen) * plan.passes
    if len(answers) != wanted:
        raise ArmorError(
            f'{run / SAMPLED_FOLDER} has {len(answers)} answers of models that have not learned '
            f'from a clip, of {wanted}; remove {run} to begin anew'
        )
    # a last batch may begin one epoch more
    return lambda sample, epoch: answers[sample, epoch % plan.passes]


def _agreed(accelerator: Accelerator, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first process's lines in all."""
    found = [lines]
    if accelerator.num_processes > 1:
        broadcast_object_list(found)
    return found[0]


def _write(file: Path, lines: Sequence[dict[str, Any]]) -> None:
    write_whole(file, ''.join(json.dumps(line) + '\n' for line in lines))


def _add(file: Path, lines: Sequence[dict[str, Any]], seconds: float) -> None:
    add_seconds(file, seconds)
    with file.open('a', encoding='utf-8') as stream:
        stream.write(''.join(json.dumps(line) + '\n' for line in lines))


def _clock(file: Path) -> Path:
    return file.with_suffix('.json')
