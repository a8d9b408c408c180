# SPDX-License-Identifier: Apache-2.0
"""Inference as the node sees it: a client, and the process behind it unless it is elsewhere."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from armor_ros.episodes.diagnosis import ReportStatus
from armor_ros.errors import ArmorError
from armor_ros.serving.client import InferenceClient
from armor_ros.serving.events import (
    ClientEvent,
    Endpoint,
    NoAnswer,
    StateChanged,
    read_token,
)
from armor_ros.serving.link import Heartbeat
from armor_ros.serving.streams import MAX_STREAMS, STREAM_MEGABYTES
from armor_ros.serving.supervisor import START_SECONDS, Backoff, InferenceSupervisor

__all__ = ['ManagedInference', 'ServerSettings']

DEFAULT_PORT = 7070
# A checkpoint that cannot be loaded now may be mounted, or fit into memory, later.
RELOAD_SECONDS = 30.0
MAX_SOCKET_PATH = 100
# Asleep at once with any OpenMP, after a look of some microseconds with GNU's, which torch brings.
_WAITING = {'OMP_WAIT_POLICY': 'PASSIVE', 'GOMP_SPINCOUNT': '1000'}

# The directory of this package goes last, after the other interpreter's own packages; the
# working directory is left out.
_BOOTSTRAP = (
    'import sys; sys.path[:] = [p for p in sys.path if p] + [{root!r}]; '
    'from armor_ros.serving.server import main; sys.exit(main())'
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """
    Which model, and where it runs.

    With ``server`` ("host:port") empty a process is started here, by ``interpreter`` (empty: the
    one that runs now), and ``max_streams`` tasks, of ``stream_megabytes`` in all, are encoded
    while they run. ``token_file`` holds the secret of a server elsewhere.
    """

    checkpoint: str = ''
    quantization: str = 'none'
    device: str = 'auto'
    interpreter: str = ''
    server: str = ''
    token_file: str = ''
    max_streams: int = MAX_STREAMS
    stream_megabytes: int = STREAM_MEGABYTES


class ManagedInference:
    """
    An inference client, and the supervised process it speaks to.

    ``client`` takes the tasks. ``start`` and ``close`` rule both; after ``close`` no process,
    thread or file is left.
    """

    def __init__(
        self,
        settings: ServerSettings,
        on_event: Callable[[ClientEvent], None],
        log: Callable[[str], None],
        *,
        queue_size: int = 16,
        timeout: float = 60.0,
        usual_explanations: Sequence[str] = (),
        heartbeat: Heartbeat = Heartbeat(),  # noqa: B008 (immutable)
        backoff: Backoff = Backoff(),  # noqa: B008 (immutable)
        make_command: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        """
        Prepare inference; ``start`` begins it.

        ``on_event`` and ``log`` (the process's output and its deaths) are called from other
        threads. ``make_command`` replaces the command that serves at a Unix socket's path.
        Raises ArmorError for settings that cannot work.
        """
        self._on_event = on_event
        self._supervisor: InferenceSupervisor | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._load_failure = ''
        self._was_up = False
        if settings.server:
            endpoint = parse_endpoint(settings.server, settings.token_file)
        else:
            self._directory = private_directory()
            endpoint = Endpoint(unix=str(Path(self._directory.name) / 'socket'))
            command = make_command or (lambda path: server_command(settings, path))
            self._supervisor = InferenceSupervisor(
                command(endpoint.unix), log, log, environment=_patience(), backoff=backoff
            )
        self.client = InferenceClient(
            endpoint,
            self._handle,
            queue_size=queue_size,
            timeout=timeout,
            usual_explanations=usual_explanations,
            heartbeat=heartbeat,
            on_hung=self._kill,
        )

    @property
    def pid(self) -> int | None:
        """Process id of the inference process, None while there is none here."""
        return self._supervisor.pid if self._supervisor is not None else None

    def start(self) -> None:
        """Start the process, and connect to it."""
        if self._supervisor is not None:
            self._supervisor.start()
        self.client.start()

    def close(self) -> None:
        """Answer all tasks with CANCELED, disconnect, and stop the process within 2 s."""
        self.client.close()
        if self._supervisor is not None:
            self._supervisor.close()
        if self._directory is not None:
            self._directory.cleanup()

    def state(self) -> tuple[str, str, int]:
        """
        Return the state (down, loading, ready, failed), its reason, and the process's deaths.

        Failed stays until ready: after a model that could not be loaded or five deaths in a row
        new starts are still tried.
        """
        state, text = self.client.state, self.client.state_text
        if self._supervisor is None:
            return state, text, 0
        deaths = self._supervisor.deaths
        if state != 'ready' and self._load_failure:
            return 'failed', self._load_failure, deaths
        if state != 'ready' and self._supervisor.has_failed:
            count, last = self._supervisor.deaths_in_row, self._supervisor.last_death
            return 'failed', f'{count} deaths in a row, the last: {last}', deaths
        if state == 'down' and self._supervisor.last_death:
            text = self._supervisor.last_death
        return state, text, deaths

    def _handle(self, event: ClientEvent) -> None:
        if isinstance(event, StateChanged) and self._supervisor is not None:
            if event.state == 'down' and self._was_up:
                self._supervisor.kill_later(START_SECONDS, 'it takes no connection')
            if event.state in ('loading', 'ready'):
                self._supervisor.connected()
            self._was_up = event.state != 'down'
            if event.state == 'ready':
                self._load_failure = ''
                self._supervisor.ready()
            if event.state == 'failed':
                self._load_failure = event.text
                self._supervisor.kill_later(RELOAD_SECONDS, event.text)
        if (
            isinstance(event, NoAnswer)
            and event.status is ReportStatus.MODEL_NOT_READY
            and self._supervisor is not None
            and self._supervisor.last_death
        ):
            text = f'{event.text}; of late, {self._supervisor.last_death}'
            event = dataclasses.replace(event, text=text)
        self._on_event(event)

    def _kill(self, reason: str) -> None:
        if self._supervisor is not None:
            self._supervisor.kill(reason)


def _patience() -> dict[str, str]:
    """
    Return how threads of the process wait for each other, where the environment does not say.

    By default they spin, which takes from other programs the cores that these threads wait for:
    on two cores of which one was busy, a task that takes a second took half a minute.
    """
    return {name: os.environ.get(name, value) for name, value in _WAITING.items()}


def server_command(settings: ServerSettings, unix_path: str) -> list[str]:
    """Return the command that serves a model at a Unix socket, for a supervisor."""
    root = str(Path(__file__).resolve().parents[2])
    return [
        settings.interpreter or sys.executable,
        '-c',
        _BOOTSTRAP.format(root=root),
        f'--checkpoint={settings.checkpoint}',
        f'--quantization={settings.quantization}',
        f'--device={settings.device}',
        f'--max-streams={settings.max_streams}',
        f'--stream-megabytes={settings.stream_megabytes}',
        f'--unix={unix_path}',
        '--exit-with-parent',
    ]


def parse_endpoint(server: str, token_file: str) -> Endpoint:
    """Make the endpoint of "host:port" or "[v6 address]:port"; raise ArmorError if it is none."""
    host, separator, port = server.rpartition(':')
    if not separator:
        host, port = server, str(DEFAULT_PORT)
    host = host.strip('[]')
    if not host or not port.isascii() or not port.isdigit():
        raise ArmorError(
            f'server {server!r} is not "host:port", for instance "gpu:{DEFAULT_PORT}"'
        )
    if not token_file:
        raise ArmorError(f'server {server!r} asks for a token: set token_file to its file')
    return Endpoint(host=host, port=int(port), token=read_token(token_file))


def private_directory() -> tempfile.TemporaryDirectory[str]:
    """Make a directory that only this user can enter, with a path short enough for a socket."""
    for parent in (os.environ.get('XDG_RUNTIME_DIR', ''), tempfile.gettempdir(), '/tmp'):
        usable = parent and os.access(parent, os.W_OK | os.X_OK)
        if usable and len(os.fsencode(parent)) + len('/armor-xxxxxxxx/socket') <= MAX_SOCKET_PATH:
            return tempfile.TemporaryDirectory(prefix='armor-', dir=parent)
    raise ArmorError('no folder for a socket: set XDG_RUNTIME_DIR or TMPDIR to a writable one')
