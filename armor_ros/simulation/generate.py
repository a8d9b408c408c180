# SPDX-License-Identifier: Apache-2.0
"""
Generating a data set: pair after pair, in processes of their own, each written whole or not.

A folder holds ``recipe.yaml``, ``manifest.jsonl``, ``summary.json``, the files of the episodes,
and in ``records/`` one file a finished pair. What has a record is never made again, so a run that
was interrupted is continued by the same command, and shards may write into one folder or be
copied into one afterwards: the next run gathers the manifest from the records.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from armor_ros.configuration import first_change
from armor_ros.datasets.manifest import (
    Sample,
    sample_from_line,
    sample_to_line,
    write_manifest,
    write_whole,
)
from armor_ros.errors import ArmorError
from armor_ros.simulation.clips import cut_pair, twin_samples, write_take
from armor_ros.simulation.pairs import find_pair
from armor_ros.simulation.recipe import Recipe, read_recipe, recipe_to_yaml
from armor_ros.simulation.splits import Pair, plan_pairs, shard_of, stable_seed
from armor_ros.simulation.summary import Summary, summarize
from armor_ros.simulation.workers import Outcome, run_jobs

RECIPE_FILE = 'recipe.yaml'
SUMMARY_FILE = 'summary.json'
RECORDS = 'records'
_UNFINISHED = '.unfinished'

PAIR_TIMEOUT_S = 600.0

# So many failures at the beginning, and no success: something is wrong with the machine.
_HOPELESS = 5

Progress = Callable[[int, int], None]
"""Called with the pairs done and the pairs in all."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a run left: the folder's samples, their summary, and the pairs that came to nothing."""

    output: Path
    samples: tuple[Sample, ...]
    summary: Summary
    failed: tuple[Outcome[Pair, None], ...]
    missing: int


def generate(
    recipe: Recipe,
    output: Path,
    *,
    shard: tuple[int, int] = (1, 1),
    workers: int = 1,
    progress: Progress | None = None,
) -> Generated:
    """
    Make what is still missing of a data set in the folder ``output``, and gather its manifest.

    ``shard`` (index from 1, count) makes only that part. ``workers`` processes work side by side;
    with 0 this one does. The recipe alone decides every byte, whatever the shards and workers.
    ``failed`` lists the pairs whose worker died or stumbled three times; ``missing`` counts all
    pairs without a record, those of other shards included.

    Raises ArmorError when the folder holds another data set, or nothing can be rendered.
    """
    pairs = plan_pairs(recipe)
    _open_folder(recipe, output)
    own = shard_of(pairs, *shard)
    waiting = [pair for pair in own if not record_path(output, pair).exists()]
    done = len(own) - len(waiting)
    failed: list[Outcome[Pair, None]] = []
    make = functools.partial(make_pair, recipe, output)
    try:
        outcomes: Iterator[Outcome[Pair, None]]
        if workers == 0:
            outcomes = (Outcome(pair, make(pair)) for pair in waiting)
        else:
            outcomes = run_jobs(make, waiting, workers=workers, timeout_s=PAIR_TIMEOUT_S)
        for number, outcome in enumerate(outcomes, done + 1):
            if outcome.error:
                failed.append(outcome)
                if len(failed) == _HOPELESS == number - done:
                    raise ArmorError(
                        f'the first {_HOPELESS} pairs of episodes all failed, three times each; '
                        f'mend the cause and run again. The first: {failed[0].error.strip()}'
                    )
            if progress is not None:
                progress(number, len(own))
    finally:
        with contextlib.suppress(OSError):  # another shard may be at work there
            (output / _UNFINISHED).rmdir()
        samples, summary, missing = gather(recipe, output, pairs)
    return Generated(output, samples, summary, tuple(failed), missing)


def make_pair(recipe: Recipe, output: Path, pair: Pair) -> None:
    """
    Find, film and write one pair; its record comes last and makes it count.

    All files are written elsewhere first. What an earlier attempt left behind is replaced.
    """
    found = find_pair(recipe, pair)
    samples: list[Sample] = []
    workshop = output / _UNFINISHED / pair.name
    shutil.rmtree(workshop, ignore_errors=True)  # of an attempt that was killed
    workshop.mkdir(parents=True)
    try:
        if found.takes:
            cuts = cut_pair(recipe, pair, found.takes)
            # The name tells nothing: which of the two comes first is drawn.
            order = ('success', 'failure')
            if stable_seed(recipe.seed, pair.split, pair.number, 'order') % 2:
                order = ('failure', 'success')
            for letter, kind in zip('ab', order, strict=True):
                if kind in pair.keeps:
                    take = found.takes[kind]
                    name = f'{pair.name}{letter}'
                    samples.append(write_take(recipe, pair, name, take, cuts[kind], workshop))
            if pair.twins:
                samples += twin_samples(recipe, pair, found.takes, cuts, samples)
        _move_into(workshop, output)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    record = {
        'tried': found.tried,
        'samples': [json.loads(sample_to_line(sample)) for sample in samples],
    }
    write_whole(record_path(output, pair), json.dumps(record))


def record_path(output: Path, pair: Pair) -> Path:
    """Return the file that tells that a pair is done."""
    return output / RECORDS / f'{pair.name}.json'


def gather(
    recipe: Recipe, output: Path, pairs: Sequence[Pair]
) -> tuple[tuple[Sample, ...], Summary, int]:
    """
    Write manifest and summary from the records that there are.

    Returns the samples, the summary, and how many pairs have no record.
    """
    samples: list[Sample] = []
    tried: list[tuple[Pair, list[list[str]]]] = []
    missing = 0
    for pair in pairs:
        path = record_path(output, pair)
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
            samples += [
                sample_from_line(json.dumps(sample), str(path)) for sample in record['samples']
            ]
            tried.append((pair, record['tried']))
        except FileNotFoundError:
            missing += 1
        except (OSError, ValueError, KeyError) as error:
            raise ArmorError(f'{path} is damaged ({error}): remove it and run again') from error
    write_manifest(output, samples)
    summary = summarize(recipe, samples, tried)
    write_whole(output / SUMMARY_FILE, json.dumps(summary.as_dict(), indent=2) + '\n')
    return tuple(samples), summary, missing


def _open_folder(recipe: Recipe, output: Path) -> None:
    """Make the folder, or see that it holds a beginning of the same data set."""
    path = output / RECIPE_FILE
    if path.exists():
        # by value: a field that has come since has its default in the older file
        if change := first_change(asdict(read_recipe(path)), asdict(recipe)):
            raise ArmorError(
                f'{output} holds a data set of another recipe ({path}): {change}; choose another '
                'output'
            )
    elif output.exists() and any(output.iterdir()):
        raise ArmorError(
            f'{output} is not empty and holds no {RECIPE_FILE}: choose another output'
        )
    else:
        write_whole(path, recipe_to_yaml(recipe))
    (output / RECORDS).mkdir(exist_ok=True)


def _move_into(workshop: Path, output: Path) -> None:
    """Move each file or folder two levels down, 'videos/x', to its place below ``output``."""
    for kind in sorted(workshop.iterdir()):
        (output / kind.name).mkdir(exist_ok=True)
        for entry in sorted(kind.iterdir()):
            place = output / kind.name / entry.name
            if place.is_dir():
                shutil.rmtree(place)
            os.replace(entry, place)
