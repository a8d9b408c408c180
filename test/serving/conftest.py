# SPDX-License-Identifier: Apache-2.0
"""Episodes, a recorder of events, and servers in a thread or in a process of their own."""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import uvicorn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import scripted_server  # noqa: E402

from armor_ros.episodes.episode import CameraClip, CameraEvidence, Episode  # noqa: E402
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus  # noqa: E402
from armor_ros.serving.app import InferenceServer  # noqa: E402
from armor_ros.serving.client import InferenceClient  # noqa: E402
from armor_ros.serving.events import Endpoint  # noqa: E402
from armor_ros.serving.managed import ManagedInference, ServerSettings  # noqa: E402
from armor_ros.serving.messages import MAX_MESSAGE_BYTES  # noqa: E402
from armor_ros.serving.worker import LoadedModel  # noqa: E402

# Generous: a loaded machine must not turn a wait for an event into a failure.
PATIENCE = 60.0


def make_episode(name='answer', *, frames=4, size=(6, 8), cameras=('front', 'wrist'), seed=0):
    """Make an episode of random frames whose task tells the scripted model what to do."""
    rng = np.random.default_rng(seed)
    clips = []
    for number, camera in enumerate(cameras):
        count = frames if number == 0 else max(0, frames - 1)
        stamps = np.arange(count, dtype=np.int64) * 200_000_000 + 10**18 + number
        first, last = (int(stamps[0]), int(stamps[-1])) if count else (0, 0)
        evidence = CameraEvidence(camera, f'/{camera}/image', 30, count, 1, first, last, 2 * 10**8)
        pixels = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
        clips.append(CameraClip(evidence, pixels, stamps))
    task = TaskEvent(
        TaskPhase.END,
        f'task-{name}-{seed}',
        10**18 + 10**9,
        name=name,
        instruction='put the cup down',
        status=TaskStatus.SUCCEEDED,
        cameras=tuple(cameras),
        context=(('lot', '7'),),
    )
    start, end = 10**18, 10**18 + 10**9
    return Episode(task, start, end, start - 1, end + 1, tuple(clips), False, 5.0)


def push_all(client, session, episode):
    """Stream all frames of an episode."""
    for clip in episode.clips:
        for stamp, frame in zip(clip.stamps_ns, clip.frames, strict=True):
            client.push(session, clip.evidence.camera, int(stamp), frame)


class Recorder:
    """Takes events or lines from any thread, and lets a test wait for one."""

    def __init__(self):
        self.items = []
        self._changed = threading.Condition()

    def __call__(self, item):
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait(self, kind, session=None, count=1, timeout=PATIENCE):
        """Return the ``count``-th event of a kind (and session); fail if it does not come."""

        def matching():
            return [
                item
                for item in self.items
                if isinstance(item, kind) and (session is None or item.session == session)
            ]

        return self.wait_until(lambda: len(matching()) >= count, timeout) and matching()[count - 1]

    def wait_until(self, condition, timeout=PATIENCE):
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                pytest.fail(f'nothing like it in {self.items}')
        return True

    def of(self, kind):
        return [item for item in self.items if isinstance(item, kind)]


def wait_for(condition, timeout=PATIENCE):
    """Wait until a condition that sends no event is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail('the condition did not become true')
        time.sleep(0.01)


class LocalServer:
    """The server's application on a Unix socket, in a thread of this process."""

    def __init__(self, path, load=None, **options):
        self.path = path
        self.gate = threading.Event()
        self.episodes = []
        self.options = []
        self.inference = InferenceServer(load or self._load, **options)
        self._server = None
        self._thread = None

    def start(self):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        Path(self.path).unlink(missing_ok=True)
        listener.bind(self.path)
        listener.listen()
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.inference.app,
                lifespan='on',
                log_config=None,
                access_log=False,
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={'sockets': [listener]})
        self._thread.start()
        return self

    def stop(self):
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join()

    @property
    def store(self):
        return self.inference._store

    def _load(self):
        return LoadedModel(scripted_server.INFO, self._diagnose)

    def _diagnose(self, episode, settings, **callbacks):
        self.episodes.append(episode)
        self.options.append(callbacks)
        if episode.task.name == 'gate':
            while not self.gate.wait(0.01):
                if callbacks['should_stop']():
                    raise scripted_server.Stopped
        if episode.task.name == 'stubborn gate':
            self.gate.wait()
        return scripted_server.diagnose(episode, settings, **callbacks)


@pytest.fixture
def socket_path():
    with tempfile.TemporaryDirectory(prefix='armor-test-') as folder:
        yield f'{folder}/socket'


@pytest.fixture
def make_server(socket_path):
    servers = []

    def make(load=None, **options):
        servers.append(LocalServer(socket_path, load, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.gate.set()
        server.stop()


@pytest.fixture
def server(make_server):
    return make_server().start()


@pytest.fixture
def events():
    return Recorder()


@pytest.fixture
def make_client(socket_path, events):
    clients = []

    def make(token='', **options):
        client = InferenceClient(Endpoint(unix=socket_path, token=token), events, **options)
        clients.append(client)
        client.start()
        return client

    yield make
    for client in clients:
        client.close()


def scripted_command(checkpoint='x'):
    """Return what makes the command of a scripted server at a path."""

    def make(path):
        return [
            sys.executable,
            str(HERE / 'scripted_server.py'),
            f'--checkpoint={checkpoint}',
            f'--unix={path}',
            '--exit-with-parent',
        ]

    return make


@pytest.fixture
def make_managed(events, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(HERE.parents[1]))
    made = []

    def make(checkpoint='x', **options):
        log = Recorder()
        options.setdefault('make_command', scripted_command(checkpoint))
        managed = ManagedInference(ServerSettings(checkpoint), events, log, **options)
        managed.log = log
        made.append(managed)
        managed.start()
        return managed

    yield make
    for managed in made:
        managed.close()
