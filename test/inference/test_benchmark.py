# SPDX-License-Identifier: Apache-2.0
"""The benchmark measures what it says, and refuses what it cannot."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path

import pytest
import torch

from armor_ros.errors import ArmorError
from armor_ros.inference import benchmark_measure
from armor_ros.inference.benchmark import format_table, run_benchmark
from armor_ros.inference.benchmark_limits import Roofline, measure_roofline
from armor_ros.inference.benchmark_measure import ROUNDS, Benchmark, lengthen
from armor_ros.inference.benchmark_models import SIZES, BenchmarkSize, make_model, parameters

TINY = BenchmarkSize(64, 128, 5, 2, 1, 32, 96, 4, 2, image_size=56, seconds=2.0, tokens=6)
RATIOS = {
    'first_detection', 'after_task_end', 'drafted', 'whole', 'sixty_seconds', 'memory',
}  # fmt: skip


@pytest.fixture(scope='module')
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return the figures of a very small model; answers are compared on the way."""
    output = tmp_path_factory.mktemp('benchmark') / 'new' / 'tiny.json'
    sizes = dict(SIZES)
    SIZES['tiny'] = TINY
    try:
        figures = run_benchmark('tiny', output, 'cpu')
    finally:
        SIZES.clear()
        SIZES.update(sizes)
    assert json.loads(output.read_text(encoding='utf-8')) == json.loads(json.dumps(figures))
    return figures


def test_figures(figures: dict[str, object]) -> None:
    assert set(figures['ratios']) == RATIOS  # type: ignore[call-overload]
    for row in figures['rows']:  # type: ignore[attr-defined]
        assert row['measured'] > 0
        assert row['limit'] > 0
    assert len(figures['round_seconds']) == ROUNDS  # type: ignore[arg-type]
    assert figures['texts_repeat'] is True
    memory = figures['ratios']['memory']  # type: ignore[index]
    # Two more trajectories of 6 + 6 + 48 tokens, beside the tokens of about such a prefix.
    assert memory == pytest.approx(2 * 60 / figures['prefix_tokens'], rel=0.5)  # type: ignore[operator]


def test_table(figures: dict[str, object]) -> None:
    table = format_table(figures)
    for name in ('first_detection', 'after_task_end', 'drafted', 'whole', 'of limit', 'round 3'):
        assert name in table
    row = next(row for row in figures['rows'] if row['name'] == 'whole')  # type: ignore[attr-defined]
    line = next(line for line in table.splitlines() if line.startswith('whole'))
    numbers = [float(word.rstrip('x')) for word in line.split()[1:]]
    expected = (
        row['measured'], row['naive'], row['naive'] / row['measured'],
        row['limit'], row['measured'] / row['limit'],
    )  # fmt: skip
    assert numbers == pytest.approx(expected, abs=0.06)


def test_half_precision_and_a_large_vocabulary(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sizes of real models, but for their size."""
    monkeypatch.setitem(SIZES, 'half', dataclasses.replace(TINY, bits=16, vocabulary=4096))
    assert SIZES['3b'].bits == SIZES['7b'].bits == 16
    figures = run_benchmark('half', tmp_path / 'half.json', 'cpu')
    assert set(figures['ratios']) == RATIOS
    assert figures['texts_repeat'] is True


def test_a_wrong_engine_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(SIZES, 'tiny', TINY)
    real = benchmark_measure.NaiveReference.detect
    monkeypatch.setattr(benchmark_measure.NaiveReference, 'detect', lambda *a: real(*a) + 0.01)
    with pytest.raises(ArmorError, match='the engine is wrong on this machine'):
        run_benchmark('tiny', tmp_path / 'tiny.json', 'cpu')


def test_a_longer_prefix_repeats_its_keys() -> None:
    bench = Benchmark(TINY, torch.device('cpu'))
    with torch.inference_mode():
        prefix = bench.stream()[1].prefix
        length = prefix.length
        lengthen(prefix, 3)
    assert prefix.length == 3 * length
    keys = prefix.cache.keys[4]
    assert torch.equal(keys[:, :length], keys[:, 2 * length : 3 * length])


def test_sizes() -> None:
    assert {'small', 'bench', '3b', '7b'} == set(SIZES)
    decoder, vision = parameters(SIZES['bench'])
    assert SIZES['bench'].layers == 28
    assert decoder == pytest.approx(170e6, rel=0.05)
    assert vision == pytest.approx(32e6, rel=0.1)
    decoder, vision = parameters(SIZES['7b'])
    # Without the two embeddings of 152064 x 3584.
    assert decoder == pytest.approx(7.07e9 - 545e6, rel=0.01)


def test_counted_parameters_are_the_model_s() -> None:
    model = make_model(TINY, torch.device('cpu'))
    layers = model.backbone.model.language_model.layers
    real = sum(weight.numel() for weight in layers.parameters() if weight.ndim > 1)
    vision = sum(w.numel() for w in model.backbone.model.visual.blocks.parameters() if w.ndim > 1)
    counted = parameters(TINY)
    assert counted[0] == real
    assert counted[1] == pytest.approx(vision + 16 * 32 * 32 + 4 * 32 * 64)


def test_a_model_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = BenchmarkSize(1 << 20, 1 << 22, 100, 64, 8, 64, 96, 4, 2)
    monkeypatch.setitem(SIZES, 'huge', huge)
    with pytest.raises(ArmorError, match=r'needs \d+ GB of memory on cpu'):
        run_benchmark('huge', tmp_path / 'huge.json', 'cpu')
    with pytest.raises(ArmorError, match="size is 'none'"):
        run_benchmark('none', tmp_path / 'none.json', 'cpu')


def test_roofline() -> None:
    measured = measure_roofline(torch.device('cpu'), torch.float32)
    assert 1e8 < measured.bytes_per_second < 1e13
    assert 1e8 < measured.operations_per_second < 1e15
    assert Roofline(10.0, 100.0).seconds(operations=200.0, read=10.0) == 2.0
    assert Roofline(10.0, 100.0).seconds(operations=200.0, read=50.0) == 5.0


def test_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / 'benchmarks' / 'inference_profile.py'))
    monkeypatch.setitem(SIZES, 'tiny', TINY)
    figures = script['profile']('tiny', torch.device('cpu'))
    phases = figures['phases']
    rounds = [f'round {index}' for index in range(ROUNDS)]
    assert list(phases) == ['streaming', 'question and first detection', *rounds]
    assert phases['streaming']['vision tower'] > 0
    for parts in phases.values():
        assert parts['decoder: MLP'] > 0
        assert parts['decoder: attention'] > 0
    for name in ('vision tower', 'language head'):
        assert name not in phases['question and first detection'], 'nothing of it is left'
    assert '| **of the least** |' in script['table'](figures)
