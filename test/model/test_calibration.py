# SPDX-License-Identifier: Apache-2.0
"""Conformal thresholds hold on known distributions; a calibration is kept and refused rightly."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armor_ros.episodes.diagnosis import InputMode, ModelInfo, RefinementSettings, ReturnPolicy
from armor_ros.errors import ArmorError
from armor_ros.model.calibration import (
    CALIBRATION_FILE,
    Calibration,
    calibration_for,
    hash_config,
    least_count,
    read_calibration,
    score_of,
    settings_record,
    tempered,
    threshold,
    write_calibration,
)

SETTINGS = RefinementSettings()
INFO = ModelInfo('m', '', 'none', 'weights', True)


def a_calibration(**changes: Any) -> Calibration:
    values: dict[str, Any] = {
        'weights_hash': 'weights',
        'config_hash': '',
        'quantization': 'none',
        'settings': settings_record(SETTINGS, InputMode.CLIP, 5.0),
        'temperature': 2.0,
        'target_error': 0.2,
        'labels': 'strong',
        'tasks': 18,
        'failure_scores': tuple(n / 10 for n in range(9)),
        'success_scores': tuple(n / 20 for n in range(9)),
    }
    return Calibration(**{**values, **changes})


def test_the_temperature_divides_the_logit() -> None:
    assert tempered(0.8, 1.0) == pytest.approx(0.8)
    assert tempered(0.8, 2.0) == pytest.approx(1 / (1 + math.exp(-math.log(4) / 2)))
    assert tempered(0.5, 7.0) == 0.5
    # certainty is as far from 0 and 1 as single precision can be
    assert tempered(1.0, 1.0) == pytest.approx(1 - 1e-7)
    assert tempered(0.0, 0.05) > 0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 20))
def test_the_temperature_keeps_the_order(first: float, second: float, temperature: float) -> None:
    low, high = sorted((first, second))
    assert 0 <= tempered(low, temperature) <= tempered(high, temperature) <= 1


@pytest.mark.parametrize(
    ('target_error', 'value'),
    # nine scores 1..9: of ten places for the next one, the error is the share beyond the value
    [(0.1, 9), (0.2, 8), (0.5, 5), (0.9, 1), (0.15, 9), (0.05, math.inf), (1.0, -math.inf)],
)
def test_the_quantile_by_hand(target_error: float, value: float) -> None:
    assert threshold(tuple(range(1, 10)), target_error) == value


@pytest.mark.parametrize(
    ('target_error', 'count'), [(0.1, 9), (0.05, 19), (0.01, 99), (0.3, 3), (0.5, 1), (1.0, 0)]
)
def test_the_least_count_is_just_enough(target_error: float, count: int) -> None:
    assert least_count(target_error) == count
    assert threshold(tuple(range(count)), target_error) < math.inf
    if count:
        assert threshold(tuple(range(count - 1)), target_error) == math.inf


@pytest.mark.parametrize(
    ('n', 'target_error'), [(9, 0.1), (40, 0.1), (40, 0.25), (200, 0.05), (19, 0.05)]
)
def test_wrong_verdicts_stay_below_the_target_error(n: int, target_error: float) -> None:
    """
    Scores of known distributions: a poor model, whose classes overlap and which favours success.

    Over many calibration sets, the share of a class that gets the opposite verdict is at most the
    target error, on average; the label's own exclusion, which bounds it, is not far below it.
    """
    rng = np.random.default_rng(n)
    trials, tests = 600, 50
    wrong: dict[bool, list[float]] = {True: [], False: []}
    excluded: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(trials):
        scores = {
            failed: tuple(sorted(score_of(p, failed) for p in draw(rng, failed, n)))
            for failed in (True, False)
        }
        calibration = a_calibration(failure_scores=scores[True], success_scores=scores[False])
        for failed in (True, False):
            limit = threshold(scores[failed], target_error)
            probabilities = draw(rng, failed, tests)
            outs = [score_of(p, failed) > limit for p in probabilities]
            bad = [
                (p >= 0.5) != failed and calibration.is_certain(p, p >= 0.5, target_error)
                for p in probabilities
            ]
            excluded[failed].append(np.mean(outs))
            wrong[failed].append(np.mean(bad))
    for failed in (True, False):
        # three standard errors of the mean over the trials
        slack = 3 * np.std(excluded[failed]) / math.sqrt(trials)
        assert np.mean(wrong[failed]) <= target_error + slack
        assert np.mean(excluded[failed]) <= target_error + slack
        assert np.mean(excluded[failed]) >= target_error - 1 / (n + 1) - slack
    # the model alone would have been wrong more often than that on failures
    assert np.mean(draw(rng, True, 20000) < 0.5) > target_error


def draw(rng: np.random.Generator, failed: bool, count: int) -> Any:
    """Return probabilities of failure, of a model that errs on 28 % of failures and 16 %."""
    logit = rng.normal(0.7, 1.2, count) if failed else rng.normal(-1.2, 1.2, count)
    return 1 / (1 + np.exp(-logit))


def test_a_good_model_answers_although_its_classes_are_apart() -> None:
    # every score is small: an answer of 0.7 is doubtful for no class
    scores = tuple(n / 100 for n in range(20))
    calibration = a_calibration(failure_scores=scores, success_scores=scores)
    assert calibration.is_certain(0.7, True, 0.1)
    assert calibration.is_certain(0.3, False, 0.1)


def test_an_answer_that_its_opposite_could_have_had_is_withheld() -> None:
    calibration = a_calibration()
    # nine successes had up to 0.4; at a level of 0.1 only what is above is no success
    assert not calibration.is_certain(0.4, True, 0.1)
    assert calibration.is_certain(0.41, True, 0.1)
    assert calibration.is_certain(0.0, True, 1.0)


def test_too_small_a_set_is_refused_with_what_it_suffices_for() -> None:
    message = (
        'target_error is 0.05, for which 19 failed and 19 successful tasks .* has 9 failed and '
        '9 successful ones, enough for an error of 0.1'
    )
    with pytest.raises(ArmorError, match=message):
        a_calibration().is_certain(0.9, True, 0.05)
    a_calibration().check(0.1)
    for level in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ArmorError, match='target_error is'):
            a_calibration().check(level)


@pytest.mark.parametrize(
    ('change', 'name'),
    [
        ({'rounds': 2}, 'rounds is 2, and was 4'),
        ({'trajectories': 1}, 'trajectories is 1, and was 3'),
        ({'input_mode': InputMode.COLLAGE}, "input_mode is 'collage', and was 'clip'"),
        ({'return_policy': ReturnPolicy.BEST}, "return_policy is 'best', and was 'last'"),
        ({'deadline': 2.0}, 'deadline is 2.0, and was 0.0'),
        ({'camera': 'wrist'}, "camera is 'wrist', and was ''"),
    ],
)
def test_other_settings_are_named(change: Any, name: str) -> None:
    settings = dataclasses.replace(SETTINGS, **change)
    assert a_calibration().why_not(settings, InputMode.CLIP, 5.0) == name


def test_what_makes_no_difference_is_not_asked() -> None:
    settings = dataclasses.replace(SETTINGS, seed=9, target_error=0.3, input_mode=InputMode.CLIP)
    assert a_calibration().why_not(settings, InputMode.CLIP, 5.0) == ''
    assert 'fps is 2.0' in a_calibration().why_not(SETTINGS, InputMode.CLIP, 2.0)


def test_a_calibration_comes_back_from_its_folder(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None
    calibration = a_calibration(success_scores=(0.1, 1 / 3, 0.7))
    path = write_calibration(calibration, tmp_path)
    before = path.read_bytes()
    assert read_calibration(tmp_path) == calibration
    write_calibration(calibration, tmp_path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [CALIBRATION_FILE]
    assert calibration.identity != a_calibration().identity


def test_a_calibration_of_something_else_is_not_used(tmp_path: Path) -> None:
    calibration, reason = calibration_for(tmp_path, INFO)
    assert (calibration, 'armor calibrate makes one' in reason) == (None, True)
    write_calibration(a_calibration(), tmp_path)
    assert calibration_for(tmp_path, INFO) == (a_calibration(), '')
    for change, what in (
        ({'weights_hash': 'x'}, 'other weights'),
        ({'quantization': '4bit'}, "quantization 'none', not '4bit'"),
    ):
        found, reason = calibration_for(tmp_path, dataclasses.replace(INFO, **change))
        assert found is None
        assert what in reason
    (tmp_path / 'armor_config.json').write_text('{}')
    assert 'another armor_config.json' in calibration_for(tmp_path, INFO)[1]
    assert hash_config(tmp_path) != ''


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('{', '', 'remove it, or calibrate anew'),
        ('"temperature": 2.0', '"temperature": 0.0', 'temperature is 0.0'),
        ('"schema": 1', '"schema": 2', 'schema is 2'),
        ('"tasks"', '"task"', "unknown key 'task'"),
        ('"target_error": 0.2', '"target_error": 0.0', 'target_error is 0.0'),
        ('0.8\n', '0.05\n', 'failure_scores must ascend'),
        ('"temperature": 2.0', '"temperature": NaN', 'temperature is nan'),
    ],
)
def test_a_broken_calibration_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_calibration(a_calibration(), tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ArmorError, match=message):
        read_calibration(tmp_path)
