# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from typing import Any

import pytest

from armor_ros.errors import ArmorError
from armor_ros.evaluation.intervals import figure, no_figure
from armor_ros.evaluation.lines import Line
from armor_ros.training.study_answers import as_answered
from armor_ros.training.study_figures import answer_figures, difference_figures, over_seeds
from armor_ros.training.study_page import cell, table

SLIPPED = 'the can slips out of the gripper'
PUT_AWAY = 'The robot put the can away as asked.'


def entry(index: int, failed: bool, combined: float, *, best: bool = True) -> dict[str, Any]:
    return {
        'round': index, 'trajectory': 0, 'failed': failed,
        'failure_probability': 0.8 if failed else 0.2,
        'explanation': SLIPPED if failed else PUT_AWAY, 'detection_entropy': combined / 2,
        'explanation_entropy': combined, 'combined_entropy': combined, 'best': best,
    }  # fmt: skip


def line(name: str, label: str, *trace: dict[str, Any]) -> Line:
    last = trace[-1]
    return {
        'source': 'toy', 'sample_id': name, 'task_id': name, 'label': label, 'rounds': 2,
        'label_explanation': SLIPPED if label == 'failure' else PUT_AWAY, 'status': 'OK',
        'verdict': 'ABSTAIN', 'trace': list(trace), 'selected': len(trace) - 1,
        'failure_probability': last['failure_probability'], 'explanation': last['explanation'],
        'timing': {'inference_seconds': 0.25},
    }  # fmt: skip


TRACE = (entry(0, True, 0.9), entry(0, False, 1.5, best=False), entry(1, False, 0.3),
         entry(2, True, 0.6))  # fmt: skip


@pytest.mark.parametrize(('way', 'chosen'), [('round_0', 0), ('best', 2), ('last', 3)])
def test_rounds_are_answers_of_their_own(way: Any, chosen: int) -> None:
    found = as_answered(line('a', 'failure', *TRACE), way)
    assert found['selected'] == chosen
    assert found['verdict'] == ('FAILURE' if TRACE[chosen]['failed'] else 'SUCCESS')
    for key in ('failure_probability', 'explanation', 'detection_entropy', 'combined_entropy'):
        assert found[key] == TRACE[chosen][key]


def test_a_single_pass_and_no_answer_stay_as_they_are() -> None:
    own = line('a', 'failure', *TRACE)
    assert as_answered(own, 'single') is own
    unknown = {**own, 'trace': [], 'selected': None, 'verdict': 'UNKNOWN'}
    assert as_answered(unknown, 'last') is unknown


def lines_of(*failed: bool) -> list[Line]:
    """Answers to three failures and a success."""
    labels = ('failure', 'failure', 'failure', 'success')
    return [
        as_answered(line(f's{i}', label, entry(0, said, 0.4 + 0.1 * i)), 'last')
        for i, (label, said) in enumerate(zip(labels, failed, strict=True))
    ]


KINDS = {'s0': 'dropped', 's1': 'dropped', 's2': 'wrong_object'}


def test_figures_of_answers() -> None:
    found = answer_figures(lines_of(True, False, True, True), KINDS)
    expected = {
        'accuracy': 0.5, 'recall': 2 / 3, 'specificity': 0.0, 'balanced_accuracy': 1 / 3,
        'answered': 1.0, 'right_kind': 1 / 3, 'says_success': 1 / 3, 'detected dropped': 0.5,
        'detected wrong_object': 1.0, 'named dropped': 0.5, 'named wrong_object': 0.0,
        'rounds': 2.0, 'seconds': 0.25,
        # the wrong answers have ranks 2 and 4 of 4
        'error_auroc detection_entropy': 0.75,
    }  # fmt: skip
    assert {name: found[name]['value'] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert found['rouge_l']['value'] == pytest.approx(0.5 + found['rouge_l_failures']['value'] / 4,
                                                      abs=0.2)  # fmt: skip


def test_differences_are_paired() -> None:
    first, second = lines_of(True, False, True, True), lines_of(True, True, True, False)
    found = difference_figures(first, second, KINDS)
    assert found['accuracy']['value'] == 0.5
    assert found['right_kind']['value'] == pytest.approx(1 / 3, abs=1e-6)
    areas = [answer_figures(lines, KINDS)['auroc']['value'] for lines in (first, second)]
    assert found['auroc']['value'] == pytest.approx(areas[1] - areas[0], abs=1e-6)
    assert areas[0] != areas[1]
    assert 0 < found['rouge_l_failures']['value'] < 1
    same = difference_figures(first, first, KINDS)
    assert {each['value'] for each in same.values()} == {0.0}
    with pytest.raises(ArmorError, match='different tasks'):
        difference_figures(first, second[::-1], KINDS)


def test_intervals_over_tasks_and_seeds_add_up() -> None:
    seeds = [figure(value, value - 0.03, value + 0.04, n=9) for value in (0.5, 0.6, 0.7)]
    found = over_seeds(seeds)
    # Student's t with two degrees of freedom, of a deviation of 0.1
    student = 4.302653 * 0.1 / math.sqrt(3)
    assert found['value'] == pytest.approx(0.6)
    assert found['low'] == pytest.approx(0.6 - math.hypot(student, 0.03), abs=1e-6)
    assert found['high'] == pytest.approx(0.6 + math.hypot(student, 0.04), abs=1e-6)
    assert found['interval'] == 'tasks and seeds'
    assert found['values'] == [0.5, 0.6, 0.7]


def test_an_interval_needs_tasks_or_seeds() -> None:
    one = over_seeds([figure(0.5, 0.4, 0.7, n=9)])
    assert (one['low'], one['high'], one['interval']) == (0.4, 0.7, 'tasks')
    bare = over_seeds([figure(0.5, n=9)])
    assert (bare['value'], bare['low'], bare['interval']) == (0.5, None, '')
    seeds = over_seeds([figure(0.5, n=9), figure(0.52, 0.4, 0.7, n=9)])
    assert seeds['interval'] == 'seeds'
    assert seeds['low'] == pytest.approx(0.51 - 12.706205 * 0.0141421 / math.sqrt(2), abs=1e-4)
    nothing = over_seeds([no_figure('no failure'), no_figure('no failure')])
    assert (nothing['value'], nothing['reason'], nothing['values']) == (None, 'no failure', [])
    partly = over_seeds([no_figure('no failure'), figure(0.5, 0.4, 0.7, n=9)])
    assert (partly['value'], partly['values']) == (0.5, [0.5])


def test_shares_stay_within_0_and_1() -> None:
    found = over_seeds([figure(value, value - 0.1, value, n=9) for value in (0.1, 1.0)])
    assert (found['low'], found['high']) == (0.0, 1.0)
    signed = over_seeds([figure(value, value - 0.1, value, n=9) for value in (0.0, 0.1)], -1.0)
    assert signed['low'] < 0


def test_cells() -> None:
    assert cell(None) == cell(no_figure('nothing')) == '-'
    assert cell(figure(0.5, n=3)) == '0.500'
    assert cell(figure(0.5, -0.25, 0.75, n=3), signed=True) == '+0.500 [-0.250, +0.750]'
    assert table(('a', 'b'), [('1', '2')]) == '| a | b |\n|---|---|\n| 1 | 2 |'
    assert table(('a',), []) == ''
