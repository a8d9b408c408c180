# SPDX-License-Identifier: Apache-2.0
"""A child process that is kept alive: started, logged, restarted, killed when hung, stopped."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

DEATHS_TO_FAIL = 5
STOP_SECONDS = 1.0
START_SECONDS = 120.0
MAX_LINE_LENGTH = 2000
MAX_LINES_PER_SECOND = 200

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """
    Seconds between a death and the next start.

    ``first`` doubles with every death in a row up to ``longest``; a process that was ready for
    ``healthy`` seconds ends the row.
    """

    first: float = 0.5
    longest: float = 30.0
    healthy: float = 60.0

    def delay(self, deaths_in_row: int) -> float:
        """Return the wait after so many deaths in a row."""
        return min(self.longest, self.first * 2.0 ** min(deaths_in_row - 1, 32))


class InferenceSupervisor:
    """
    Runs a command for ever, in a process group of its own whose standard input it holds.

    The command must end when its standard input closes: that is how it follows a parent that is
    killed. Callbacks come from the supervisor's threads and must not block.
    """

    def __init__(
        self,
        command: Sequence[str],
        on_log: Callable[[str], None],
        on_death: Callable[[str], None],
        *,
        environment: Mapping[str, str] | None = None,
        backoff: Backoff = Backoff(),
        start_seconds: float = START_SECONDS,
    ) -> None:
        """
        Make a supervisor; ``start`` runs the command.

        ``on_log`` gets the child's output line by line, ``on_death`` a sentence for each death.
        A child of which ``connected`` is not told within ``start_seconds`` is killed.
        """
        self._command = list(command)
        self._on_log = on_log
        self._on_death = on_death
        self._environment = {**os.environ, 'PYTHONUNBUFFERED': '1', **(environment or {})}
        self._backoff = backoff
        self._start_seconds = start_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._kill_reason = ''
        self._ready_since: float | None = None
        self._timer: threading.Timer | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_lines: collections.deque[str] = collections.deque(maxlen=3)
        self.deaths = 0
        self.deaths_in_row = 0
        self.last_death = ''

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        process = self._process
        return process.pid if process is not None else None

    @property
    def has_failed(self) -> bool:
        """Whether so many deaths in a row have come that a person should look."""
        return self.deaths_in_row >= DEATHS_TO_FAIL

    def start(self) -> None:
        """Run the command, and again whenever it ends."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name='armor-inference-supervisor', daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stop the child (SIGTERM, then SIGKILL within 2 s) and start it no more."""
        self._closing.set()
        self._signal(signal.SIGTERM)
        if self._thread is None:
            return
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            self._signal(signal.SIGKILL)
            self._thread.join()

    def connected(self) -> None:
        """Note that the child answers."""
        self._set_timer(None, '')

    def ready(self) -> None:
        """Note that the child does its work, from which its health is counted."""
        self._ready_since = time.monotonic()

    def kill(self, reason: str) -> None:
        """Kill the child, which will be started anew after the back-off."""
        self._kill_reason = reason
        self._signal(signal.SIGKILL)

    def kill_later(self, seconds: float, reason: str) -> None:
        """Kill the child after some time, unless ``connected`` is told or it ends before."""
        self._set_timer(seconds, reason)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._ready_since, self._kill_reason = None, ''
            reason = self._run_once()
            if self._closing.is_set():
                return
            ready_since = self._ready_since
            if ready_since and time.monotonic() - ready_since >= self._backoff.healthy:
                self.deaths_in_row = 0
            self.deaths += 1
            self.deaths_in_row += 1
            delay = self._backoff.delay(self.deaths_in_row)
            self.last_death = reason
            self._call(self._on_death, f'{reason}; next start in {delay:g} s')
            self._closing.wait(delay)

    def _run_once(self) -> str:
        """Run the command once; return how it ended."""
        self._last_lines.clear()
        try:
            process = self._spawn()
        except OSError as error:
            return f'{self._command[0]!r} cannot be started: {error.strerror or error}'
        assert process.stdout is not None
        reader = threading.Thread(
            target=self._read_log, args=(process.stdout,), name='armor-inference-log', daemon=True
        )
        reader.start()
        self._set_timer(self._start_seconds, 'it did not open its socket')
        # Wait without reaping, so that its id belongs to it until we have killed its group.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._process = None
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        self._set_timer(None, '')
        reader.join(1.0)
        if process.stdin is not None:
            process.stdin.close()
        if not reader.is_alive():
            process.stdout.close()
        return self._describe(status)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._lock:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
            if self._closing.is_set():
                self._process.kill()
            return self._process

    def _describe(self, status: int) -> str:
        if self._kill_reason:
            return f'the inference process was killed: {self._kill_reason}'
        if status < 0:
            with contextlib.suppress(ValueError):
                return f'the inference process was ended by {signal.Signals(-status).name}'
        last = ' | '.join(self._last_lines)
        return f'the inference process ended with status {status}{": " if last else ""}{last}'

    def _signal(self, number: signal.Signals) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._process is not None:
                # A stopped process takes no SIGTERM before it continues.
                if number == signal.SIGTERM:
                    os.killpg(self._process.pid, signal.SIGCONT)
                os.killpg(self._process.pid, number)

    def _set_timer(self, seconds: float | None, reason: str) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if seconds is not None and not self._closing.is_set():
                self._timer = threading.Timer(seconds, self.kill, (reason,))
                self._timer.daemon = True
                self._timer.start()

    def _read_log(self, stream: IO[bytes]) -> None:
        """Forward the child's output, so many lines a second at most."""
        window, count, left_out = 0, 0, 0
        while line := stream.readline(MAX_LINE_LENGTH):
            text = line.decode(errors='replace').rstrip()
            if not text:
                continue
            self._last_lines.append(text[:200])
            second = int(time.monotonic())
            if second != window:
                if left_out:
                    self._call(self._on_log, f'({left_out} lines were left out)')
                window, count, left_out = second, 0, 0
            count += 1
            if count <= MAX_LINES_PER_SECOND:
                self._call(self._on_log, text)
            else:
                left_out += 1

    def _call(self, callback: Callable[[str], None], text: str) -> None:
        try:
            callback(text)
        except Exception:
            _logger.exception('a callback of the supervisor failed on: %s', text)
