# SPDX-License-Identifier: Apache-2.0
"""Runs are joined task by task, and their differences tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from some_lines import a_line, a_round, of_baseline, random_lines, unknown, write_lines

from armor_ros.errors import ArmorError
from armor_ros.evaluation.compare import Run, compare, mcnemar, read_runs


def run(name: str, lines: list[Any], **judgements: Any) -> Run:
    return Run(name, lines, judgements)


@pytest.mark.parametrize(
    ('only_first', 'only_second', 'p_value'),
    # by hand: twice the tail of a fair coin, at most 1
    [(0, 0, 1.0), (1, 0, 1.0), (5, 5, 1.0), (0, 6, 2 / 64), (2, 10, 2 * 79 / 4096)],
)
def test_mcnemar_by_hand(only_first: int, only_second: int, p_value: float) -> None:
    first = np.array([True] * 3 + [True] * only_first + [False] * only_second + [False])
    second = np.array([True] * 3 + [False] * only_first + [True] * only_second + [False])
    assert mcnemar(first, second) == {
        'both_right': 3,
        'only_reference_right': only_first,
        'only_run_right': only_second,
        'both_wrong': 1,
        'p_value': pytest.approx(p_value, abs=1e-9),
    }


def test_tasks_are_joined_and_what_is_not_is_counted() -> None:
    first = [a_line(0), a_line(1), a_line(2), a_line(2), a_line(3), a_line(4)]
    second = [
        a_line(3, probability=0.1),
        a_line(2),
        a_line(1, label='success'),
        a_line(0),
        a_line(9),
        a_line(4, source='other'),
    ]
    result = compare([run('a', first), run('b', second)])
    assert result['common']['tasks'] == 2
    assert result['common']['labelled_differently'] == 1
    told = [(entry['tasks'], entry['not_joined'], entry['repeated']) for entry in result['runs']]
    assert told == [(6, 4, 2), (6, 4, 0)]
    assert result['metrics']['a']['accuracy']['value'] == 1.0
    assert result['metrics']['b']['accuracy']['value'] == 0.5
    json.dumps(result, allow_nan=False)


def test_differences_are_run_minus_reference() -> None:
    lines = random_lines(100, clusters=50)
    better = []
    for number, line in enumerate(lines):
        right = a_round(0, 0.95 if line['label'] == 'failure' else 0.05, line['label_explanation'])
        trace = [right] if number % 4 == 0 else line['trace']
        better.append(
            a_line(
                number,
                line['label'],
                trace=trace,
                label_explanation=line['label_explanation'],
                episode=line['episode'],
            )
        )
    (pair,) = compare([run('old', lines), run('new', better)])['pairs']
    assert (pair['reference'], pair['run'], pair['n']) == ('old', 'new', 100)
    assert pair['independent'] is False
    accuracy = pair['differences']['accuracy']
    test = pair['mcnemar']
    gained = test['only_run_right'] - test['only_reference_right']
    assert accuracy['value'] == pytest.approx(gained / 100)
    assert 0 < accuracy['low'] <= accuracy['value'] <= accuracy['high']
    for name in ('auroc', 'rouge_l', 'rouge_l failures'):
        assert pair['differences'][name]['value'] > 0
        assert pair['differences'][name]['interval'] == 'bootstrap'
    assert pair['differences']['brier']['value'] < 0


def test_the_paired_interval_is_narrower_than_two_of_their_own() -> None:
    lines = random_lines(200)
    changed = [dict(line) for line in lines]
    for line in changed[:8]:
        line['trace'] = [{**line['trace'][-1], 'failed': line['label'] == 'failure'}]
        line['selected'] = 0
    result = compare([run('a', lines), run('b', changed)])
    difference = result['pairs'][0]['differences']['accuracy']
    alone = result['metrics']['a']['accuracy']
    assert difference['high'] - difference['low'] < 0.5 * (alone['high'] - alone['low'])


def test_a_run_does_not_differ_from_itself() -> None:
    lines = random_lines(30)
    (pair,) = compare([run('a', lines), run('b', lines)])['pairs']
    assert pair['mcnemar']['p_value'] == 1.0
    for figure in pair['differences'].values():
        assert figure['value'] == 0.0
        assert figure['low'] is None


def test_a_baseline_without_probabilities_compares_where_it_can() -> None:
    lines = random_lines(30)
    baseline = [
        of_baseline(n, line['label'], True, label_explanation=line['label_explanation'])
        for n, line in enumerate(lines)
    ]
    (pair,) = compare([run('a', lines), run('b', baseline)])['pairs']
    assert pair['differences']['recall']['value'] > 0
    assert pair['differences']['auroc']['value'] is None
    assert pair['differences']['brier']['value'] is None
    unlabelled = [unknown(0, None)]
    (pair,) = compare([run('a', unlabelled), run('b', unlabelled)])['pairs']
    assert (pair['n'], pair['differences']['accuracy']['value']) == (0, None)


def test_runs_without_a_common_task_say_what_they_are_on() -> None:
    with pytest.raises(ArmorError, match='a is on set; b is on other'):
        compare([run('a', [a_line(0)]), run('b', [a_line(0, source='other')])])
    with pytest.raises(ArmorError, match='each of their 1 common tasks differently'):
        compare([run('a', [a_line(0)]), run('b', [a_line(0, label='success')])])


def test_one_folder_is_compared_with_its_baselines(tmp_path: Path) -> None:
    folder = write_lines(tmp_path / 'run', [a_line(0)])
    with pytest.raises(ArmorError, match='nothing to compare'):
        read_runs([folder])
    write_lines(folder / 'baselines' / 'status', [of_baseline(0, 'failure', False)])
    names = [Path(entry.name).name for entry in read_runs([folder])]
    assert names == ['run', 'status']
    with pytest.raises(ArmorError, match='given twice'):
        read_runs([folder, folder / '..' / 'run'])
