# SPDX-License-Identifier: Apache-2.0
"""Runs that are interrupted, repeated, or shared by several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from armor_ros.cli import app
from armor_ros.datasets.manifest import Sample, write_manifest
from armor_ros.datasets.video import write_video
from armor_ros.errors import ArmorError
from armor_ros.evaluation.baselines import make_baseline
from armor_ros.evaluation.case import Case
from armor_ros.evaluation.evaluate import EvaluationSummary, RunOptions, evaluate
from armor_ros.evaluation.prediction import Prediction
from armor_ros.evaluation.predictor import BaselinePredictor, EvaluationSettings
from armor_ros.evaluation.processes import Processes
from armor_ros.evaluation.sources import BagSource, Source, SourceSettings

PARAMETERS = """
/**:
  ros__parameters:
    frame_height: 56
    frame_width: 56
    rounds: 1
    trajectories: 1
    max_new_tokens: 2
"""


class Counting:
    """The status baseline, which counts what it was asked and may be interrupted."""

    def __init__(
        self, interrupt_at: int | None = None, identity: str = '', parallel: int = 1
    ) -> None:
        baseline = make_baseline('status')
        self._inner = BaselinePredictor(baseline, EvaluationSettings(), identity)
        self._interrupt_at = interrupt_at
        self.identity = self._inner.identity
        self.parallel = parallel
        self.asked: list[str] = []

    def predict(self, case: Case) -> Prediction:
        if len(self.asked) == self._interrupt_at:
            raise KeyboardInterrupt
        self.asked.append(case.source)
        return self._inner.predict(case)


@pytest.fixture
def bags(robot_bag: Any, tmp_path: Path) -> list[Path]:
    """Three recordings of two tasks each."""
    robot_bag.camera(seconds=(0.0, 3.0))
    robot_bag.goal(0.5, 1.0, number=1)
    robot_bag.goal(1.5, 2.0, number=2, status=6)
    return [robot_bag.write(tmp_path / name) for name in ('one', 'two', 'three')]


def sources_of(bags: Sequence[Path]) -> list[Source]:
    return [BagSource(path, path.name, SourceSettings()) for path in bags]


def run(
    bags: Sequence[Path], predictor: Counting, output: Path, run: str = '', workers: int = 1
) -> EvaluationSummary:
    options = RunOptions(output, workers)
    return evaluate(sources_of(bags), predictor, output, options, run=run)


def content(output: Path) -> list[bytes]:
    lines = (output / 'predictions.jsonl').read_bytes().splitlines()
    return [line.rpartition(b', "timing": ')[0] for line in lines]


def test_an_interrupted_run_goes_on_where_it_stopped(bags: list[Path], tmp_path: Path) -> None:
    run(bags, Counting(), tmp_path / 'whole')
    with pytest.raises(KeyboardInterrupt):
        run(bags, Counting(interrupt_at=3), tmp_path / 'out')
    assert not (tmp_path / 'out' / 'predictions.jsonl').exists()
    again = Counting()
    summary = run(bags, again, tmp_path / 'out')
    # the first recording was finished; the second is done again as a whole
    assert again.asked == ['two', 'two', 'three', 'three']
    assert summary.tasks == 6
    assert content(tmp_path / 'out') == content(tmp_path / 'whole')
    assert not (tmp_path / 'out' / 'parts').exists()


def test_a_run_of_other_settings_is_not_mixed_in(bags: list[Path], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(bags, Counting(interrupt_at=3), tmp_path / 'out')
    for predictor, name in ((Counting(), 'other labels'), (Counting(identity='x'), '')):
        with pytest.raises(ArmorError, match=r'holds the beginning of another run.*--overwrite'):
            run(bags, predictor, tmp_path / 'out', name)


def test_sources_may_be_added_and_reordered_before_a_run_goes_on(
    bags: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(bags[:2], Counting(interrupt_at=3), tmp_path / 'out')
    again = Counting()
    run([bags[2], bags[1], bags[0]], again, tmp_path / 'out')
    assert again.asked == ['three', 'three', 'two', 'two']
    lines = [json.loads(line + b'}') for line in content(tmp_path / 'out')]
    assert [line['source'] for line in lines[::2]] == ['three', 'two', 'one']


def test_a_source_that_failed_is_tried_again(bags: list[Path], tmp_path: Path) -> None:
    aside = bags[1].rename(tmp_path / 'aside')
    summary = run(bags, Counting(), tmp_path / 'out')
    assert (summary.tasks, len(summary.failures)) == (4, 1)
    aside.rename(bags[1])
    again = Counting()
    summary = run(bags, again, tmp_path / 'out')
    assert again.asked == ['two', 'two']
    assert (summary.tasks, summary.failures) == (6, ())


def test_a_source_that_failed_for_once_is_tried_again(
    bags: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> Any:
        raise ArmorError('the disk is asleep')

    with monkeypatch.context() as asleep:
        asleep.setattr('armor_ros.evaluation.sources.BagEpisodes.__iter__', refuse)
        with pytest.raises(ArmorError, match='the disk is asleep'):
            run(bags, Counting(), tmp_path / 'out')
    assert run(bags, Counting(), tmp_path / 'out').tasks == 6


class OneOfTwo(Processes):
    """The second of two processes, the first of which never comes."""

    def __init__(self) -> None:
        super().__init__()
        self.index, self.count = 1, 2

    @property
    def is_main(self) -> bool:
        return True


def test_each_process_does_its_share_in_a_folder_that_all_see(
    bags: list[Path], tmp_path: Path
) -> None:
    predictor = Counting()
    with pytest.raises(ArmorError, match='the output must be in a folder that they share'):
        evaluate(
            sources_of(bags), predictor, tmp_path, RunOptions(workers=1), processes=OneOfTwo()
        )
    assert predictor.asked == ['two', 'two']


def test_a_damaged_part_is_done_again(bags: list[Path], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(bags, Counting(interrupt_at=5), tmp_path / 'out')
    parts = sorted((tmp_path / 'out' / 'parts').glob('*.jsonl'))
    assert len(parts) == 2
    parts[0].write_bytes(b'\xff\xfe')
    again = Counting()
    assert run(bags, again, tmp_path / 'out').tasks == 6
    assert len(again.asked) == 4


def test_the_order_does_not_depend_on_who_is_ready_first(bags: list[Path], tmp_path: Path) -> None:
    for workers in (1, 3):
        run(bags, Counting(), tmp_path / str(workers), workers=workers)
    assert content(tmp_path / '1') == content(tmp_path / '3')


class Slow(Counting):
    """A server: the first answer takes longest, and several are made at once."""

    def __init__(self) -> None:
        super().__init__(parallel=4)
        self.together = threading.Barrier(3)

    def predict(self, case: Case) -> Prediction:
        number = len(self.asked)
        prediction = super().predict(case)
        if number < 3:
            self.together.wait(timeout=20)
            time.sleep(0.05 * (3 - number))
        return prediction


def test_answers_made_at_once_come_in_order(bags: list[Path], tmp_path: Path) -> None:
    run(bags, Counting(), tmp_path / 'serial')
    summary = run(bags, Slow(), tmp_path / 'parallel')
    assert summary.tasks == 6
    assert content(tmp_path / 'parallel') == content(tmp_path / 'serial')


def test_an_error_in_a_reading_thread_is_not_swallowed(
    bags: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*arguments: Any) -> Any:
        raise ZeroDivisionError('a mistake of ours')

    monkeypatch.setattr('armor_ros.evaluation.sources.anything_moves', explode)
    with pytest.raises(ZeroDivisionError):
        run(bags, Counting(), tmp_path / 'out', workers=2)


def make_data_set(root: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    samples = []
    (root / 'clips').mkdir(parents=True)
    for number in range(count):
        path = f'clips/{number}.mp4'
        write_video(root / path, rng.integers(0, 255, (6, 32, 32, 3), dtype=np.uint8), 5.0)
        label = 'failure' if number % 3 else 'success'
        samples.append(Sample(f's{number}', 'lift it', {'front': path}, 5.0, 6, label))
    write_manifest(root, samples)
    return root


def launch(processes: int, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the command in so many processes."""
    launcher = ['torch.distributed.run', '--nproc-per-node', str(processes)]
    launcher += ['--rdzv-backend', 'c10d', '--rdzv-endpoint', 'localhost:0', '-m']
    return subprocess.run(
        [sys.executable, '-m', *launcher, 'armor_ros.cli', 'evaluate', *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )


def test_two_processes_give_the_same_bytes_as_one(
    bags: list[Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    data = make_data_set(tmp_path / 'data', 17)
    file = tmp_path / 'monitor.yaml'
    file.write_text(PARAMETERS)
    arguments = [str(data), *map(str, bags), '--checkpoint', str(tiny_checkpoint)]
    arguments += ['--params-file', str(file), '--device', 'cpu', '--baseline', 'always-success']
    alone = CliRunner().invoke(
        app, ['evaluate', *arguments, '--output', str(tmp_path / '1')], catch_exceptions=False
    )
    together = launch(2, [*arguments, '--output', str(tmp_path / '2')])
    assert together.returncode == 0, together.stdout + together.stderr
    for count, text in ((1, alone.stderr), (2, together.stderr)):
        assert json.loads((tmp_path / str(count) / 'run.json').read_text())['processes'] == count
        # one process speaks for all
        assert text.count('23 tasks') == 2, text
    for path in ('.', 'baselines/always-success'):
        assert len(content(tmp_path / '1' / path)) == 23
        assert content(tmp_path / '1' / path) == content(tmp_path / '2' / path)
    names = [sorted(p.name for p in (tmp_path / n / 'evidence').iterdir()) for n in ('1', '2')]
    assert names[0] == names[1]
    assert not (tmp_path / '2' / 'parts').exists()
