# SPDX-License-Identifier: Apache-2.0
"""Reading ahead of the model: threads that read and decode parts, and never too many cases."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from armor_ros.errors import ArmorError
from armor_ros.evaluation.case import Case
from armor_ros.evaluation.parts import Unit
from armor_ros.evaluation.sources import PartLog

_POLL_S = 0.1


# A case of a unit; without a case the unit is finished; without a unit only time has passed.
Step = tuple[Unit | None, Case | None]


@dataclass
class ReadAhead:
    """
    Reads units with ``workers`` threads, as a context manager; iterate to get the steps.

    The cases of a unit come in their order, units as they are ready. At most two cases a thread
    are held, beside the one handed out last. ``logs`` has the log of each unit by key.
    """

    units: Sequence[Unit]
    workers: int
    logs: dict[str, PartLog] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logs.update({unit.key: PartLog() for unit in self.units})
        self._left = iter(self.units)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._steps: queue.Queue[Step | BaseException] = queue.Queue(self.workers)
        self._threads = [
            threading.Thread(target=self._work, name=f'reader-{number}', daemon=True)
            for number in range(min(self.workers, len(self.units)))
        ]

    def __enter__(self) -> ReadAhead:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __iter__(self) -> Iterator[Step]:
        """Yield until all units are finished; an error in a thread is raised here."""
        missing = len(self.units)
        while missing:
            try:
                step = self._steps.get(timeout=_POLL_S)
            except queue.Empty:
                yield (None, None)
                continue
            if isinstance(step, BaseException):
                raise step
            missing -= step[1] is None
            yield step

    @property
    def position(self) -> float:
        """How much has been read, from 0 to 1; parts count alike."""
        if not self.units:
            return 1.0
        return sum(log.position for log in self.logs.values()) / len(self.units)

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                unit = next(self._left, None)
            if unit is None:
                return
            try:
                self._read(unit)
            except BaseException as error:
                self._put(error)
                return

    def _read(self, unit: Unit) -> None:
        log = self.logs[unit.key]
        try:
            for case in unit.source.cases(unit.part, log):
                self._put((unit, case))
                if self._stop.is_set():
                    return
        except ArmorError as error:
            log.failures.append(str(error))
        log.position = 1.0
        self._put((unit, None))

    def _put(self, step: Step | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._steps.put(step, timeout=_POLL_S)
                return
            except queue.Full:
                continue
