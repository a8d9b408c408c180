# SPDX-License-Identifier: Apache-2.0
"""A calibrated checkpoint gives calibrated probabilities, and withholds what is too doubtful."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from armor_ros.episodes.diagnosis import (
    Diagnosis,
    InputMode,
    RefinementSettings,
    Verdict,
    settled,
)
from armor_ros.errors import ArmorError
from armor_ros.inference.decision import Decision
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.model.calibration import (
    Calibration,
    hash_config,
    settings_record,
    write_calibration,
)
from armor_ros.model.checkpoint import load_checkpoint, with_config
from armor_ros.parameters import MonitorParameters

SETTINGS = RefinementSettings(rounds=2, trajectories=2, max_new_tokens=6)
FPS = 5.0


def a_calibration(info: Any, scores: tuple[float, ...], **changes: Any) -> Calibration:
    values = {
        'weights_hash': info.weights_hash,
        'config_hash': changes.pop('config_hash', ''),
        'quantization': info.quantization,
        'settings': settings_record(SETTINGS, InputMode.CLIP, FPS),
        'temperature': 3.0,
        'target_error': 0.2,
        'labels': 'strong',
        'tasks': 2 * len(scores),
        'failure_scores': scores,
        'success_scores': scores,
    }
    return Calibration(**{**values, **changes})


# All but the most certain answers could have been either label's.
STRICT = tuple(0.9 + n / 1000 for n in range(20))
LAX = tuple(n / 1000 for n in range(20))


@pytest.fixture
def plain(model: Any, make_episode: Any) -> Diagnosis:
    return Diagnoser(model).diagnose(make_episode(), SETTINGS)


def test_a_checkpoint_is_loaded_with_its_calibration(
    lively_path: Path, tmp_path: Path, make_episode: Any
) -> None:
    folder = tmp_path / 'calibrated'
    shutil.copytree(lively_path, folder)
    before = load_checkpoint(folder)
    assert before.calibration is None
    assert 'armor calibrate' in before.why_uncalibrated
    calibration = a_calibration(before.info, STRICT, config_hash=hash_config(folder))
    write_calibration(calibration, folder)
    after = load_checkpoint(folder)
    assert after.calibration == calibration
    assert (before.info.calibration, after.info.calibration) == ('', calibration.identity)
    plain = Diagnoser(before).diagnose(make_episode(), SETTINGS)
    diagnosis = Diagnoser(after).diagnose(make_episode(), SETTINGS)
    assert (plain.calibrated, plain.target_error) == (False, 0.0)
    assert (diagnosis.calibrated, diagnosis.target_error) == (True, 0.2)
    assert diagnosis.failure_probability == calibration.probability(plain.failure_probability)
    assert diagnosis.verdict is Verdict.ABSTAIN
    # what the model said stays on record, as do its words
    assert (diagnosis.trace, diagnosis.explanation) == (plain.trace, plain.explanation)


def test_a_checkpoint_brings_its_numbers_of_rounds_and_trajectories(
    lively_path: Path, tmp_path: Path, make_episode: Any
) -> None:
    """A number that is asked for wins, then the calibration's, then the paper's."""
    untold = dataclasses.replace(SETTINGS, rounds=0, trajectories=0, tolerance=0.0)
    plain = load_checkpoint(lively_path)
    papers = Diagnoser(plain).diagnose(make_episode(), untold).settings
    assert papers == settled(untold, plain.info)
    assert (papers.rounds, papers.trajectories) == (4, 3)
    folder = tmp_path / 'calibrated'
    shutil.copytree(lively_path, folder)
    record = settings_record(
        dataclasses.replace(untold, rounds=1, trajectories=2), InputMode.CLIP, FPS
    )
    calibration = a_calibration(plain.info, LAX, config_hash=hash_config(folder), settings=record)
    write_calibration(calibration, folder)
    model = load_checkpoint(folder)
    assert (model.info.rounds, model.info.trajectories) == (1, 2)
    diagnosis = Diagnoser(model).diagnose(make_episode(), untold)
    assert (diagnosis.settings.rounds, diagnosis.settings.trajectories) == (1, 2)
    assert len(diagnosis.trace) == 2
    assert diagnosis.calibrated
    asked = Diagnoser(model).diagnose(make_episode(), dataclasses.replace(untold, rounds=2))
    assert (asked.rounds, asked.settings.rounds, asked.calibrated) == (2, 2, False)
    # of another config it is no longer known
    other = with_config(model, model.config).info
    assert (other.rounds, other.trajectories) == (0, 0)


def test_a_lax_calibration_lets_the_answer_stand(model: Any, plain: Diagnosis) -> None:
    decision = Decision(a_calibration(model.info, LAX), InputMode.CLIP)
    decided = decision.apply(plain, SETTINGS, FPS)
    assert (decided.verdict, decided.calibrated) == (plain.verdict, True)


@pytest.mark.parametrize('failed', [True, False])
def test_the_level_that_is_asked_for_counts(model: Any, plain: Diagnosis, failed: bool) -> None:
    probability = 0.8 if failed else 0.2
    answer = dataclasses.replace(plain.trace[0], failure_probability=probability, failed=failed)
    verdict = Verdict.FAILURE if failed else Verdict.SUCCESS
    given = dataclasses.replace(
        plain, trace=(answer,), selected=0, failure_probability=probability, verdict=verdict
    )
    # scores 0.05 to 0.95: the answer stands at a level of 0.3, and not at 0.1
    scores = tuple(0.05 * (n + 1) for n in range(19))
    decision = Decision(a_calibration(model.info, scores, temperature=1.0), InputMode.CLIP)
    for level, expected, told in (
        (0.3, verdict, 0.3),
        (0.1, Verdict.ABSTAIN, 0.1),
        (0.0, Verdict.ABSTAIN, 0.2),
        (1.0, verdict, 0.0),
    ):
        settings = dataclasses.replace(SETTINGS, target_error=level)
        decision.check(settings, FPS)
        decided = decision.apply(dataclasses.replace(given, settings=settings), settings, FPS)
        assert (decided.verdict, decided.target_error) == (expected, told), level
        assert decided.failure_probability == pytest.approx(probability)


def test_a_level_that_nothing_vouches_for_is_refused(model: Any, make_episode: Any) -> None:
    asked = dataclasses.replace(SETTINGS, target_error=0.1)
    with pytest.raises(ArmorError, match=r'target_error is 0\.1, which nothing vouches for'):
        Diagnoser(model).diagnose(make_episode(), asked)
    anything = dataclasses.replace(SETTINGS, target_error=1.0)
    assert Diagnoser(model).diagnose(make_episode(), anything).calibrated is False
    decision = Decision(a_calibration(model.info, STRICT), InputMode.CLIP)
    with pytest.raises(ArmorError, match='rounds is 3, and was 2'):
        decision.check(dataclasses.replace(asked, rounds=3), FPS)
    with pytest.raises(ArmorError, match='for which 99 failed and 99 successful tasks'):
        decision.check(dataclasses.replace(asked, target_error=0.01), FPS)
    for level in (-0.1, 1.5, float('nan')):
        with pytest.raises(ArmorError, match='it must be in'):
            decision.check(dataclasses.replace(asked, target_error=level), FPS)


def test_other_settings_give_the_plain_answer_and_the_reason_once(
    model: Any, plain: Diagnosis, caplog: pytest.LogCaptureFixture
) -> None:
    decision = Decision(a_calibration(model.info, STRICT), InputMode.COLLAGE)
    with caplog.at_level(logging.INFO, 'armor_ros.inference.decision'):
        for _ in range(2):
            assert decision.apply(plain, SETTINGS, FPS) == plain
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "input_mode is 'collage', and was 'clip'" in record.getMessage()


def test_an_answer_with_less_than_was_asked_for_is_withheld(model: Any, plain: Diagnosis) -> None:
    decision = Decision(a_calibration(model.info, LAX), InputMode.CLIP)
    reduced = dataclasses.replace(
        plain, settings=dataclasses.replace(SETTINGS, trajectories=1, target_error=0.2)
    )
    asked = dataclasses.replace(SETTINGS, target_error=0.2)
    decided = decision.apply(reduced, asked, FPS)
    assert (decided.verdict, decided.calibrated) == (Verdict.ABSTAIN, False)
    assert decision.apply(reduced, SETTINGS, FPS).verdict is plain.verdict


def test_the_monitor_s_parameter_is_the_level_asked_for() -> None:
    assert MonitorParameters().refinement_settings().target_error == 0.0
    assert MonitorParameters(target_error=0.05).refinement_settings().target_error == 0.05
