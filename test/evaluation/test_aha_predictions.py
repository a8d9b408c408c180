# SPDX-License-Identifier: Apache-2.0
"""Answers in the form that AHA's metric scripts read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from some_lines import a_line, of_baseline, unknown, write_lines

from armor_ros.evaluation.outcome import write_aha_predictions

SUCCESS = 'Yes, the robot succeed at the sub-task.'


@pytest.mark.parametrize(
    ('name', 'question'),
    [
        ('12', 12),
        ('0', 0),
        ('007', '007'),
        ('a1', 'a1'),
        ('-1', '-1'),
        ('²', '²'),
        ('9' * 30,) * 2,
    ],
)
def test_ids_are_numbers_only_where_they_were(
    tmp_path: Path, name: str, question: int | str
) -> None:
    write_lines(tmp_path, [a_line(0, sample_id=name)])
    row = json.loads(write_aha_predictions(tmp_path).read_text(encoding='utf-8'))
    assert row['question_id'] == question
    assert type(row['question_id']) is type(question)


def test_answers_say_yes_or_no_and_why(tmp_path: Path) -> None:
    lines = [
        a_line(0, probability=0.9, explanation=' it slipped '),
        a_line(1, probability=0.1),
        a_line(2, probability=0.9, verdict='ABSTAIN', explanation=''),
        of_baseline(3, 'failure', False),
        of_baseline(4, 'failure', None),
        unknown(5),
    ]
    write_lines(tmp_path, lines)
    rows = write_aha_predictions(tmp_path).read_text(encoding='utf-8').splitlines()
    texts = [json.loads(row)['text'] for row in rows]
    assert texts == ['No, it slipped', SUCCESS, 'No', SUCCESS, '', '']


def test_half_characters_do_not_stop_it(tmp_path: Path) -> None:
    path = write_lines(tmp_path, [a_line(0, sample_id='cut')]) / 'predictions.jsonl'
    path.write_text(path.read_text().replace('"cut"', r'"\udcff.mp4"'))
    row = json.loads(write_aha_predictions(tmp_path).read_text(encoding='utf-8'))
    assert row['question_id'] == '\udcff.mp4'
