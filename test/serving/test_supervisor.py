# SPDX-License-Identifier: Apache-2.0
"""A child is started, logged, restarted with back-off, killed and stopped; none is left behind."""

import os
import signal
import sys
import threading
import time

import pytest
from conftest import PATIENCE, Recorder, wait_for

from armor_ros.serving.supervisor import (
    DEATHS_TO_FAIL,
    MAX_LINE_LENGTH,
    Backoff,
    InferenceSupervisor,
)

QUICK = Backoff(first=0.01, longest=0.04, healthy=60)
# Ends like the server at the end of its standard input.
SERVE = 'import sys; print("up", flush=True); sys.stdin.read()'


@pytest.fixture
def supervise():
    made = []

    def make(code, **options):
        options.setdefault('backoff', QUICK)
        supervisor = InferenceSupervisor(
            [sys.executable, '-c', code], Recorder(), Recorder(), **options
        )
        made.append(supervisor)
        supervisor.start()
        return supervisor

    yield make
    for supervisor in made:
        supervisor.close()


def log_of(supervisor):
    return supervisor._on_log


def deaths_of(supervisor):
    return supervisor._on_death


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ('deaths', 'delay'), [(1, 0.5), (2, 1), (3, 2), (6, 16), (7, 30), (10**9, 30)]
)
def test_the_delay_doubles_up_to_a_limit(deaths, delay):
    assert Backoff().delay(deaths) == delay


def test_a_killed_child_is_started_again(supervise):
    supervisor = supervise(SERVE)
    log_of(supervisor).wait_until(lambda: log_of(supervisor).items)
    first = supervisor.pid
    os.kill(first, signal.SIGKILL)
    log_of(supervisor).wait_until(lambda: len(log_of(supervisor).items) == 2)
    assert supervisor.pid != first
    assert supervisor.deaths == 1
    assert 'SIGKILL' in deaths_of(supervisor).items[0]
    assert 'next start in 0.01 s' in deaths_of(supervisor).items[0]


def test_deaths_in_a_row_are_a_failure_and_starts_go_on(supervise):
    supervisor = supervise('import sys; print("why I die"); sys.exit(3)')
    wait_for(lambda: supervisor.deaths >= DEATHS_TO_FAIL)
    assert supervisor.has_failed
    assert 'status 3: why I die' in supervisor.last_death
    before = supervisor.deaths
    wait_for(lambda: supervisor.deaths > before)


def test_a_healthy_time_ends_the_row(supervise):
    supervisor = supervise(
        'import sys; print("up", flush=True); sys.stdin.read()',
        backoff=Backoff(first=0.01, longest=0.01, healthy=0.2),
    )
    log = log_of(supervisor)
    for count in range(1, 4):
        log.wait_until(lambda count=count: len(log.items) == count)
        if count < 3:
            supervisor.kill('test')
            wait_for(lambda count=count: supervisor.deaths == count)
    assert supervisor.deaths_in_row == 2
    supervisor.ready()
    time.sleep(0.25)
    supervisor.kill('test')
    wait_for(lambda: supervisor.deaths == 3)
    assert supervisor.deaths_in_row == 1


def test_kill_names_its_reason(supervise):
    supervisor = supervise(SERVE)
    log_of(supervisor).wait_until(lambda: log_of(supervisor).items)
    os.kill(supervisor.pid, signal.SIGSTOP)
    supervisor.kill('no sign of life')
    wait_for(lambda: supervisor.deaths == 1)
    assert supervisor.last_death == 'the inference process was killed: no sign of life'


def test_a_child_that_never_connects_is_killed(supervise):
    supervisor = supervise(SERVE, start_seconds=0.3)
    wait_for(lambda: supervisor.deaths >= 1)
    assert 'did not open its socket' in supervisor.last_death


def test_a_child_that_connects_in_time_lives(supervise):
    supervisor = supervise(SERVE)
    log_of(supervisor).wait_until(lambda: log_of(supervisor).items)
    wait_for(lambda: supervisor._timer is not None)
    timer = supervisor._timer
    supervisor.connected()
    assert timer.finished.is_set()
    assert supervisor._timer is None


def test_a_command_that_does_not_exist_is_a_death():
    deaths = Recorder()
    supervisor = InferenceSupervisor(['/nowhere/python'], Recorder(), deaths, backoff=QUICK)
    supervisor.start()
    wait_for(lambda: supervisor.deaths >= 2)
    supervisor.close()
    assert "'/nowhere/python' cannot be started: No such file" in deaths.items[0]


def test_output_is_bounded(supervise):
    lines = 5000
    code = f'print("x" * 10**5); [print(i) for i in range({lines})]; print("end", flush=True)'
    supervisor = supervise(code + '; import time; time.sleep(1.1); print("after"); input()')
    log = log_of(supervisor)
    log.wait_until(lambda: 'after' in log.items)
    assert max(map(len, log.items)) <= MAX_LINE_LENGTH
    assert len(log.items) < 1000
    assert any('lines were left out' in line for line in log.items)


@pytest.mark.parametrize(
    'code',
    [
        SERVE,
        'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); '
        'print("up", flush=True)\nwhile True: signal.pause()',
    ],
)
@pytest.mark.parametrize('stopped', [False, True])
def test_close_ends_the_child_within_two_seconds(supervise, code, stopped):
    supervisor = supervise(code)
    log_of(supervisor).wait_until(lambda: log_of(supervisor).items)
    pid = supervisor.pid
    if stopped:
        os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    supervisor.close()
    assert time.monotonic() - started < 2.0
    assert not alive(pid)


def test_close_during_backoff_is_immediate(supervise):
    supervisor = supervise('', backoff=Backoff(first=60, longest=60))
    wait_for(lambda: supervisor.deaths == 1)
    started = time.monotonic()
    supervisor.close()
    assert time.monotonic() - started < 1.0


def test_close_before_start_and_twice_is_fine():
    supervisor = InferenceSupervisor(['true'], Recorder(), Recorder())
    supervisor.close()
    supervisor.close()


def test_children_of_the_child_go_too(supervise):
    code = (
        'import subprocess, sys; c = subprocess.Popen(["sleep", "1000"]); '
        'print(c.pid, flush=True); sys.stdin.read()'
    )
    supervisor = supervise(code)
    log_of(supervisor).wait_until(lambda: log_of(supervisor).items)
    grandchild = int(log_of(supervisor).items[0])
    os.kill(supervisor.pid, signal.SIGKILL)
    wait_for(lambda: supervisor.deaths >= 1)
    wait_for(lambda: not alive(grandchild) or state_of(grandchild) == 'Z')


def state_of(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0]
    except FileNotFoundError:
        return ''


def test_many_starts_leak_nothing(supervise):
    def resources():
        return len(os.listdir('/proc/self/fd')) + threading.active_count()

    supervisor = supervise('')
    wait_for(lambda: supervisor.deaths >= 2)
    supervisor.close()
    before = resources()
    supervisor = supervise('')
    wait_for(lambda: supervisor.deaths >= 12)
    supervisor.close()
    wait_for(lambda: resources() <= before, PATIENCE)


def test_the_childs_descriptors_are_its_own(supervise):
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        code = 'import os; print(sorted(os.listdir("/proc/self/fd")), flush=True); input()'
        supervisor = supervise(code)
        log = log_of(supervisor)
        log.wait_until(lambda: log.items)
        assert f"'{write}'" not in log.items[0]
    finally:
        os.close(read)
        os.close(write)
