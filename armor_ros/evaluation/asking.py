# SPDX-License-Identifier: Apache-2.0
"""Asking a predictor: one case after the other, or several at once where it waits for a server."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType

from armor_ros.evaluation.case import Case
from armor_ros.evaluation.parts import Unit
from armor_ros.evaluation.prediction import Prediction
from armor_ros.evaluation.predictor import Predictor


class Asking:
    """
    Keeps the lines of each unit in the order of its cases; a context manager.

    A predictor that takes one case at a time is asked in the calling thread. ``tell`` hears of
    each answer, ``store`` gets the lines of each unit that has been ended, both in the calling
    thread. At most ``predictor.parallel`` cases are held.
    """

    def __init__(
        self,
        predictor: Predictor,
        tell: Callable[[Prediction], None],
        store: Callable[[Unit, tuple[str, ...]], None],
    ) -> None:
        self._predictor = predictor
        self._tell = tell
        self._store = store
        self._pool = ThreadPoolExecutor(predictor.parallel) if predictor.parallel > 1 else None
        self._lines: defaultdict[str, list[str]] = defaultdict(list)
        self._missing: Counter[str] = Counter()
        self._ended: dict[str, Unit] = {}
        self._running: deque[tuple[Future[Prediction], str, int]] = deque()

    def __enter__(self) -> Asking:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while error is None and self._running:
                self._take_oldest()
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)

    def ask(self, unit: Unit, case: Case, picture: str) -> None:
        """Have a case of a unit answered; ``picture`` is the path that its line names."""
        lines = self._lines[unit.key]
        lines.append('')
        self._missing[unit.key] += 1
        if self._pool is None:
            self._take(self._predict(case, picture), unit.key, len(lines) - 1)
            return
        future = self._pool.submit(self._predict, case, picture)
        self._running.append((future, unit.key, len(lines) - 1))
        if len(self._running) >= self._predictor.parallel:
            self._take_oldest()

    def end(self, unit: Unit) -> None:
        """Say that a unit has no further cases."""
        self._ended[unit.key] = unit
        self._store_complete(unit.key)

    def _predict(self, case: Case, picture: str) -> Prediction:
        return replace(self._predictor.predict(case), picture=picture)

    def _take_oldest(self) -> None:
        future, key, position = self._running.popleft()
        self._take(future.result(), key, position)

    def _take(self, prediction: Prediction, key: str, position: int) -> None:
        # of a prediction only its line is kept: the frames are large
        self._lines[key][position] = prediction.to_json()
        self._missing[key] -= 1
        self._tell(prediction)
        self._store_complete(key)

    def _store_complete(self, key: str) -> None:
        if key in self._ended and not self._missing[key]:
            self._store(self._ended.pop(key), tuple(self._lines.pop(key, ())))
