# SPDX-License-Identifier: Apache-2.0
"""Training under DeepSpeed, for those who have it; on processors it talks over gloo."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from distributed_run import RECIPE, ROUGH_RECIPE
from toy_training import LOSSES, distance, losses_of, make_trainer, smaller

from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.recipe_files import recipe_text
from armor_ros.training.run_folder import RunFolder

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('deepspeed') is None, reason='there is no deepspeed'
)
CONFIG = Path(__file__).parents[2] / 'config/accelerate/deepspeed.yaml'


def command(
    recipe: TrainingRecipe, data: Path, folder: Path, stage: int, precision: str
) -> tuple[list[str], dict[str, str]]:
    """Return a command line that trains in two processes, and its environment."""
    (folder / 'toy.yaml').write_text(recipe_text(recipe))
    config = yaml.safe_load(CONFIG.read_text())
    config |= {
        'num_processes': 2, 'mixed_precision': precision, 'deepspeed_config': {'zero_stage': stage}
    }  # fmt: skip
    (folder / 'deepspeed.yaml').write_text(yaml.safe_dump(config))
    line = [
        sys.executable, '-m', 'accelerate.commands.launch', '--main_process_port', '0',
        '--config_file', folder / 'deepspeed.yaml', '-m', 'armor_ros.cli', 'train',
        folder / 'toy.yaml', '--data', data, '--output', folder / 'out', '--tracker', 'none',
    ]  # fmt: skip
    environment = os.environ | {
        'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'DS_ACCELERATOR': 'cpu',
    }  # fmt: skip
    return list(map(str, line)), environment


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    line, environment = command(*arguments)  # type: ignore[arg-type]
    return subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


def test_weights_are_those_of_one_process(toy_data: Path, tmp_path: Path) -> None:
    # a bound that each gradient exceeds: they are clipped as elsewhere
    recipe = smaller(RECIPE, optimizer=dataclasses.replace(RECIPE.optimizer, clip_norm=0.01))
    alone = make_trainer(recipe, toy_data, tmp_path / 'alone').train().state_dict()
    result = run(recipe, toy_data, tmp_path, 1, 'no')
    assert result.returncode == 0, result.stdout + result.stderr
    found = load_checkpoint(tmp_path / 'out/checkpoint', device='cpu').state_dict()
    assert distance(found, alone) < 1e-3


def test_half_precision_is_that_of_one_process(toy_data: Path, tmp_path: Path) -> None:
    expected = losses_of(ROUGH_RECIPE, toy_data, tmp_path / 'alone')
    result = run(ROUGH_RECIPE, toy_data, tmp_path, 1, 'bf16')
    assert result.returncode == 0, result.stdout + result.stderr
    lines = RunFolder(tmp_path / 'out').lines('step')
    for line, other in zip(lines, expected, strict=True):
        assert [line[name] for name in LOSSES[:2]] == pytest.approx(other[:2], rel=0.03)


def test_an_interrupted_run_ends_with_the_same_losses(toy_data: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    whole.mkdir()
    cut.mkdir()
    assert run(RECIPE, toy_data, whole, 1, 'no').returncode == 0
    line, environment = command(RECIPE, toy_data, cut, 1, 'no')
    log = cut / 'out/training.jsonl'
    with subprocess.Popen(
        line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        while not (log.is_file() and len(log.read_text().splitlines()) >= 4):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
    assert json.loads((cut / 'out/state/progress.json').read_text())['phase'] < 3
    assert run(RECIPE, toy_data, cut, 1, 'no').returncode == 0
    found, expected = (RunFolder(each / 'out').lines('step') for each in (cut, whole))
    assert [[line[name] for name in LOSSES] for line in found] == [
        [line[name] for name in LOSSES] for line in expected
    ]


def test_gradients_that_would_come_in_other_orders_are_refused(
    toy_data: Path, tmp_path: Path
) -> None:
    result = run(RECIPE, toy_data, tmp_path, 2, 'no')
    assert result.returncode != 0
    assert 'DeepSpeed ZeRO stage 2, which needs the same computation' in ' '.join(
        (result.stdout + result.stderr).split()
    )
