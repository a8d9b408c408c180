# SPDX-License-Identifier: Apache-2.0
"""
The figures of a study: of one model's answers, of differences, and of several seeds together.

The interval of a figure over seeds has two parts, which add up as the sides of a right angle do:
how far the interval over tasks reaches to either side, as a mean over the seeds, and Student's
interval of the seeds' values. With one seed it is that over tasks alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from armor_ros.errors import ArmorError
from armor_ros.evaluation.detection import detection, groups
from armor_ros.evaluation.differences import auroc_difference
from armor_ros.evaluation.doubt import error_auroc, expected_calibration_error
from armor_ros.evaluation.failure_kinds import kind_figures, kind_of
from armor_ros.evaluation.intervals import CONFIDENCE, Array, Figure, figure, no_figure
from armor_ros.evaluation.labelled import Labelled
from armor_ros.evaluation.lines import Line, has_reference, key_of
from armor_ros.evaluation.reasoning import Referenced, rouge_l

_DETECTION = ('accuracy', 'balanced_accuracy', 'recall', 'specificity', 'auroc')


def answer_figures(lines: Sequence[Line], kinds: Mapping[str, str]) -> dict[str, Figure]:
    """
    Return the figures of one model's answers by name, all of tasks with a label.

    ``kinds`` are the kinds of the failures by sample (see ``failure_kinds.sample_kinds``).
    ``detected KIND`` and ``named KIND`` are of the failures of a kind, ``detected injected MODE``
    of those of attempts that were disturbed so. ``error_auroc`` says how well a measure of doubt
    tells wrong answers from right ones; ``seconds`` has no interval.
    """
    tasks = Labelled.of([line for line in lines if line['label']])
    referenced = Referenced(lines, {})
    rouge = referenced.rouge([line.get('explanation') or '' for line in referenced.lines])
    found = kind_figures(tasks, kinds)
    detected = detection(tasks)
    doubts = error_auroc(tasks)
    modes = groups(tasks)['injected_mode']
    return {
        **{name: detected[name] for name in _DETECTION},
        'answered': tasks.bootstrap.proportion(tasks.answered, tasks.everything),
        'rouge_l': referenced.mean(rouge),
        'rouge_l_failures': referenced.mean(rouge, referenced.failed),
        **{name: found[name] for name in ('right_kind', 'right_kind_detected', 'says_success')},
        'ece': expected_calibration_error(tasks),
        **{f'error_auroc {name}': value for name, value in doubts.items()},
        **{f'detected {kind}': value for kind, value in found['detected'].items()},
        **{f'named {kind}': value for kind, value in found['named'].items()},
        **{f'detected injected {mode}': own['recall'] for mode, own in modes.items()},
        'rounds': _mean(lines, 'rounds'),
        'seconds': _mean([line.get('timing') or {} for line in lines], 'inference_seconds'),
    }


def difference_figures(
    first: Sequence[Line], second: Sequence[Line], kinds: Mapping[str, str]
) -> dict[str, Figure]:
    """Return second minus first, paired task by task; ArmorError when the tasks differ."""
    if [key_of(line) for line in first] != [key_of(line) for line in second]:
        raise ArmorError('the answers are to different tasks; evaluate them all again')
    chosen = [index for index, line in enumerate(first) if line['label']]
    kept = [[lines[index] for index in chosen] for lines in (first, second)]
    both = [Labelled.of(lines) for lines in kept]
    tasks = both[0]
    values = [_values(lines, kinds) for lines in kept]
    failed = tasks.failed
    explained = np.array([has_reference(line) for line in tasks.lines], np.bool_)
    known = np.array([str(line.get('sample_id') or '') in kinds for line in tasks.lines], np.bool_)
    among = {
        'accuracy': tasks.everything,
        'rouge_l': explained,
        'rouge_l_failures': explained & failed,
        'right_kind': known & failed,
    }
    means = {
        name: tasks.bootstrap.mean(values[1][_of(name)] - values[0][_of(name)], chosen_ones)
        for name, chosen_ones in among.items()
    }
    return {**means, 'auroc': auroc_difference(tasks.bootstrap, both)}


def over_seeds(figures: Sequence[Figure], low: float = 0.0, high: float = 1.0) -> Figure:
    """
    Return the mean of a figure over seeds with its interval, held within ``low`` and ``high``.

    ``values`` are those of the seeds that have one. See this module on the interval.
    """
    known = [each for each in figures if each['value'] is not None]
    if not known:
        reason = figures[0].get('reason', '') if figures else 'there is no answer yet'
        return {**no_figure(reason), 'values': []}
    values = [float(each['value']) for each in known]
    mean = sum(values) / len(values)
    spread = _spread(values)
    is_bounded = all(each['low'] is not None for each in known)
    below = above = 0.0
    if is_bounded:
        below = sum(each['value'] - each['low'] for each in known) / len(known)
        above = sum(each['high'] - each['value'] for each in known) / len(known)
    parts = (('tasks', is_bounded), ('seeds', len(values) > 1))
    whole = [name for name, is_part in parts if is_part]
    bounds: tuple[float | None, float | None] = (None, None)
    if whole:
        bounds = (
            max(low, mean - math.hypot(below, spread)),
            min(high, mean + math.hypot(above, spread)),
        )
    result = figure(
        mean, *bounds, n=max(each['n'] for each in known), interval=' and '.join(whole)
    )
    return {**result, 'values': values}


def _spread(values: Sequence[float]) -> float:
    """Return the half width of Student's interval of a mean; 0 of a single value."""
    count = len(values)
    if count < 2:
        return 0.0
    factor = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    return factor * float(np.std(values, ddof=1)) / math.sqrt(count)


def _of(name: str) -> str:
    return 'rouge_l' if name == 'rouge_l_failures' else name


def _values(lines: Sequence[Line], kinds: Mapping[str, str]) -> dict[str, Array]:
    """Return what each task counts in each figure that is subtracted."""
    texts = [line.get('explanation') or '' for line in lines]
    truth = [kinds.get(str(line.get('sample_id') or ''), '') for line in lines]
    rouge = [
        rouge_l(line.get('label_explanation') or '', text)
        for line, text in zip(lines, texts, strict=True)
    ]
    named = [kind_of(text) == kind for text, kind in zip(texts, truth, strict=True)]
    return {
        'accuracy': Labelled.of(lines).right.astype(np.float64),
        'rouge_l': np.array(rouge, np.float64),
        'right_kind': np.array(named, np.float64),
    }


def _mean(entries: Sequence[Mapping[str, Any]], key: str) -> Figure:
    values = [float(entry[key]) for entry in entries if entry.get(key) is not None]
    if not values:
        return no_figure('it was not measured')
    return figure(sum(values) / len(values), n=len(values))
