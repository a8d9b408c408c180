# SPDX-License-Identifier: Apache-2.0
"""Workers that die, hang or stumble: the job is tried again, and the others go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from armor_ros.errors import ArmorError
from armor_ros.simulation.workers import run_jobs


def square(job: int) -> int:
    return job * job


def killed_once(job: tuple[int, str]) -> int:
    number, mark = job
    if number == 2 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def always_killed(job: int) -> int:
    if job == 1:
        os._exit(7)
    return job


def hangs(job: int) -> int:
    if job == 0:
        time.sleep(60)
    return job


def stumbles(job: int) -> int:
    return 1 // job


def refuses(job: int) -> int:
    raise ArmorError('no GL library')


def threads(_: int) -> str:
    return os.environ['OMP_NUM_THREADS']


def ends_who_asks(job: int) -> int:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1)
    return job


def results(outcomes: list) -> dict:
    return {outcome.job: outcome.result for outcome in outcomes}


def test_every_job_is_done_once() -> None:
    outcomes = list(run_jobs(square, range(7), workers=2))
    assert results(outcomes) == {n: n * n for n in range(7)}
    assert len(outcomes) == 7


def test_no_jobs_no_workers() -> None:
    assert list(run_jobs(square, [], workers=2)) == []


def test_a_killed_worker_is_replaced_and_its_job_done(tmp_path: Path) -> None:
    mark = str(tmp_path / 'mark')
    outcomes = list(run_jobs(killed_once, [(n, mark) for n in range(4)], workers=1))
    assert sorted(outcome.result for outcome in outcomes) == [0, 1, 2, 3]
    assert Path(mark).exists()


def test_a_job_that_always_kills_is_given_up_and_says_why() -> None:
    outcomes = list(run_jobs(always_killed, range(3), workers=1, tries=2))
    assert results(outcomes) == {0: 0, 1: None, 2: 2}
    (error,) = [outcome.error for outcome in outcomes if outcome.job == 1]
    assert 'exit code 7' in error


def test_a_hanging_worker_is_ended() -> None:
    begin = time.monotonic()
    outcomes = list(run_jobs(hangs, range(2), workers=2, timeout_s=3.0, tries=2))
    assert results(outcomes) == {0: None, 1: 1}
    assert time.monotonic() - begin < 40
    assert any('in time' in outcome.error for outcome in outcomes)


def test_an_error_of_the_code_is_told_with_its_place() -> None:
    outcomes = list(run_jobs(stumbles, [0, 1], workers=1, tries=1))
    assert results(outcomes) == {0: None, 1: 1}
    assert any('ZeroDivisionError' in outcome.error for outcome in outcomes)


def test_an_error_of_the_user_ends_everything() -> None:
    with pytest.raises(ArmorError, match='no GL library'):
        list(run_jobs(refuses, range(5), workers=1))


def test_workers_use_one_thread_and_leave_our_environment_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('OMP_NUM_THREADS', '4')
    (outcome,) = run_jobs(threads, [0], workers=1)
    assert outcome.result == '1'
    assert os.environ['OMP_NUM_THREADS'] == '4'


def test_a_worker_whose_answer_nobody_waits_for_ends_without_a_word() -> None:
    code = 'import test_workers as t; list(t.run_jobs(t.ends_who_asks, [0], workers=1))'
    folders = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stderr == ''
