# SPDX-License-Identifier: Apache-2.0
"""``armor evaluate`` as a user meets it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from armor_ros.cli import app
from armor_ros.errors import ArmorError
from armor_ros.evaluation.command import EvaluationRequest, evaluation_parameters

PARAMETERS = """
/**:
  ros__parameters:
    frame_height: 56
    frame_width: 56
    rounds: 1
    trajectories: 1
    max_new_tokens: 4
    checkpoint: {checkpoint}
"""


def test_the_command_writes_predictions(
    robot_bag: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 3.0)
    bag = robot_bag.write(tmp_path / 'bag')
    parameters = tmp_path / 'monitor.yaml'
    parameters.write_text(PARAMETERS.format(checkpoint=tiny_checkpoint))
    arguments = ['evaluate', str(bag), '--output', str(tmp_path / 'out')]
    arguments += ['--params-file', str(parameters), '--camera', 'eye=/front/image_raw/compressed']
    arguments += ['--instruction', '/pick=pick up the [red] can', '--device', 'cpu']
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert '1 tasks: 1 ' in result.stderr
    assert 'never trained' in result.stderr
    (text,) = (tmp_path / 'out' / 'predictions.jsonl').read_text().splitlines()
    line = json.loads(text)
    assert line['instruction'] == 'pick up the [red] can'
    assert [camera['camera'] for camera in line['cameras']] == ['eye']


def test_a_recording_without_tasks_fails_the_command(
    robot_bag: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    robot_bag.camera(seconds=(0.0, 0.5))
    bag = robot_bag.write(tmp_path / 'bag')
    arguments = ['evaluate', str(bag), '--output', str(tmp_path / 'out')]
    result = CliRunner().invoke(app, [*arguments, '--checkpoint', str(tiny_checkpoint)])
    assert result.exit_code == 1
    assert isinstance(result.exception, ArmorError)
    assert 'holds no task' in str(result.exception)


def test_arguments_win_over_the_parameters_file(tmp_path: Path) -> None:
    file = tmp_path / 'monitor.yaml'
    file.write_text(PARAMETERS.format(checkpoint='of/the/file'))
    request = EvaluationRequest([], tmp_path, params_file=file)
    assert evaluation_parameters(request).checkpoint == 'of/the/file'
    merged = evaluation_parameters(replace(request, checkpoint='mine', quantization='8bit'))
    assert (merged.checkpoint, merged.quantization, merged.rounds) == ('mine', '8bit', 1)


def test_a_model_or_a_baseline_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ArmorError, match='no model: give --checkpoint'):
        evaluation_parameters(EvaluationRequest([], tmp_path))
