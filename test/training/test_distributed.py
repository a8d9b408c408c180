# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_run import RECIPE, ROUGH_RECIPE
from toy_training import LOSSES, distance, losses_of, make_trainer

from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.training.recipe_files import recipe_text


@pytest.fixture(scope='module')
def alone(
    toy_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[list[float | None]], ArmorModel]:
    """Losses and weights of one process."""
    lines: list[list[float | None]] = []

    def note(report: Any) -> None:
        lines.append([getattr(report, name) for name in LOSSES])

    output = tmp_path_factory.mktemp('alone')
    return lines, make_trainer(RECIPE, toy_data, output, on_step=note, on_trial=note).train()


def launch(*arguments: str | Path, processes: int = 2) -> None:
    """Run a program in several processes of one machine, as accelerate does."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone',
               f'--nproc_per_node={processes}', *map(str, arguments)]  # fmt: skip
    result = subprocess.run(
        command,
        env=os.environ | {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def assert_same_losses(found: list[list[Any]], expected: list[list[float | None]]) -> None:
    for row, other in zip(found, expected, strict=True):
        for value, wanted in zip(row[:4], other, strict=True):
            # rounding differs, and the optimizer carries it on
            assert value == (None if wanted is None else pytest.approx(wanted, rel=1e-5, abs=1e-5))


def test_two_processes_share_a_run(
    toy_data: Path, tmp_path: Path, alone: tuple[list[list[float | None]], ArmorModel]
) -> None:
    recipe, output = tmp_path / 'toy.yaml', tmp_path / 'out'
    recipe.write_text(recipe_text(RECIPE))
    launch('-m', 'armor_ros.cli', 'train', recipe, '--data', toy_data, '--output', output)
    lines = [json.loads(line) for line in (output / 'training.jsonl').read_text().splitlines()]
    assert_same_losses(
        [[line[name] for name in LOSSES] for line in lines if line['kind'] != 'sampling'], alone[0]
    )
    found = load_checkpoint(output / 'checkpoint', device='cpu').state_dict()
    assert distance(found, alone[1].state_dict()) < 1e-3
    assert list((output / 'logs').rglob('events.out.tfevents.*'))


def test_divided_weights_are_trained_interrupted_and_gathered(
    toy_data: Path, tmp_path: Path, alone: tuple[list[list[float | None]], ArmorModel]
) -> None:
    program = Path(__file__).with_name('distributed_run.py')
    # the second process is asked to stop in the middle of the second phase
    launch(program, toy_data, tmp_path, '4', 'no')
    assert json.loads((tmp_path / 'state/progress.json').read_text()) == {'phase': 1, 'step': 1}
    launch(program, toy_data, tmp_path, '0', 'no')
    lines = [json.loads(line) for line in (tmp_path / 'lines.jsonl').read_text().splitlines()]
    assert_same_losses(lines, alone[0])
    found = torch.load(tmp_path / 'weights.pt')
    assert distance(found, alone[1].state_dict()) < 1e-3


def test_divided_weights_of_half_precision_add_up_in_float32(
    toy_data: Path, tmp_path: Path
) -> None:
    expected = losses_of(ROUGH_RECIPE, toy_data, tmp_path / 'alone')
    launch(Path(__file__).with_name('distributed_run.py'), toy_data, tmp_path, '0', 'bf16')
    lines = [json.loads(line) for line in (tmp_path / 'lines.jsonl').read_text().splitlines()]
    for row, other in zip(lines, expected, strict=True):
        assert row[:2] == pytest.approx(other[:2], rel=0.03)
    found = torch.tensor([row[:2] for row in lines])
    assert not torch.equal(found, found.bfloat16().float())


def test_a_batch_that_cannot_be_shared_is_refused(toy_data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / 'toy.yaml'
    recipe.write_text(recipe_text(RECIPE))
    with pytest.raises(AssertionError, match='batch_size is 4, which 3 processes cannot share'):
        launch('-m', 'armor_ros.cli', 'train', recipe, '--data', toy_data, '--output',
               tmp_path / 'out', processes=3)  # fmt: skip
