# SPDX-License-Identifier: Apache-2.0
"""``armor score``, ``compare`` and ``calibrate`` as a user meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from some_lines import MODEL, a_line, of_baseline, random_lines, write_lines
from typer.testing import CliRunner

from armor_ros.cli import app
from armor_ros.errors import ArmorError


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    lines = random_lines(40)
    folder = write_lines(tmp_path / 'run', lines)
    baseline = [
        of_baseline(n, line['label'], False, label_explanation=line['label_explanation'])
        for n, line in enumerate(lines)
    ]
    write_lines(folder / 'baselines' / 'always-success', baseline)
    return folder


def test_score_writes_metrics_of_a_run_and_its_baselines(run: Path) -> None:
    result = invoke('score', run)
    assert result.exit_code == 0, result.output
    for text in ('accuracy', 'always', 'rouge_l', 'combined'):
        assert text in result.output
    own = json.loads((run / 'metrics.json').read_text())
    other = json.loads((run / 'baselines' / 'always-success' / 'metrics.json').read_text())
    assert own['counts']['tasks'] == other['counts']['tasks'] == 40
    assert other['detection']['recall']['value'] == 0.0


def test_score_is_a_gate(run: Path, tmp_path: Path) -> None:
    limits = tmp_path / 'limits.yaml'
    limits.write_text('detection.accuracy.value: {min: 0.5}')
    assert invoke('score', run, '--limits', limits).exit_code == 0
    limits.write_text('detection.accuracy.low: {min: 0.999}')
    result = invoke('score', run, '--limits', limits)
    assert result.exit_code == 1
    assert isinstance(result.exception, ArmorError)
    assert 'detection.accuracy.low is 0.' in str(result.exception)
    # the figures are there all the same
    assert (run / 'metrics.json').is_file()


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'label_weak': True}, 'agreement with it, not accuracy'),
        ({'label': None}, 'No task has a label'),
    ],
)
def test_score_says_what_its_labels_are(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    folder = write_lines(tmp_path, [a_line(n, **changes) for n in range(3)])
    assert sentence in ' '.join(invoke('score', folder).output.split())


def test_compare_writes_and_prints(run: Path, tmp_path: Path) -> None:
    output = tmp_path / 'compare.json'
    result = invoke('compare', run, '--output', output)
    assert result.exit_code == 0, result.output
    assert 'McNemar' in result.output
    comparison = json.loads(output.read_text())
    assert comparison['common']['tasks'] == 40
    assert 'not compared' not in result.output
    more = write_lines(tmp_path / 'more', random_lines(41))
    printed = invoke('compare', run, more, '--output', output).output
    assert '1 of 41 tasks are not compared' in ' '.join(printed.split())
    refused = invoke('compare', run, more, '--output', tmp_path)
    assert 'is a folder' in str(refused.exception)


def test_calibrate_keeps_what_it_learnt_beside_the_checkpoint(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from armor_ros.model.checkpoint import load_checkpoint

    checkpoint = tmp_path / 'checkpoint'
    shutil.copytree(tiny_checkpoint, checkpoint)
    weights = load_checkpoint(checkpoint, device='cpu').info.weights_hash
    lines = random_lines(60)
    for line in lines:
        line['model'] = {**MODEL, 'weights_hash': weights}
    folder = write_lines(tmp_path / 'run', lines)
    result = invoke('calibrate', folder, '--checkpoint', checkpoint)
    assert result.exit_code == 0, result.output
    assert 'error level 0.1: FAILURE needs a probability above' in result.output
    printed = ' '.join(result.output.split())
    assert 'accuracy is balanced' in printed
    assert '1 *' in printed
    assert 'rounds: 1, the fewest whose score is within one standard error' in printed
    assert 'trajectories: 2, as in the run' in printed
    model = load_checkpoint(checkpoint, device='cpu')
    assert model.calibration is not None
    assert model.calibration.target_error == 0.1
    assert (model.info.rounds, model.info.trajectories) == (1, 2)
    again = invoke('calibrate', folder, '--checkpoint', checkpoint)
    assert 'give --force' in str(again.exception)
    forced = invoke(
        *('calibrate', folder / 'predictions.jsonl', '--checkpoint', checkpoint),
        *('--force', '--target-error', 0.2),
    )
    assert forced.exit_code == 0, forced.output
    asked = invoke('calibrate', folder, '--checkpoint', checkpoint, '--force', '--rounds', 3)
    assert 'rounds: 3, as asked; the fewest' in asked.output
    assert load_checkpoint(checkpoint, device='cpu').info.rounds == 3
    refused = invoke(
        *('calibrate', folder, '--checkpoint', checkpoint, '--force', '--target-error', 0.001)
    )
    assert 'for which 999 failed' in str(refused.exception)
    # a refusal leaves what there was
    kept = load_checkpoint(checkpoint, device='cpu').calibration
    assert kept is not None
    assert (kept.target_error, kept.rounds) == (0.1, 3)
