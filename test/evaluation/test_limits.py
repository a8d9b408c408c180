# SPDX-License-Identifier: Apache-2.0
"""Limits hold or are named, and a limit that cannot be understood is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from some_lines import a_line, random_lines

from armor_ros.errors import ArmorError
from armor_ros.evaluation.limits import Limit, broken_limits, check_limits, read_limits
from armor_ros.evaluation.metrics import score

METRICS = {
    'detection': {'accuracy': {'value': 0.9, 'low': 0.8, 'high': 0.95, 'n': 40}},
    'doubt': {'ece': {'value': None, 'low': None, 'reason': 'no task has a probability'}},
    'rounds': [{'round': 0, 'accuracy': {'value': 0.7}}],
    'policies': None,
}


def test_bounds_are_read(tmp_path: Path) -> None:
    file = tmp_path / 'limits.yaml'
    file.write_text(
        'detection.accuracy.low: {min: 0.85}\ndoubt.ece.value:\n  max: 0.1\n'
        'rounds.0.accuracy.value: {min: 0, max: 1}\n'
    )
    assert read_limits(file) == (
        Limit('detection.accuracy.low', minimum=0.85),
        Limit('doubt.ece.value', maximum=0.1),
        Limit('rounds.0.accuracy.value', 0.0, 1.0),
    )


def test_a_limit_itself_is_allowed() -> None:
    name = 'detection.accuracy.low'
    assert broken_limits(METRICS, [Limit(name, 0.8, 0.8)]) == []
    assert broken_limits(METRICS, [Limit('rounds.0.accuracy.value', 0.7)]) == []


def test_broken_limits_are_named_with_value_and_bound() -> None:
    limits = [
        Limit('detection.accuracy.low', minimum=0.85),
        Limit('detection.accuracy.n', maximum=30),
        Limit('doubt.ece.value', maximum=0.1),
        Limit('detection.accuracy.value', minimum=0.5),
    ]
    with pytest.raises(ArmorError) as caught:
        check_limits(METRICS, limits)
    assert str(caught.value).split('\n') == [
        '3 of 4 limits do not hold:',
        'detection.accuracy.low is 0.8; it must be at least 0.85',
        'detection.accuracy.n is 40; it must be at most 30',
        'doubt.ece.value has no value: no task has a probability',
    ]
    check_limits(METRICS, limits[3:])


@pytest.mark.parametrize(
    ('name', 'near'),
    [
        ('detection.acuracy.low', 'detection.accuracy.low'),
        ('detection.accuracy', 'detection.accuracy.value'),
        ('accuracy', 'detection.accuracy.value'),
        ('rounds.1.accuracy.value', 'rounds.0.accuracy.value'),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ArmorError, match=f"no metric '{name}'; did you mean '{near}'"):
        broken_limits(METRICS, [Limit(name, minimum=0.0)])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'names no limit'),
        ('- a', 'names no limit'),
        ('a: {min: 1', 'cannot be read'),
        ('a: 0.5', 'write {min: A}'),
        ('a: {least: 0.5}', 'write {min: A}'),
        ('a: {min: high}', 'it must be a number'),
        ('a: {min: .nan}', 'it must be a number'),
        ('a: {min: true}', 'it must be a number'),
        ('a: {min: 2, max: 1}', 'min 2 is above max 1'),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / 'limits.yaml'
    file.write_text(text)
    with pytest.raises(ArmorError, match=message):
        read_limits(file)
    with pytest.raises(ArmorError, match='cannot be read'):
        read_limits(tmp_path / 'nowhere.yaml')


def test_every_number_of_real_metrics_can_be_limited() -> None:
    metrics = score([*random_lines(30), a_line(99, injected_mode='slip')])
    names = [
        'detection.balanced_accuracy.high',
        'reasoning.rouge_l.failures.value',
        'policies.last.accuracy.low',
        'groups.injected_mode.slip.recall.value',
        'cost.inference_seconds.p90',
        'disagreement.said_succeeded_video_failed',
        'counts.unknown',
        'doubt.error_auroc.combined_entropy.low',
    ]
    assert broken_limits(metrics, [Limit(name) for name in names]) == []
