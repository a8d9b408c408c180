# SPDX-License-Identifier: Apache-2.0
"""The benchmark of training measures what it says, and refuses what does not agree."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from armor_ros.cli import app
from armor_ros.errors import ArmorError
from armor_ros.inference.benchmark_models import SIZES, BenchmarkSize
from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training import benchmark_measure
from armor_ros.training.benchmark import run_training_benchmark
from armor_ros.training.benchmark_measure import (
    GRADIENT_TOLERANCE,
    LOSS_TOLERANCE,
    TrainingBenchmark,
)
from armor_ros.training.benchmark_memory import PeakMemory
from armor_ros.training.benchmark_models import TRAINING_SIZES, TrainingSize
from armor_ros.training.benchmark_naive import NaiveLoop

TINY = TrainingSize(
    BenchmarkSize(64, 128, 5, 2, 1, 32, 96, 4, 2, image_size=56, seconds=0.8, tokens=4)
)
ROWS = {
    'rollout', 'forward and backward', 'whole online step', 'warm-up step',
    'warm-up, embeddings kept',
}  # fmt: skip


@pytest.fixture(autouse=True)
def tiny_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRAINING_SIZES, 'tiny', TINY)


def test_the_command(tmp_path: Path) -> None:
    """All of it at a very small size; answers, losses and gradients are compared on the way."""
    output = tmp_path / 'new' / 'tiny.json'
    arguments = ['benchmark', 'training', '--size', 'tiny', '--device', 'cpu']
    result = CliRunner().invoke(app, [*arguments, '--output', str(output)])
    assert result.exit_code == 0, result.output
    figures: dict[str, Any] = json.loads(output.read_text(encoding='utf-8'))
    assert set(figures['ratios']) == ROWS
    rows = {row['name']: row for row in figures['rows']}
    for name, row in rows.items():
        assert name in result.output
        assert 0 < row['measured'] < 60
        assert figures['ratios'][name] == pytest.approx(row['naive'] / row['measured'])
    for column in ('measured', 'naive'):
        parts = rows['rollout'][column] + rows['forward and backward'][column]
        assert parts < rows['whole online step'][column]
    for apart in figures['apart'].values():
        assert apart['losses'] + apart['gradients'] > 0
        assert apart['losses'] <= LOSS_TOLERANCE
        assert apart['gradients'] <= GRADIENT_TOLERANCE
    settings = figures['settings']
    assert settings['dense_samples'] == 1
    assert settings['vision_tokens'] == [2 * 2 * 2] * 4


def test_half_precision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sizes of real models, but for their size."""
    half = dataclasses.replace(TINY, shape=dataclasses.replace(TINY.shape, bits=16))
    monkeypatch.setitem(TRAINING_SIZES, 'half', half)
    assert TRAINING_SIZES['7b'].shape is SIZES['7b']
    figures = run_training_benchmark('half', tmp_path / 'half.json', 'cpu')
    assert set(figures['ratios']) == ROWS
    assert figures['apart']['warm-up']['losses'] < 0.1


def test_steps_leave_the_weights_alone() -> None:
    bench = TrainingBenchmark(TINY, torch.device('cpu'))
    before = {name: weight.clone() for name, weight in bench.model.state_dict().items()}
    samples = [each.sample for each in bench.samples]
    step = bench.step(1, samples)
    assert len(step.gradients) > 50
    assert all(len(history) == 3 for history in step.history)
    assert step.rollout > 0
    assert step.learning > 0
    assert step.update > 0
    for name, weight in bench.model.state_dict().items():
        assert torch.equal(weight, before[name]), name
    assert all(weight.grad is None for weight in bench.model.parameters())


@pytest.mark.parametrize('part', ['losses', 'gradients'])
def test_training_that_differs_is_noticed(
    part: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = NaiveLoop._detection

    def wrong(*arguments: Any) -> torch.Tensor:
        loss = real(*arguments)
        # Other losses with the same gradient; or another gradient of the same losses.
        return loss + 1e-4 if part == 'losses' else loss + 1e-3 * (loss - loss.detach())

    monkeypatch.setattr(NaiveLoop, '_detection', wrong)
    with pytest.raises(
        ArmorError, match=f'{part} of two ways .* training is wrong on this machine'
    ):
        run_training_benchmark('tiny', tmp_path / 'tiny.json', 'cpu')


def test_a_rollout_that_differs_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = NaiveLoop._answers

    def wrong(*arguments: Any) -> list[PreviousAnswer]:
        history = real(*arguments)
        return [*history[:2], PreviousAnswer(history[2].failed, 'else'), *history[3:]]

    monkeypatch.setattr(NaiveLoop, '_answers', wrong)
    with pytest.raises(ArmorError, match='rollouts are wrong on this machine'):
        run_training_benchmark('tiny', tmp_path / 'tiny.json', 'cpu')


def test_sizes_that_do_not_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    huge = TrainingSize(BenchmarkSize(1 << 20, 1 << 22, 100, 64, 8, 64, 96, 4, 2))
    monkeypatch.setitem(TRAINING_SIZES, 'huge', huge)
    with pytest.raises(ArmorError, match=r'needs more than \d+ GB of memory on cpu'):
        run_training_benchmark('huge', tmp_path / 'huge.json', 'cpu')
    with pytest.raises(ArmorError, match="size is 'none'"):
        run_training_benchmark('none', tmp_path / 'none.json', 'cpu')


def test_gradients_that_one_side_lacks() -> None:
    one, two = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 5.0])
    distance = benchmark_measure._distance
    assert distance({'a': one, 'b': two}, {'a': one, 'b': two}) == 0.0
    assert distance({'a': one}, {'a': two}) == pytest.approx(10**0.5 / 5)
    assert distance({'a': one}, {'a': one, 'b': two}) == pytest.approx(5 / 50**0.5)


def test_peak_memory() -> None:
    torch.ones(1 << 27)  # an earlier peak, which does not count
    peak = PeakMemory(torch.device('cpu'))
    taken = torch.ones(1 << 26)
    del taken
    found = peak.bytes()
    if found is None:
        pytest.skip('the system does not tell')
    assert 0.9 * (1 << 28) < found < 1.5 * (1 << 28)
