# SPDX-License-Identifier: Apache-2.0
"""The whole road with a real process at its end: killed, frozen, orphaned, and a real model."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import HERE, PATIENCE, Recorder, make_episode, push_all, scripted_command, wait_for
from scripted_server import digest
from test_supervisor import alive, state_of

from armor_ros.episodes.diagnosis import RefinementSettings, ReportStatus, Verdict
from armor_ros.errors import ArmorError
from armor_ros.serving import managed as managed_module
from armor_ros.serving.events import Answer, ModelLost, ModelReady, NoAnswer, Started
from armor_ros.serving.link import Heartbeat
from armor_ros.serving.managed import ManagedInference, ServerSettings, parse_endpoint
from armor_ros.serving.supervisor import Backoff

ENDS = (Answer, NoAnswer)
SETTINGS = RefinementSettings()
QUICK = Backoff(first=0.05, longest=0.2)


def gone(pid):
    return not alive(pid) or state_of(pid) == 'Z'


def test_a_killed_process_costs_one_task_and_no_frame(make_managed, events):
    managed = make_managed(backoff=QUICK)
    client = managed.client
    events.wait(ModelReady)
    streaming = make_episode(seed=9, frames=8)
    client.open('streaming')
    push_all(client, 'streaming', streaming)
    client.submit('killer', make_episode('kill'), SETTINGS)
    client.submit('waiting', make_episode(seed=1), SETTINGS)
    answer = events.wait(ENDS, 'killer')
    assert answer.status is ReportStatus.MODEL_ERROR
    client.submit('streaming', streaming, SETTINGS)
    client.submit('later', make_episode(seed=2), SETTINGS)
    for name, episode in (
        ('waiting', make_episode(seed=1)),
        ('streaming', streaming),
        ('later', make_episode(seed=2)),
    ):
        answer = events.wait(ENDS, name)
        assert answer.diagnosis.failure_probability == digest(episode)
    assert len(events.of(ENDS)) == 4
    assert managed.state() == ('ready', '', 1)


def test_a_kill_from_outside_is_reported_within_two_seconds(make_managed, events):
    managed = make_managed(backoff=QUICK)
    events.wait(ModelReady)
    managed.client.submit('a', make_episode('wait'), SETTINGS)
    events.wait(Started, 'a')
    started = time.monotonic()
    os.kill(managed.pid, signal.SIGKILL)
    answer = events.wait(ENDS, 'a')
    assert time.monotonic() - started < 2.0
    assert answer.status is ReportStatus.MODEL_ERROR
    events.wait(ModelReady, count=2)


def test_a_frozen_process_is_found_and_replaced(make_managed, events):
    managed = make_managed(backoff=QUICK, heartbeat=Heartbeat(ready=3.0))
    events.wait(ModelReady)
    first = managed.pid
    managed.client.submit('freezer', make_episode('freeze'), SETTINGS)
    managed.client.submit('next', make_episode(), SETTINGS)
    answer = events.wait(ENDS, 'freezer')
    assert answer.status is ReportStatus.MODEL_ERROR
    assert 'no sign of life for 3 s' in answer.text
    assert isinstance(events.wait(ENDS, 'next'), Answer)
    assert gone(first)
    assert managed.state()[2] == 1


def test_a_busy_interpreter_is_not_taken_for_a_frozen_one(make_managed, events):
    managed = make_managed(heartbeat=Heartbeat(ready=3.0))
    events.wait(ModelReady)
    managed.client.submit('busy', make_episode('compute'), SETTINGS)
    assert isinstance(events.wait(ENDS, 'busy'), Answer)
    assert not events.of(ModelLost)


def test_a_broken_accelerator_ends_the_process_and_the_next_task_is_served(make_managed, events):
    managed = make_managed(backoff=QUICK)
    managed.client.submit('a', make_episode('cuda'), SETTINGS)
    managed.client.submit('b', make_episode(), SETTINGS)
    answer = events.wait(ENDS, 'a')
    assert answer.status is ReportStatus.MODEL_ERROR
    assert 'CUDA error' in answer.text
    assert isinstance(events.wait(ENDS, 'b'), Answer)
    assert managed.state()[2] == 1


def test_an_inference_that_does_not_end_is_killed(make_managed, events, monkeypatch):
    monkeypatch.setattr('armor_ros.serving.ledger.STOP_SECONDS', 0.3)
    managed = make_managed(backoff=QUICK)
    events.wait(ModelReady)
    managed.client.submit('hang', make_episode('hang'), SETTINGS)
    events.wait(Started, 'hang')
    managed.client.cancel('hang')
    managed.client.submit('next', make_episode(), SETTINGS)
    assert events.wait(ENDS, 'hang').status is ReportStatus.CANCELED
    assert isinstance(events.wait(ENDS, 'next'), Answer)
    assert managed.state()[2] == 1


def test_a_model_that_cannot_be_loaded_is_tried_again(make_managed, events, monkeypatch):
    monkeypatch.setattr(managed_module, 'RELOAD_SECONDS', 0.1)
    managed = make_managed('broken', backoff=QUICK)
    managed.client.submit('a', make_episode(), SETTINGS)
    answer = events.wait(ENDS, 'a')
    assert answer.status is ReportStatus.MODEL_NOT_READY
    assert 'no such checkpoint' in answer.text
    wait_for(lambda: managed.state()[2] >= 1)
    state, text, _ = managed.state()
    assert state == 'failed'
    assert 'no such checkpoint' in text


def test_five_deaths_in_a_row_are_a_failure(make_managed):
    managed = make_managed(
        backoff=QUICK, make_command=lambda path: [sys.executable, '-c', 'raise SystemExit(4)']
    )
    wait_for(lambda: managed.state()[0] == 'failed')
    state, text, deaths = managed.state()
    assert state == 'failed'
    assert deaths >= 5
    assert 'deaths in a row, the last: the inference process ended with status 4' in text


def test_the_last_death_explains_why_the_model_is_not_ready(make_managed, events):
    managed = make_managed(
        timeout=1.0, make_command=lambda path: [sys.executable, '-c', 'print(1/0)']
    )
    wait_for(lambda: managed.state()[2] >= 1)
    managed.client.submit('a', make_episode(), SETTINGS)
    answer = events.wait(ENDS, 'a')
    assert answer.status is ReportStatus.MODEL_NOT_READY
    assert 'ZeroDivisionError' in answer.text


def test_threads_do_not_take_from_others_the_cores_they_wait_for(make_managed, monkeypatch):
    monkeypatch.setenv('GOMP_SPINCOUNT', '7')
    monkeypatch.delenv('OMP_WAIT_POLICY', raising=False)
    show = (
        "import os; raise SystemExit(os.environ['OMP_WAIT_POLICY'] + os.environ['GOMP_SPINCOUNT'])"
    )
    managed = make_managed(make_command=lambda path: [sys.executable, '-c', show])
    wait_for(lambda: managed.state()[2] >= 1)
    assert 'PASSIVE7' in managed.state()[1]


def test_close_leaves_no_process_thread_file_or_descriptor(make_managed, events):
    def cycle():
        managed = make_managed()
        events.wait(ModelReady, count=len(events.of(ModelReady)) + 1)
        pid, path = managed.pid, managed.client._endpoint.unix
        managed.client.submit('a', make_episode('wait'), SETTINGS)
        events.wait(Started, count=len(events.of(Started)) + 1)
        started = time.monotonic()
        managed.close()
        assert time.monotonic() - started < 2.5
        assert gone(pid)
        assert not Path(path).parent.exists()

    def held():
        return threading.active_count(), len(os.listdir('/proc/self/fd'))

    cycle()
    before = held()
    for _ in range(2):
        cycle()
    # a timer that was canceled takes a moment to end
    wait_for(lambda: all(now <= then for now, then in zip(held(), before, strict=True)), 10)
    assert {event.status for event in events.of(NoAnswer)} == {ReportStatus.CANCELED}


def test_the_socket_is_in_a_folder_of_this_user_only(make_managed):
    folder = Path(make_managed().client._endpoint.unix).parent
    assert folder.stat().st_mode & 0o777 == 0o700


PARENT = """
import sys
sys.path[:0] = [{here!r}, {root!r}]
from conftest import scripted_command
from armor_ros.serving.managed import ManagedInference, ServerSettings
managed = ManagedInference(
    ServerSettings('x'), lambda event: print(type(event).__name__, managed.pid, flush=True),
    # another thread's line could end up in the middle of one of ours
    lambda line: None,
    make_command=scripted_command())
managed.start()
sys.stdin.read()
"""


@pytest.mark.parametrize('child_stopped', [False, True])
def test_a_parent_that_is_killed_leaves_no_orphan(child_stopped):
    root = str(HERE.parents[1])
    parent = subprocess.Popen(
        [sys.executable, '-c', PARENT.format(here=str(HERE), root=root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': root},
        text=True,
    )
    try:
        child = None
        for line in parent.stdout:
            if match := re.match(r'ModelReady (\d+)', line):
                child = int(match.group(1))
                break
        assert alive(child)
        if child_stopped:
            os.kill(child, signal.SIGSTOP)
    finally:
        parent.kill()
        parent.wait()
        parent.stdin.close()
        parent.stdout.close()
    wait_for(lambda: gone(child))


def test_a_supervised_server_ends_with_its_standard_input(socket_path):
    server = subprocess.Popen(
        scripted_command()(socket_path),
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, 'PYTHONPATH': str(HERE.parents[1])},
    )
    try:
        wait_for(lambda: Path(socket_path).exists())
        server.stdin.close()
        assert server.wait(PATIENCE) == 0
        assert not Path(socket_path).exists()
    finally:
        server.kill()
        server.wait()


def test_a_server_on_another_machine(tmp_path, events, monkeypatch):
    """TCP and a token, and no supervisor: the server outlives the monitor."""
    monkeypatch.setenv('PYTHONPATH', str(HERE.parents[1]))
    token = tmp_path / 'token'
    token.write_text('secret\n')
    command = [sys.executable, str(HERE / 'scripted_server.py'), '--checkpoint=x']
    command += ['--host=127.0.0.1', '--port=0', f'--token-file={token}']
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        port = next(
            int(match.group(1))
            for line in server.stderr
            if (match := re.search(r'listening at 127.0.0.1:(\d+)', line))
        )
        settings = ServerSettings(server=f'127.0.0.1:{port}', token_file=str(token))
        managed = ManagedInference(settings, events, Recorder())
        managed.start()
        episode = make_episode(frames=10, size=(120, 160))
        managed.client.submit('a', episode, SETTINGS)
        assert events.wait(ENDS, 'a').diagnosis.failure_probability == digest(episode)
        assert managed.state() == ('ready', '', 0)
        assert managed.pid is None
        managed.close()
        assert server.poll() is None
        server.send_signal(signal.SIGTERM)
        assert server.wait(5) == 0
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


def test_the_real_model_in_a_process_of_its_own_answers_as_it_does_here(tmp_path, events):
    pytest.importorskip('torch')
    from armor_ros.inference.diagnoser import Diagnoser
    from armor_ros.model.checkpoint import load_checkpoint
    from armor_ros.model.tiny import make_tiny_checkpoint

    checkpoint = str(make_tiny_checkpoint(tmp_path / 'tiny', seed=1))
    episode = make_episode('put the cup down', frames=4, size=(56, 56))
    settings = RefinementSettings(rounds=2, trajectories=2, max_new_tokens=6, seed=3)
    log = Recorder()
    managed = ManagedInference(ServerSettings(checkpoint, device='cpu'), events, log, timeout=120)
    managed.start()
    try:
        managed.client.open('a')
        push_all(managed.client, 'a', episode)
        managed.client.submit('a', episode, settings)
        model = load_checkpoint(checkpoint, device='cpu')
        expected = Diagnoser(model).diagnose(episode, settings)
        answer = events.wait(ENDS, 'a', timeout=120)
        assert isinstance(answer, Answer), answer
        assert answer.diagnosis == expected
        assert answer.diagnosis.verdict in (Verdict.SUCCESS, Verdict.FAILURE)
        assert managed.client.model == model.info
        bad = make_episode('no frames', frames=0)
        managed.client.submit('b', bad, settings)
        assert events.wait(ENDS, 'b').status is ReportStatus.MODEL_ERROR
    finally:
        managed.close()
    assert np.all(np.isfinite([entry.combined_entropy for entry in expected.trace]))


@pytest.mark.parametrize(
    ('server', 'host', 'port'),
    [('gpu:7071', 'gpu', 7071), ('gpu', 'gpu', 7070), ('[::1]:80', '::1', 80)],
)
def test_addresses(tmp_path, server, host, port):
    token = tmp_path / 'token'
    token.write_text('secret')
    endpoint = parse_endpoint(server, str(token))
    assert (endpoint.host, endpoint.port, endpoint.token) == (host, port, 'secret')
    assert 'secret' not in repr(endpoint)


@pytest.mark.parametrize(
    ('server', 'token_file', 'words'),
    [
        ('gpu:x', '/t', 'is not "host:port"'),
        (':7070', '/t', 'is not "host:port"'),
        ('gpu:7070', '', 'set token_file'),
        ('gpu:7070', '/nowhere/token', 'cannot be read'),
        ('gpu:70700', 'TOKEN', '1 to 65535'),
    ],
)
def test_addresses_that_cannot_work(tmp_path, server, token_file, words):
    token = tmp_path / 'token'
    token.write_text('secret')
    with pytest.raises(ArmorError, match=words):
        parse_endpoint(server, str(token) if token_file == 'TOKEN' else token_file)


def test_the_command_is_the_real_server(tmp_path):
    settings = ServerSettings('/c', '4bit', 'cuda:1', sys.executable)
    command = managed_module.server_command(settings, '/s')
    text = subprocess.run(
        [*command[:3], '--help'], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert 'python -m armor_ros.serving.server' in text
    assert '--quantization=4bit' in command
    assert scripted_command()('/s')[-1] == command[-1] == '--exit-with-parent'
