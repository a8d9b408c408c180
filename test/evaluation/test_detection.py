# SPDX-License-Identifier: Apache-2.0
"""Detection equals scikit-learn's and hand-computed figures; no answer is a wrong one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from some_lines import a_line, a_round, of_baseline, random_lines, unknown

from armor_ros.evaluation.detection import abstention, confusion, detection, disagreement, groups
from armor_ros.evaluation.labelled import Labelled


def values(figures: dict[str, Any]) -> dict[str, float | None]:
    return {name: figure['value'] for name, figure in figures.items()}


def test_figures_equal_scikit_learns() -> None:
    lines = random_lines(120)
    truth = [line['label'] == 'failure' for line in lines]
    said = [line['verdict'] == 'FAILURE' for line in lines]
    score = [line['failure_probability'] for line in lines]
    expected = {
        'accuracy': metrics.accuracy_score(truth, said),
        'balanced_accuracy': metrics.balanced_accuracy_score(truth, said),
        'precision': metrics.precision_score(truth, said),
        'recall': metrics.recall_score(truth, said),
        'specificity': metrics.recall_score(truth, said, pos_label=False),
        'f1': metrics.f1_score(truth, said),
        'auroc': metrics.roc_auc_score(truth, score),
        'average_precision': metrics.average_precision_score(truth, score),
    }
    false_alarms, found, _ = metrics.roc_curve(truth, score)
    expected['tpr_at_fpr_05'] = found[false_alarms <= 0.05].max()
    figures = detection(Labelled.of(lines))
    assert values(figures) == {name: pytest.approx(v, abs=1e-6) for name, v in expected.items()}
    assert all(figure['low'] <= figure['value'] <= figure['high'] for figure in figures.values())


def test_no_answer_is_wrong_whatever_the_label() -> None:
    lines = [
        a_line(0, 'failure', 0.9),
        a_line(1, 'failure', 0.2),
        unknown(2, 'failure'),
        a_line(3, 'success', 0.1),
        of_baseline(4, 'success', None),
        a_line(5, 'success', 0.6),
    ]
    tasks = Labelled.of(lines)
    assert confusion(tasks) == {
        'true_failure': 1,
        'false_failure': 1,
        'true_success': 1,
        'false_success': 1,
        'unanswered_failure': 1,
        'unanswered_success': 1,
    }
    figures = detection(tasks)
    by_hand = {
        'accuracy': 2 / 6,
        'precision': 1 / 2,
        'recall': 1 / 3,
        'specificity': 1 / 3,
        'balanced_accuracy': 1 / 3,
        'f1': 2 / (3 + 1 + 1),
        # of the four with a probability: 0.9 and 0.2 against 0.1 and 0.6
        'auroc': 3 / 4,
    }
    for name, value in by_hand.items():
        assert figures[name]['value'] == pytest.approx(value, abs=1e-6), name
    assert (figures['accuracy']['n'], figures['auroc']['n']) == (6, 4)


def test_an_answer_beneath_an_abstention_counts_as_given() -> None:
    tasks = Labelled.of([a_line(0, 'failure', 0.6, verdict='ABSTAIN')])
    assert confusion(tasks)['true_failure'] == 1


def test_the_selected_answer_counts_where_labels_are_sampled() -> None:
    sampled = {**a_round(0, 0.4), 'failed': True}
    tasks = Labelled.of([a_line(0, 'failure', trace=[sampled])])
    assert confusion(tasks)['true_failure'] == 1


@pytest.mark.parametrize(
    ('lines', 'empty'),
    [
        ([], {'accuracy', 'recall', 'specificity', 'precision', 'f1', 'auroc'}),
        ([a_line(0, 'success', 0.1)], {'recall', 'precision', 'f1', 'auroc', 'balanced_accuracy'}),
        ([a_line(0, 'failure', 0.1)], {'specificity', 'precision', 'auroc', 'balanced_accuracy'}),
        ([of_baseline(n, 'failure' if n else 'success', True) for n in (0, 1)], {'auroc'}),
    ],
)
def test_what_is_not_defined_is_null_with_a_reason(lines: Any, empty: set[str]) -> None:
    figures = detection(Labelled.of(lines))
    for name in empty:
        assert figures[name]['value'] is None
        assert figures[name]['reason']
    for name in ('accuracy', 'recall', 'specificity', 'precision', 'f1'):
        assert (figures[name]['value'] is None) == (name in empty), name


def test_abstention_by_hand() -> None:
    lines = [
        a_line(0, 'failure', 0.9),
        a_line(1, 'failure', 0.1),
        a_line(2, 'failure', 0.6, verdict='ABSTAIN'),
        a_line(3, 'success', 0.1),
        a_line(4, 'success', 0.4, verdict='ABSTAIN'),
        unknown(5, 'success'),
    ]
    for line in lines[:5]:
        line.update(calibrated=True, target_error=0.2)
    result = abstention(Labelled.of(lines))
    assert result['coverage']['value'] == pytest.approx(3 / 6)
    assert result['error_answered']['value'] == pytest.approx(1 / 3, abs=1e-6)
    assert result['error_by_class']['failure']['value'] == pytest.approx(1 / 3, abs=1e-6)
    assert result['error_by_class']['success']['value'] == 0.0
    assert result['coverage_by_class']['success']['value'] == pytest.approx(1 / 3, abs=1e-6)
    assert result['target_error'] == 0.2
    lines[0]['target_error'] = 0.1
    assert abstention(Labelled.of(lines))['target_error'] is None


def test_disagreement_with_the_robot_by_hand() -> None:
    def line(number: int, status: str, probability: float, label: str | None, **more: Any) -> Any:
        return a_line(number, label, probability, task_status=status, **more)

    lines = [
        line(0, 'SUCCEEDED', 0.9, 'failure'),
        line(1, 'SUCCEEDED', 0.9, 'success'),
        line(2, 'SUCCEEDED', 0.9, None),
        line(3, 'SUCCEEDED', 0.9, 'success', label_weak=True),
        line(4, 'ABORTED', 0.1, 'success'),
        line(5, 'ABORTED', 0.9, 'failure'),
        line(6, 'SUCCEEDED', 0.1, None),
        # neither said anything that could be contradicted
        line(7, 'CANCELED', 0.9, 'failure'),
        line(8, 'SUCCEEDED', 0.6, 'failure', verdict='ABSTAIN'),
        unknown(9, task_status='SUCCEEDED'),
    ]
    result = disagreement(lines)
    assert (result['n'], result['said_succeeded_video_failed']) == (7, 4)
    assert result['said_aborted_video_succeeded'] == 1
    assert result['agreement']['value'] == pytest.approx(2 / 7, abs=1e-6)
    assert (result['confirmed']['value'], result['confirmed']['n']) == (0.666667, 3)
    assert disagreement([])['agreement']['value'] is None


def test_groups_part_the_tasks() -> None:
    lines = [
        a_line(0, 'failure', 0.9, injected_mode='slip'),
        a_line(1, 'failure', 0.1, injected_mode='slip', split='unseen'),
        a_line(2, 'success', 0.1),
    ]
    result = groups(Labelled.of(lines))
    assert set(result['injected_mode']) == {'slip'}
    slip = result['injected_mode']['slip']
    assert (slip['n'], slip['failures'], slip['recall']['value']) == (2, 2, 0.5)
    assert slip['specificity']['value'] is None
    assert {name: group['n'] for name, group in result['split'].items()} == {
        'test': 2,
        'unseen': 1,
    }


def test_tasks_of_one_group_are_one_cluster() -> None:
    lines = [a_line(n, group='a' if n < 2 else '', episode=f'set/{n // 2}') for n in range(6)]
    assert Labelled.of(lines).bootstrap.clusters == 3
    assert np.isfinite(Labelled.of(lines).probability).all()
