# SPDX-License-Identifier: Apache-2.0
"""Calibration from the lines of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize
from some_lines import MODEL, SETTINGS, a_line, a_round, of_baseline, unknown

from armor_ros.episodes.diagnosis import InputMode
from armor_ros.errors import ArmorError
from armor_ros.evaluation.calibrate import (
    LARGEST_TEMPERATURE,
    CheckpointIdentity,
    calibrate,
    check_free,
    fit_temperature,
    identify_checkpoint,
)
from armor_ros.model.calibration import CALIBRATION_FILE, tempered
from armor_ros.model.config import ArmorConfig

CHECKPOINT = CheckpointIdentity('weights', 'config', ArmorConfig())


def overconfident(count: int, factor: float = 3.0, seed: int = 0) -> list[dict[str, Any]]:
    """Return lines whose logits are ``factor`` times what they ought to be."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        logit = 1.5 * rng.normal()
        failed = rng.random() < 1 / (1 + np.exp(-logit))
        said = float(1 / (1 + np.exp(-factor * logit)))
        lines.append(a_line(number, 'failure' if failed else 'success', said))
    return lines


def raw_of(lines: list[dict[str, Any]]) -> tuple[Any, Any]:
    raw = np.array([line['failure_probability'] for line in lines])
    return raw, np.array([line['label'] == 'failure' for line in lines])


def test_words_are_learned_where_enough_tasks_of_both_outcomes_are_explained() -> None:
    lines = overconfident(60)
    said = {'failure': 'the can slipped', 'success': 'the can is there'}
    told = [{**line, 'label_explanation': said[line['label']]} for line in lines]
    words = calibrate(told, CHECKPOINT).calibration.words
    assert words['slipped'] > 3
    assert words['is there'] < -3
    assert words['the can'] == pytest.approx(0.0, abs=0.1)
    failures = [line for line in told if line['label'] == 'failure'][:19]
    few = [*failures, *(line for line in told if line['label'] == 'success')]
    assert calibrate(few, CHECKPOINT).calibration.words == {}
    unexplained = [{**line, 'label_explanation': None} for line in lines]
    assert calibrate(unexplained, CHECKPOINT).calibration.words == {}


def test_the_temperature_is_found_again() -> None:
    assert fit_temperature(*raw_of(overconfident(6000))) == pytest.approx(3.0, rel=0.08)
    assert fit_temperature(*raw_of(overconfident(6000, 0.5))) == pytest.approx(0.5, rel=0.08)


def test_no_other_temperature_is_likelier() -> None:
    raw, failed = raw_of(overconfident(300))
    failures, successes = failed.sum(), (~failed).sum()
    target = np.where(failed, (failures + 1) / (failures + 2), 1 / (successes + 2))

    def loss(temperature: float) -> float:
        p = np.array([tempered(value, temperature) for value in raw])
        return float(-(target * np.log(p) + (1 - target) * np.log(1 - p)).mean())

    best = optimize.brute(lambda t: loss(float(t[0])), [(0.5, 10)], Ns=400, finish=None)
    assert fit_temperature(raw, failed) == pytest.approx(float(best), abs=0.03)


def test_probabilities_that_say_nothing_have_the_largest_temperature() -> None:
    raw = np.array([0.9, 0.1] * 20)
    failed = np.array([True, True, False, False] * 10)
    assert fit_temperature(raw, failed) == LARGEST_TEMPERATURE


def test_a_set_without_errors_does_not_ask_for_certainty() -> None:
    raw = np.array([0.9] * 10 + [0.1] * 10)
    failed = np.array([True] * 10 + [False] * 10)
    temperature = fit_temperature(raw, failed)
    # Platt's targets are 11/12: 0.9 becomes that, and not 1
    assert tempered(0.9, temperature) == pytest.approx(11 / 12, abs=1e-4)


def test_a_calibration_from_lines() -> None:
    lines = overconfident(200)
    summary = calibrate(lines, CHECKPOINT, target_error=0.2)
    made = summary.calibration
    assert (made.weights_hash, made.config_hash, made.labels) == ('weights', 'config', 'strong')
    assert (made.tasks, made.target_error) == (200, 0.2)
    assert (made.settings['rounds'], made.rounds) == (1, 1), 'no task took more'
    assert made.trajectories == SETTINGS['trajectories']
    assert made.settings['input_mode'] == 'clip'
    assert made.settings['fps'] == 5.0
    assert len(made.failure_scores) == summary.failures
    assert len(made.success_scores) == summary.successes
    assert summary.failures + summary.successes == 200
    assert summary.nll[1] < summary.nll[0]
    assert summary.ece[1] < summary.ece[0]
    assert 0 < summary.answered < 1
    assert calibrate(lines, CHECKPOINT, target_error=0.2) == summary


def test_what_it_promises_holds_on_other_tasks() -> None:
    """Over 150 calibration sets of 60 tasks each; the model errs on about a quarter of tasks."""
    errors: dict[bool, list[float]] = {True: [], False: []}
    others, failed = raw_of(overconfident(1500, seed=999))
    for seed in range(150):
        summary = calibrate(overconfident(60, seed=seed), CHECKPOINT, target_error=0.1)
        made = summary.calibration
        wrong = np.array(
            [
                (raw >= 0.5) != fail
                and made.is_certain(made.probability(float(raw)), bool(raw >= 0.5), 0.1)
                for raw, fail in zip(others, failed, strict=True)
            ]
        )
        for label in (True, False):
            errors[label].append(float(wrong[failed == label].mean()))
    for label in (True, False):
        # the standard error over the calibration sets is 0.004
        assert np.mean(errors[label]) <= 0.1 + 0.012
        assert np.mean((others >= 0.5)[failed == label] != label) > 0.2


def test_only_one_task_of_a_recording_decides() -> None:
    lines = overconfident(200)
    for number, line in enumerate(lines):
        line['episode'] = f'set/{number // 10}'
    summary = calibrate(lines, CHECKPOINT)
    assert summary.calibration.tasks == 200
    assert len(summary.calibration.failure_scores) <= 20
    with pytest.raises(ArmorError, match='of different recordings are needed'):
        calibrate(lines, CHECKPOINT, target_error=0.04)


def test_too_few_tasks_are_refused() -> None:
    lines = [a_line(n, 'failure') for n in range(40)]
    lines += [a_line(100 + n, 'success', 0.1) for n in range(8)]
    with pytest.raises(
        ArmorError, match=r'has 40 failed and 8 successful ones, enough for .* 0\.11'
    ):
        calibrate(lines, CHECKPOINT)
    lines.append(a_line(200, 'success', 0.1))
    assert calibrate(lines, CHECKPOINT).successes == 9
    with pytest.raises(ArmorError, match='tasks that failed and tasks that succeeded'):
        calibrate(lines[:40], CHECKPOINT, target_error=1.0)


def test_what_is_left_out_is_counted() -> None:
    lines = overconfident(100)
    lines += [
        a_line(200, None),
        a_line(201, label_weak=True),
        unknown(202),
        of_baseline(203, 'failure', True),
        a_line(204, settings={**SETTINGS, 'trajectories': 1}),
        a_line(205, settings=None),
    ]
    summary = calibrate(lines, CHECKPOINT)
    assert summary.calibration.tasks == 100
    assert sum(summary.left_out.values()) == 6
    assert list(summary.left_out.values()) == [1, 2, 1, 1, 1]
    weak = calibrate(lines, CHECKPOINT, weak=True)
    assert (weak.calibration.tasks, weak.calibration.labels) == (101, 'weak')
    with pytest.raises(ArmorError, match=r'no task can be calibrated on: 1 with a weak label'):
        calibrate(lines[101:102], CHECKPOINT)


def test_what_the_model_said_counts_not_what_was_made_of_it() -> None:
    lines = overconfident(100)
    calibrated = [
        {**line, 'failure_probability': 0.5, 'calibrated': True, 'verdict': 'ABSTAIN'}
        for line in lines
    ]
    assert calibrate(calibrated, CHECKPOINT) == calibrate(lines, CHECKPOINT)


def test_the_input_mode_is_resolved_and_seeds_do_not_matter() -> None:
    lines = overconfident(60)
    for number, line in enumerate(lines):
        mode = 'collage' if number % 2 else None
        line['settings'] = {**SETTINGS, 'seed': number, 'input_mode': mode}
    collage = CheckpointIdentity('weights', '', ArmorConfig(input_mode=InputMode.COLLAGE))
    made = calibrate(lines, collage).calibration
    assert (made.tasks, made.settings['input_mode']) == (60, 'collage')
    assert 'seed' not in made.settings


def test_other_weights_are_refused() -> None:
    lines = overconfident(50)
    lines[7]['model'] = {**MODEL, 'weights_hash': 'others'}
    with pytest.raises(ArmorError, match="task 't7' was answered by other weights"):
        calibrate(lines, CHECKPOINT)


def test_old_lines_with_settings_that_are_gone_are_taken() -> None:
    lines = overconfident(50)
    for line in lines:
        line['settings'] = {**SETTINGS, 'gone': 1}
    assert calibrate(lines, CHECKPOINT).calibration.tasks == 50


def test_a_checkpoint_is_identified(tiny_checkpoint: Path) -> None:
    from armor_ros.model.checkpoint import load_checkpoint

    identity = identify_checkpoint(tiny_checkpoint)
    model = load_checkpoint(tiny_checkpoint, device='cpu')
    assert identity.weights_hash == model.info.weights_hash
    assert identity.config == model.config
    with pytest.raises(ArmorError, match='give a local folder'):
        identify_checkpoint(Path('Qwen/Qwen2.5-VL-7B-Instruct'))


def test_a_calibration_is_not_replaced_unasked(tmp_path: Path) -> None:
    check_free(tmp_path, force=False)
    (tmp_path / CALIBRATION_FILE).write_text('{}')
    with pytest.raises(ArmorError, match='give --force to replace'):
        check_free(tmp_path, force=False)
    check_free(tmp_path, force=True)


def test_the_selected_answer_decides_where_labels_are_sampled() -> None:
    lines = overconfident(60)
    sampled = {**a_round(0, 0.4), 'failed': True}
    lines.append(a_line(100, 'failure', trace=[sampled]))
    assert calibrate(lines, CHECKPOINT).calibration.tasks == 61
