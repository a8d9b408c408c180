# SPDX-License-Identifier: Apache-2.0
"""Jobs in processes of their own: one that dies or hangs is replaced, and its job tried again."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from armor_ros.errors import ArmorError

Job = TypeVar('Job')
Result = TypeVar('Result')

# Small arrays and small pictures: several threads a worker only wait for each other.
_ONE_THREAD = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'LP_NUM_THREADS')


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Job, Result]):
    """What came of a job: its result, or in ``error`` why there is none."""

    job: Job
    result: Result | None
    error: str = ''


@dataclass(slots=True)
class _Worker:
    process: Any
    pipe: Any
    job: Any = None
    deadline: float = float('inf')


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int,
    timeout_s: float = 300.0,
    tries: int = 3,
) -> Iterator[Outcome[Job, Result]]:
    """
    Yield the outcome of ``function(job)`` for each job, in the order in which they are done.

    ``function`` and jobs must be picklable. A worker that dies, or has not answered after
    ``timeout_s`` seconds, is replaced and its job given out again, ``tries`` times in all. An
    ArmorError in a worker ends everything and is raised here; other errors count as a try.
    """
    waiting = deque((job, 1) for job in jobs)
    crew: list[_Worker] = []
    try:
        crew += [_start(function) for _ in range(min(workers, len(jobs)))]
        while waiting or any(worker.job is not None for worker in crew):
            for worker in crew:
                if worker.job is None and waiting:
                    _give(worker, waiting.popleft(), timeout_s)
            for index in _heard_of(crew):
                worker = crew[index]
                job, attempt = worker.job
                error, result = _answer(worker)
                if worker.process is None:
                    crew[index] = _start(function)
                else:
                    worker.job, worker.deadline = None, float('inf')
                if not error:
                    yield Outcome(job, result)
                elif attempt < tries:
                    waiting.append((job, attempt + 1))
                else:
                    yield Outcome(job, None, error)
    finally:
        for worker in crew:
            _stop(worker)


def _start(function: Callable[[Any], Any]) -> _Worker:
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(function, theirs), daemon=True)
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, '1'))
    try:
        process.start()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    theirs.close()  # so that the end of the process ends the pipe
    return _Worker(process, ours)


def _serve(function: Callable[[Any], Any], pipe: Any) -> None:
    """Answer jobs with (kind of error or '', result or text) until the pipe is closed."""
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            answer: tuple[str, Any] = ('', function(job))
        except ArmorError as error:
            answer = ('user', str(error))
        except KeyboardInterrupt:
            return
        except Exception:
            answer = ('bug', traceback.format_exc())
        try:
            pipe.send(answer)
        except OSError:
            return  # who asked was killed


def _give(worker: _Worker, job: tuple[Any, int], timeout_s: float) -> None:
    worker.job, worker.deadline = job, time.monotonic() + timeout_s
    with contextlib.suppress(OSError):  # of a dead one we hear at once, by the end of its pipe
        worker.pipe.send(job[0])


def _heard_of(crew: list[_Worker]) -> list[int]:
    """Wait until workers have answered, died or run out of time; return their indices."""
    busy = {worker.pipe: index for index, worker in enumerate(crew) if worker.job is not None}
    left = min(crew[index].deadline for index in busy.values()) - time.monotonic()
    ready = multiprocessing.connection.wait(list(busy), timeout=max(0.0, left))
    late = [index for index in busy.values() if crew[index].deadline <= time.monotonic()]
    return sorted({*(busy[pipe] for pipe in ready), *late})


def _answer(worker: _Worker) -> tuple[str, Any]:
    """
    Return ('', result), or (why there is none, None).

    Of a worker that died or hangs, the process is ended and set to None.
    """
    try:
        kind, result = worker.pipe.recv() if worker.pipe.poll() else ('late', None)
    except (EOFError, OSError):
        kind, result = 'dead', None
    if kind == 'user':
        raise ArmorError(result)
    if kind in ('late', 'dead'):
        process = worker.process
        _stop(worker)
        worker.process = None
        if kind == 'late':
            return 'the worker did not answer in time and was ended', None
        return f'the worker died with exit code {process.exitcode}', None
    return (str(result), None) if kind else ('', result)


def _stop(worker: _Worker) -> None:
    if worker.process is None:
        return
    worker.pipe.close()
    worker.process.kill()
    worker.process.join()
