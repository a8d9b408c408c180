# SPDX-License-Identifier: Apache-2.0
"""Lines are read as they are meant, and what is wrong with one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from some_lines import SETTINGS, a_line, a_round, of_baseline, unknown, write_lines

from armor_ros.episodes.diagnosis import ReturnPolicy
from armor_ros.errors import ArmorError
from armor_ros.evaluation.lines import (
    answer_within,
    answered_failed,
    best_answers,
    cluster_of,
    common_value,
    key_of,
    read_lines,
    run_folders,
)


def test_a_folder_and_its_file_are_the_same_lines(tmp_path: Path) -> None:
    lines = [a_line(0, explanation='two\u2028lines'), unknown(1)]
    folder = write_lines(tmp_path / 'run', lines)
    assert read_lines(folder) == read_lines(folder / 'predictions.jsonl') == lines


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'verdict': 'MAYBE'}, "verdict is 'MAYBE'"),
        ({'label': 'yes'}, "label is 'yes'"),
        ({'failure_probability': 1.5}, 'failure_probability is 1.5'),
        ({'failure_probability': '0.5'}, "failure_probability is '0.5'"),
        ({'combined_entropy': True}, 'combined_entropy is True'),
        ({'selected': 7}, 'selected is 7'),
    ],
)
def test_a_wrong_value_is_named_with_its_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = write_lines(tmp_path, [a_line(0), a_line(1, **change)])
    with pytest.raises(ArmorError, match=f'line 2: {message}'):
        read_lines(folder)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"source": "a"', 'is no line of predictions'),
        ('[1]', 'is not a JSON object'),
        ('{"source": "a", "task_id": "b", "verdict": "SUCCESS"}', "has no 'label'"),
        ('{"failure_probability": NaN}', 'NaN is not a number'),
        ('\n', 'is empty'),
    ],
)
def test_what_is_no_line_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / 'predictions.jsonl').write_text(text)
    with pytest.raises(ArmorError, match=message):
        read_lines(tmp_path)


def test_a_missing_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArmorError, match=r'holds no predictions\.jsonl'):
        read_lines(tmp_path)
    with pytest.raises(ArmorError, match='there is no'):
        read_lines(tmp_path / 'nowhere')


def test_what_was_answered() -> None:
    assert answered_failed(a_line(0, probability=0.5)) is True
    assert answered_failed(a_line(0, probability=0.4)) is False
    assert answered_failed(unknown(0)) is None
    assert answered_failed(of_baseline(0, None, False)) is False
    assert answered_failed(of_baseline(0, None, None)) is None
    # the parsed answer of a baseline counts, whatever its probability
    assert answered_failed(of_baseline(0, None, True, failure_probability=0.2)) is True
    abstained = of_baseline(0, None, True, verdict='ABSTAIN', failure_probability=0.2)
    assert answered_failed(abstained) is False


def test_names_of_tasks_and_clusters() -> None:
    assert key_of(a_line(3)) == ('set', 's0003')
    assert key_of(a_line(3, sample_id='')) == ('set', 't3')
    assert cluster_of(a_line(3)) == 'set/3'
    assert cluster_of(a_line(3, group='g')) == 'g'
    assert cluster_of(a_line(3, episode='')) == 'set/s0003'


def test_the_best_answer_of_each_round() -> None:
    trace = [
        a_round(0, 0.3, best=False),
        a_round(0, 0.2, trajectory=1),
        a_round(1, 0.3),
        a_round(1, 0.4, trajectory=1, best=False),
    ]
    line = a_line(0, trace=trace)
    assert [answer['failure_probability'] for answer in best_answers(line)] == [0.2, 0.3]
    assert best_answers(unknown(0)) == []


def test_what_would_have_been_answered_within_some_rounds() -> None:
    trace = [
        a_round(0, 0.7),
        {**a_round(0, 0.8, trajectory=1, best=False), 'agreement': 0.9, 'combined_entropy': 2.0},
        a_round(1, 0.6),
    ]
    trace[0]['agreement'] = 0.4
    line = a_line(0, trace=trace)
    for rounds, policy, probability in (
        (1, ReturnPolicy.LAST, 0.7),
        (2, ReturnPolicy.LAST, 0.6),
        (9, ReturnPolicy.LAST, 0.6),
        (2, ReturnPolicy.BEST, 0.7),
    ):
        answer = answer_within(line, rounds, policy)
        assert answer is not None
        assert answer['failure_probability'] == probability
    agreed = {**line, 'settings': {**SETTINGS, 'explanation_choice': 'agreement'}}
    assert answer_within(agreed, 1) is trace[1]
    assert answer_within(agreed, 2, ReturnPolicy.BEST) is trace[1]
    assert answer_within(agreed, 2) is trace[2], 'it has no agreement: the run was out of time'
    assert [answer['failure_probability'] for answer in best_answers(agreed)] == [0.8, 0.6]
    assert answer_within(line, 0) is None
    assert answer_within(unknown(0), 4) is None


def test_values_in_common() -> None:
    lines = [a_line(0), unknown(1), a_line(2)]
    assert common_value(lines, 'model')['model_id'] == 'm'
    assert common_value([a_line(0, config_hash='a'), a_line(1)], 'config_hash') == ['a', 'c' * 16]
    assert common_value(lines[1:2], 'model') is None


def test_baselines_lie_in_the_run_folder(tmp_path: Path) -> None:
    for name in ('.', 'baselines/b', 'baselines/a'):
        write_lines(tmp_path / name, [a_line(0)])
    (tmp_path / 'baselines' / 'unfinished').mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in run_folders(tmp_path)]
    assert found == ['.', 'baselines/a', 'baselines/b']
    assert json.loads((tmp_path / 'predictions.jsonl').read_text())['label'] == 'failure'
