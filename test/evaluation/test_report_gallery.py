# SPDX-License-Identifier: Apache-2.0
"""The report's tasks: what is called wrong, in which order they come, and which get a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from some_lines import a_line, a_round, of_baseline, unknown

from armor_ros.evaluation.report import gallery as module
from armor_ros.evaluation.report.gallery import confidence, gallery, outcome, worst_first
from armor_ros.evaluation.report.pictures import choose


def test_each_task_has_one_outcome() -> None:
    weak = {'label_weak': True}
    cases = {
        'wrong': [a_line(0, 'success', 0.9), a_line(0, 'failure', 0.1)],
        'right': [a_line(0, 'failure', 0.9), of_baseline(0, 'success', False)],
        'contradicts': [
            a_line(0, 'success', 0.9, **weak),
            a_line(0, None, 0.9, disagrees_with_status=True),
        ],
        'agrees': [a_line(0, 'failure', 0.9, **weak)],
        'unanswered': [unknown(0), of_baseline(0, 'failure', None)],
        'abstained': [a_line(0, 'success', 0.6, verdict='ABSTAIN')],
        'unlabelled': [a_line(0, None, 0.9)],
    }
    for name, lines in cases.items():
        assert [outcome(line) for line in lines] == [name] * len(lines)


def some_line(number: int, label: str | None, probability: float, kind: str) -> dict[str, Any]:
    """Return a line whose answer is given, held back, missing, or without a probability."""
    if kind == 'unknown':
        return unknown(number, label)
    if kind == 'baseline':
        return of_baseline(number, label, probability >= 0.5)
    verdict = {'verdict': 'ABSTAIN'} if kind == 'abstain' else {}
    return a_line(number, label, probability, **verdict)


LINES = st.lists(
    st.tuples(
        st.sampled_from(['failure', 'success', None]),
        st.floats(0, 1),
        st.sampled_from(['given', 'abstain', 'unknown', 'baseline']),
    ),
    max_size=30,
).map(lambda rows: [some_line(number, *row) for number, row in enumerate(rows)])


@given(LINES)
def test_confident_and_wrong_ones_come_first(lines: list[dict[str, Any]]) -> None:
    order = worst_first(lines)
    assert sorted(order) == list(range(len(lines)))
    outcomes = [outcome(lines[index]) for index in order]
    ranks = [list(module.OUTCOMES).index(name) for name in outcomes]
    assert ranks == sorted(ranks)
    sure = [confidence(lines[index]) or 0.5 for index in order]
    for (name, one), (other_name, other) in zip(
        zip(outcomes, sure, strict=True),
        list(zip(outcomes, sure, strict=True))[1:],
        strict=False,
    ):
        if name == other_name == 'wrong':
            assert one >= other
        elif name == other_name == 'right':
            assert one <= other


@given(LINES)
def test_every_line_gets_its_turn_for_a_picture_once(lines: list[dict[str, Any]]) -> None:
    order = worst_first(lines)
    chosen = choose(lines, order)
    assert sorted(chosen) == sorted(order)
    assert chosen[:1] == order[:1]


def test_rare_kinds_get_a_picture_early() -> None:
    lines = [a_line(number, 'success', 0.9) for number in range(50)]
    lines.append(a_line(50, 'failure', 0.9, task_kind='rare'))
    chosen = choose(lines, worst_first(lines))
    assert 50 in chosen[:5]


def test_zeros_are_told_and_what_is_empty_is_not() -> None:
    (task,) = gallery(Path('absent'), [a_line(0, 'failure', 0.0)])['tasks']
    assert task['number'] == 0
    assert task['p'] == 0.0
    assert task['said'] == 'success'
    assert 'picture' not in task
    assert 'status' not in task


def test_texts_of_many_tasks_are_cut(tmp_path: Path) -> None:
    long = 'x' * 5000
    trace = [a_round(index, 0.9, long) for index in range(4)]
    lines = [a_line(number, trace=trace, instruction=long) for number in range(3000)]
    content = gallery(tmp_path, lines)
    assert len(str(content)) < 12_000_000
    assert content['tasks'][0]['instruction'].endswith('…')
    (alone,) = gallery(tmp_path, lines[:1])['tasks']
    assert len(alone['explanation']) == 2000


def test_more_tasks_than_a_page_holds_are_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, 'MOST_TASKS', 2)
    lines = [a_line(number, 'success', 0.5 + number / 10) for number in range(4)]
    content = gallery(tmp_path, lines)
    assert [task['number'] for task in content['tasks']] == [3, 2]
    assert content['shown'] == {'tasks': 2, 'of_tasks': 4, 'pictures': 0, 'of_pictures': 0}
