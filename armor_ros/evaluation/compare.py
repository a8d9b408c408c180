# SPDX-License-Identifier: Apache-2.0
"""Runs side by side, on the tasks that all of them answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from armor_ros.errors import ArmorError
from armor_ros.evaluation.differences import differences
from armor_ros.evaluation.intervals import Flags
from armor_ros.evaluation.judgements import Judgements, read_judgements
from armor_ros.evaluation.labelled import Labelled
from armor_ros.evaluation.lines import Key, Line, common_value, key_of, read_lines, run_folders
from armor_ros.evaluation.metrics import score
from armor_ros.evaluation.reasoning import Referenced

SCHEMA = 1
_TRUTH = ('label', 'label_weak', 'label_explanation')


@dataclass(frozen=True)
class Run:
    """One run's lines, and what judges said of them."""

    name: str
    lines: list[Line]
    judgements: Mapping[str, Judgements]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """
    Read run folders in the order given; of a single one, its baselines too.

    Raises ArmorError when there are not two different ones.
    """
    chosen = list(folders)
    if len(chosen) == 1:
        chosen = list(run_folders(chosen[0]))
    if len(chosen) < 2:
        listed = ', '.join(map(str, folders)) or 'nothing'
        raise ArmorError(
            f'there is nothing to compare {listed} with: give two run folders or more, or one '
            'with baselines'
        )
    repeated = [path for path, count in Counter(p.resolve() for p in chosen).items() if count > 1]
    if repeated:
        raise ArmorError(f'{repeated[0]} is given twice; compare different runs')
    return [Run(str(path), read_lines(path), read_judgements(path)) for path in chosen]


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """
    Return every run's metrics on the common tasks, and how each differs from the first.

    Tasks are joined by source and by the sample's id, in a bag the task's. Left out and counted
    are tasks that another run lacks, names that a run has more than once, and tasks that the runs
    label differently. ``mcnemar`` is the exact test, which takes tasks for independent;
    ``differences`` are run minus reference, with bootstrap intervals that draw whole recordings.
    """
    indexed = [_index(run) for run in runs]
    shared = [key for key in indexed[0][0] if all(key in lines for lines, _ in indexed)]
    keys = [key for key in shared if _is_agreed([lines[key] for lines, _ in indexed])]
    if shared and not keys:
        raise ArmorError(
            f'the runs label each of their {len(shared)} common tasks differently, or explain it '
            'differently; evaluate them with the same labels'
        )
    if not keys:
        raise ArmorError(
            'the runs have no task in common: ' + '; '.join(_sources(run) for run in runs)
        )
    aligned = [_align(indexed[0][0], lines, keys) for lines, _ in indexed]
    metrics = [score(lines, run.judgements) for lines, run in zip(aligned, runs, strict=True)]
    return {
        'schema': SCHEMA,
        'runs': [
            {
                'name': run.name,
                'model': common_value(run.lines, 'model'),
                'tasks': len(run.lines),
                'not_joined': len(run.lines) - len(keys),
                'repeated': repeated,
            }
            for run, (_, repeated) in zip(runs, indexed, strict=True)
        ],
        'common': {
            'tasks': len(keys),
            'labelled_differently': len(shared) - len(keys),
            'labelled': metrics[0]['counts']['labelled'],
            'labels_used': metrics[0]['run']['labels_used'],
            'clusters': metrics[0]['run']['clusters'],
        },
        'metrics': {run.name: _figures(values) for run, values in zip(runs, metrics, strict=True)},
        'pairs': [
            _pair(runs[0], run, aligned[0], lines)
            for run, lines in zip(runs[1:], aligned[1:], strict=True)
        ],
    }


def mcnemar(first: Flags, second: Flags) -> dict[str, Any]:
    """
    Compare two runs' right answers on the same tasks by McNemar's exact test.

    ``p_value`` is two-sided: how likely a split of the tasks on which only one run is right is,
    at least as uneven as this one, were both runs equally good. 1 where there is no such task.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    uneven = only_first + only_second
    p_value = stats.binomtest(only_first, uneven).pvalue if uneven else 1.0
    return {
        'both_right': int((first & second).sum()),
        'only_reference_right': only_first,
        'only_run_right': only_second,
        'both_wrong': int((~first & ~second).sum()),
        'p_value': round(float(p_value), 9),
    }


def _index(run: Run) -> tuple[dict[Key, Line], int]:
    """Return a run's lines by key, and how many have a name that is not theirs alone."""
    counts = Counter(key_of(line) for line in run.lines)
    lines = {key: line for line in run.lines if counts[key := key_of(line)] == 1}
    return lines, len(run.lines) - len(lines)


def _is_agreed(lines: Sequence[Line]) -> bool:
    """Tell whether all runs know the same of a task."""
    return all(line.get(key) == lines[0].get(key) for line in lines for key in _TRUTH)


def _align(first: Mapping[Key, Line], lines: Mapping[Key, Line], keys: Sequence[Key]) -> Any:
    """Return a run's lines in the first one's order and with its clusters."""
    return [
        {**lines[key], **{name: first[key].get(name, '') for name in ('episode', 'group')}}
        for key in keys
    ]


def _sources(run: Run) -> str:
    names = sorted({line['source'] for line in run.lines})
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return f'{run.name} is on {", ".join(names[:3])}{more}'


def _figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a run that are compared, by name."""
    reasoning, doubt, abstention = (metrics[k] for k in ('reasoning', 'doubt', 'abstention'))
    judges = {
        f'judge {name}{" failures" if part == "failures" else ""}': values[part]
        for name, values in reasoning['judges'].items()
        for part in ('total', 'failures')
    }
    return {
        **metrics['detection'],
        'rouge_l': reasoning['rouge_l']['total'],
        'rouge_l failures': reasoning['rouge_l']['failures'],
        **judges,
        **{name: doubt[name] for name in ('ece', 'brier', 'nll')},
        'coverage': abstention['coverage'],
        'error_answered': abstention['error_answered'],
        'inference_seconds': metrics['cost']['inference_seconds']['mean'],
    }


def _pair(reference: Run, run: Run, first: list[Line], second: list[Line]) -> dict[str, Any]:
    chosen = [
        index for index, line in enumerate(first) if line['label'] and not line.get('label_weak')
    ] or [index for index, line in enumerate(first) if line['label']]
    tasks = [Labelled.of([lines[index] for index in chosen]) for lines in (first, second)]
    referenced = [
        Referenced(first, reference.judgements),
        Referenced(second, run.judgements),
    ]
    return {
        'reference': reference.name,
        'run': run.name,
        'n': len(chosen),
        'independent': tasks[0].bootstrap.clusters == len(chosen),
        'mcnemar': mcnemar(tasks[0].right, tasks[1].right),
        'differences': differences(tasks, referenced),
    }
