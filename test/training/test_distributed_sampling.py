# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from toy_training import make_recipe

from armor_ros.training.recipe_files import recipe_text
from armor_ros.training.run import TrainingRequest, train
from armor_ros.training.run_folder import RunFolder

ONLINE = {'kind': 'online', 'rounds': 2, 'max_new_tokens': 5, 'folds': 2, 'verified': 2}
RECIPE = make_recipe({'kind': 'warmup'}, ONLINE, dropout=0.0)


def test_processes_share_what_is_asked(toy_data: Path, tmp_path: Path) -> None:
    recipe, output = tmp_path / 'toy.yaml', tmp_path / 'shared'
    recipe.write_text(recipe_text(RECIPE))
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2',
        '-m', 'armor_ros.cli', 'train', recipe, '--data', toy_data, '--output', output,
        '--tracker', 'none',
    ]  # fmt: skip
    result = subprocess.run(
        [*map(str, command)],
        env=os.environ | {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    alone = tmp_path / 'alone'
    train(TrainingRequest(RECIPE, toy_data, alone, tracker='none'))
    files = sorted(file.name for file in (alone / 'sampled').glob('*.jsonl'))
    assert files == [
        'phase-1-explanations.jsonl', 'phase-1-fold-0.jsonl', 'phase-1-fold-1.jsonl',
    ]  # fmt: skip
    for name in files:
        assert (output / 'sampled' / name).read_text() == (alone / 'sampled' / name).read_text()
    for folder in (output, alone):
        assert len(RunFolder(folder).lines('sampling')) == 1
        assert [line['phase'] for line in RunFolder(folder).lines('step')] == [0, 0, 1, 1]
