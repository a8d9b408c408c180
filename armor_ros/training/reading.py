# SPDX-License-Identifier: Apache-2.0
"""Reading the samples of the next step while this one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol

from armor_ros.training.samples import TrainingSample

# Samples of a micro-batch, each with the turn that it takes.
Turn = list[tuple[TrainingSample, int]]


class Samples(Protocol):
    """Samples by index, as ``TrainingData`` has them."""

    def __getitem__(self, index: int) -> TrainingSample:
        """Return a sample."""


class Turns(Protocol):
    """Which samples each step takes, as ``PhasePlan`` lays them out."""

    @property
    def steps(self) -> int:
        """Number of steps."""

    def turns(self, step: int, rank: int, processes: int) -> list[list[tuple[int, int]]]:
        """Return the micro-batches of a process in a step: (sample, epoch) each."""


class ReadAhead:
    """Reads one step ahead, in threads; what it gives is the same without. For use with `with`."""

    def __init__(
        self, data: Samples, plan: Turns, rank: int, processes: int, workers: int = 2
    ) -> None:
        self._data = data
        self._plan = plan
        self._place = (rank, processes)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix='samples')
        self._ahead: dict[int, list[list[tuple[Future[TrainingSample], int]]]] = {}

    def take(self, step: int) -> list[Turn]:
        """Return the micro-batches of a step; raises ArmorError when a file cannot be read."""
        if step not in self._ahead:
            self._ask(step)
        asked = self._ahead.pop(step)
        if step + 1 < self._plan.steps:
            self._ask(step + 1)
        return [[(sample.result(), epoch) for sample, epoch in turn] for turn in asked]

    def _ask(self, step: int) -> None:
        turns: Sequence[list[tuple[int, int]]] = self._plan.turns(step, *self._place)
        self._ahead[step] = [
            [(self._pool.submit(self._data.__getitem__, index), epoch) for index, epoch in turn]
            for turn in turns
        ]

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
