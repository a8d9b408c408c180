# SPDX-License-Identifier: Apache-2.0
"""Exactly one answer for each submitted task: client and server, in one process."""

import random
import threading
import time

import numpy as np
import pytest
from conftest import PATIENCE, make_episode, push_all, wait_for
from scripted_server import INFO, digest

from armor_ros.episodes.diagnosis import RefinementSettings, ReportStatus
from armor_ros.errors import ArmorError
from armor_ros.serving.client import InferenceClient
from armor_ros.serving.events import (
    Answer,
    Detection,
    Endpoint,
    ModelLost,
    ModelReady,
    NoAnswer,
    RoundDone,
    Started,
    StateChanged,
)

SETTINGS = RefinementSettings(rounds=2, seed=5)
ENDS = (Answer, NoAnswer)


def same_episode(ours, theirs):
    return ours.task == theirs.task and all(
        np.array_equal(one.frames, other.frames)
        and np.array_equal(one.stamps_ns, other.stamps_ns)
        and one.evidence == other.evidence
        for one, other in zip(ours.clips, theirs.clips, strict=True)
    )


def test_a_task_is_answered_with_its_progress_in_order(server, make_client, events):
    client = make_client()
    assert events.wait(ModelReady).info == INFO
    episode = make_episode(frames=5)
    client.open('a')
    push_all(client, 'a', episode)
    client.submit('a', episode, SETTINGS)
    answer = events.wait(Answer, 'a')
    assert answer.diagnosis.failure_probability == digest(episode)
    assert answer.diagnosis.settings == SETTINGS
    assert answer.diagnosis.model == INFO
    assert 0 <= answer.queue_seconds < 60
    assert 0 <= answer.inference_seconds < 60
    kinds = [type(event) for event in events.items if getattr(event, 'session', '') == 'a']
    assert kinds == [Started, Detection, RoundDone, Answer]
    assert same_episode(server.episodes[0], episode)
    assert client.state == 'ready'
    assert client.model == INFO


def test_usual_explanations_reach_the_model(server, make_client, events):
    usual = ('the can slipped', 'the robot did "it"\n')
    client = make_client(usual_explanations=usual)
    client.submit('a', make_episode(), SETTINGS)
    answer = events.wait(Answer, 'a').diagnosis
    assert server.options[0]['usual_explanations'] == usual
    assert answer.settings == SETTINGS


@pytest.mark.parametrize('streamed', [0, 3, 100])
def test_the_server_gets_the_same_episode_however_much_was_streamed(
    server, make_client, events, streamed
):
    client = make_client()
    events.wait(ModelReady)
    episode = make_episode(frames=20, size=(31, 17), cameras=('a', 'b', 'c'))
    client.open('a')
    pairs = [
        (clip.evidence.camera, int(stamp), frame)
        for clip in episode.clips
        for stamp, frame in zip(clip.stamps_ns, clip.frames, strict=True)
    ]
    for camera, stamp, frame in pairs[:streamed]:
        client.push('a', camera, stamp, frame)
    client.submit('a', episode, SETTINGS)
    assert events.wait(ENDS, 'a').diagnosis.failure_probability == digest(episode)
    assert same_episode(server.episodes[0], episode)
    wait_for(lambda: server.store.nbytes == 0)


def test_streamed_frames_are_on_the_server_before_the_task_ends(server, make_client, events):
    client = make_client()
    events.wait(ModelReady)
    episode = make_episode(frames=6)
    client.open('a')
    push_all(client, 'a', episode)
    wait_for(lambda: sum(len(s.frames) for s in server.store._sessions.values()) == 11)
    client.cancel('a')
    wait_for(lambda: server.store.nbytes == 0)
    client.submit('b', make_episode(), SETTINGS)
    events.wait(Answer, 'b')
    assert not [event for event in events.of(ENDS) if event.session == 'a']


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('raise', 'ValueError: the numbers do not add up'),
        ('memory', 'MemoryError'),
        ('exit', 'SystemExit: 3'),
        ('nan', 'failure_probability is nan'),
        ('nan detection', 'failure_probability is nan'),
    ],
)
def test_an_error_of_the_model_is_an_answer_and_the_server_stays(
    server, make_client, events, name, words
):
    client = make_client()
    client.submit('bad', make_episode(name), SETTINGS)
    client.submit('good', make_episode(), SETTINGS)
    answer = events.wait(ENDS, 'bad')
    assert answer.status is ReportStatus.MODEL_ERROR
    assert words in answer.text
    assert isinstance(events.wait(ENDS, 'good'), Answer)
    assert not events.of(ModelLost)


def test_twenty_tasks_at_once_are_twenty_answers(server, make_client, events):
    client = make_client(queue_size=16)
    events.wait(ModelReady)
    for number in range(20):
        client.submit(str(number), make_episode('gate', seed=number), SETTINGS)
    full = [events.wait(NoAnswer, str(number)) for number in range(16, 20)]
    assert {answer.status for answer in full} == {ReportStatus.QUEUE_FULL}
    assert 'queue_size is 16' in full[0].text
    server.gate.set()
    for number in range(16):
        answer = events.wait(ENDS, str(number))
        expected = digest(make_episode('gate', seed=number))
        assert answer.diagnosis.failure_probability == expected
    assert len(events.of(ENDS)) == 20
    assert [event.session for event in events.of(Started)] == [str(n) for n in range(16)]


def test_a_full_queue_has_room_again_after_an_answer(server, make_client, events):
    client = make_client(queue_size=1)
    events.wait(ModelReady)
    client.submit('a', make_episode(), SETTINGS)
    events.wait(Answer, 'a')
    client.submit('b', make_episode(), SETTINGS)
    events.wait(Answer, 'b')


def test_time_runs_out_during_inference_and_the_next_task_is_served(server, make_client, events):
    client = make_client(timeout=0.5)
    events.wait(ModelReady)
    client.submit('slow', make_episode('wait'), SETTINGS)
    answer = events.wait(NoAnswer, 'slow')
    assert answer.status is ReportStatus.TIMEOUT
    assert 'during inference' in answer.text
    wait_for(lambda: server.store.nbytes == 0)  # the server was told, and stopped
    other = make_client(timeout=60)
    other.submit('next', make_episode(), SETTINGS)
    assert isinstance(events.wait(ENDS, 'next'), Answer)
    assert len([event for event in events.of(ENDS) if event.session == 'slow']) == 1


def test_time_counts_from_submit_for_tasks_that_wait(server, make_client, events):
    client = make_client(timeout=0.5)
    events.wait(ModelReady)
    # the first does not end when it is asked to, so that the others cannot begin
    client.submit('a', make_episode('stubborn gate'), SETTINGS)
    events.wait(Started, 'a')
    for name in ('b', 'c'):
        client.submit(name, make_episode(), SETTINGS)
    texts = {name: events.wait(NoAnswer, name).text for name in ('a', 'b', 'c')}
    server.gate.set()
    assert 'during inference' in texts['a']
    assert all('before its turn' in texts[name] for name in ('b', 'c'))
    assert {event.status for event in events.of(NoAnswer)} == {ReportStatus.TIMEOUT}


def test_without_a_server_the_model_is_not_ready(make_client, events, socket_path):
    client = make_client(timeout=0.3)
    client.open('a')
    push_all(client, 'a', make_episode())
    client.submit('a', make_episode(), SETTINGS)
    answer = events.wait(NoAnswer, 'a')
    assert answer.status is ReportStatus.MODEL_NOT_READY
    assert f'nothing listens at {socket_path}' in answer.text
    assert client.state == 'down'


def test_a_task_waits_for_the_model_to_load(make_server, make_client, events):
    ready = threading.Event()
    server = make_server()
    load = server._load
    server.inference._worker._load = lambda: ready.wait(60) and load()
    server.start()
    client = make_client()
    events.wait_until(lambda: client.state == 'loading')
    client.submit('a', make_episode(), SETTINGS)
    client.submit('b', make_episode(), SETTINGS)
    ready.set()
    assert isinstance(events.wait(ENDS, 'a'), Answer)
    assert isinstance(events.wait(ENDS, 'b'), Answer)


def test_a_model_that_never_comes_is_not_ready(make_server, make_client, events):
    ready = threading.Event()
    server = make_server(lambda: ready.wait(60))
    server.start()
    client = make_client(timeout=0.5)
    client.submit('a', make_episode(), SETTINGS)
    answer = events.wait(NoAnswer, 'a')
    ready.set()
    assert answer.status is ReportStatus.MODEL_NOT_READY
    assert 'it is loading' in answer.text or 'it is down' in answer.text


def test_a_model_that_cannot_be_loaded_says_why(make_server, make_client, events):
    def load():
        raise ArmorError('checkpoint /nowhere does not exist')

    make_server(load).start()
    client = make_client()
    client.submit('early', make_episode(), SETTINGS)
    answer = events.wait(NoAnswer, 'early')
    client.submit('late', make_episode(), SETTINGS)
    for one in (answer, events.wait(NoAnswer, 'late')):
        assert one.status is ReportStatus.MODEL_NOT_READY
        assert 'checkpoint /nowhere does not exist' in one.text
    assert client.state == 'failed'
    assert 'checkpoint /nowhere' in client.state_text


def test_a_canceled_task_is_answered_once_and_the_next_is_served(server, make_client, events):
    client = make_client()
    client.submit('a', make_episode('gate'), SETTINGS)
    client.submit('b', make_episode('gate'), SETTINGS)
    client.submit('c', make_episode(), SETTINGS)
    events.wait(Started, 'a')
    for name in ('b', 'a', 'a', 'unknown'):
        client.cancel(name)
    for name in ('a', 'b'):
        assert events.wait(NoAnswer, name).status is ReportStatus.CANCELED
    assert isinstance(events.wait(ENDS, 'c'), Answer)
    wait_for(lambda: server.store.nbytes == 0)
    assert sorted(event.session for event in events.of(ENDS)) == ['a', 'b', 'c']


def test_a_lost_server_costs_the_running_task_only(make_server, make_client, events):
    first = make_server().start()
    client = make_client()
    for name in ('a', 'b', 'c'):
        client.submit(name, make_episode('gate', seed=ord(name)), SETTINGS)
    client.open('d')
    push_all(client, 'd', make_episode(seed=4))
    events.wait(Started, 'a')
    threading.Thread(target=first.stop).start()
    answer = events.wait(NoAnswer, 'a')
    assert answer.status is ReportStatus.MODEL_ERROR
    assert 'lost' in answer.text
    events.wait(ModelLost)
    first._thread.join()
    second = make_server().start()
    second.gate.set()
    events.wait(ModelReady, count=2)
    client.submit('d', make_episode(seed=4), SETTINGS)
    for name, episode in (
        ('b', make_episode('gate', seed=ord('b'))),
        ('c', make_episode('gate', seed=ord('c'))),
        ('d', make_episode(seed=4)),
    ):
        answer = events.wait(ENDS, name)
        assert answer.diagnosis.failure_probability == digest(episode)
    assert len(events.of(ENDS)) == 4


def test_close_answers_all_and_leaves_no_thread(server, make_client, events):
    before = threading.active_count()
    client = make_client()
    client.submit('a', make_episode('gate'), SETTINGS)
    client.submit('b', make_episode('gate'), SETTINGS)
    events.wait(Started, 'a')
    started = time.monotonic()
    client.close()
    assert time.monotonic() - started < 2.0
    assert {event.status for event in events.of(NoAnswer)} == {ReportStatus.CANCELED}
    assert len(events.of(NoAnswer)) == 2
    client.submit('c', make_episode(), SETTINGS)
    assert events.of(NoAnswer)[2].session == 'c'
    client.push('c', 'front', 0, np.zeros((2, 2, 3), np.uint8))
    client.close()
    assert threading.active_count() <= before + 1  # the server's model thread
    wait_for(lambda: server.store.nbytes == 0)


@pytest.mark.parametrize('listening', [False, True])
def test_close_never_waits_for_a_connection_in_the_making(make_server, socket_path, listening):
    if listening:
        make_server().start()
    delays = random.Random(1)
    for _ in range(100):
        client = InferenceClient(Endpoint(unix=socket_path), lambda event: None)
        client.start()
        time.sleep(delays.random() * 0.003)
        closing = threading.Thread(target=client.close, daemon=True)
        closing.start()
        closing.join(PATIENCE)
        assert not closing.is_alive()


def test_a_client_that_was_never_started_answers_at_close(socket_path, events):
    client = InferenceClient(Endpoint(unix=socket_path), events)
    client.submit('a', make_episode(), SETTINGS)
    client.close()
    assert events.wait(NoAnswer, 'a').status is ReportStatus.CANCELED


def test_push_never_keeps_more_than_its_bound(make_client, socket_path):
    client = make_client(stream_bytes=1000)
    frame = np.zeros((10, 10, 3), np.uint8)
    blocked = threading.Event()
    client._call(lambda: blocked.wait(PATIENCE))  # the client's thread is busy
    client.open('a')
    for stamp in range(100):
        client.push('a', 'front', stamp, frame)
    on_way = client._bytes_on_way
    blocked.set()
    assert on_way == 900
    wait_for(lambda: client._bytes_on_way == 0)


def test_a_frame_that_is_none_is_left_out(server, make_client, events):
    client = make_client()
    events.wait(ModelReady)
    client.open('a')
    client.push('a', 'front', 1, np.zeros((4, 4), np.float32))
    client.submit('a', make_episode(), SETTINGS)
    assert isinstance(events.wait(ENDS, 'a'), Answer)


def test_an_episode_that_cannot_be_sent_is_answered(server, make_client, events):
    client = make_client()
    events.wait(ModelReady)
    for name, settings in (
        ('a', RefinementSettings(rounds=1000)),
        ('b', RefinementSettings(tolerance=float('nan'))),
    ):
        client.submit(name, make_episode(), settings)
        answer = events.wait(NoAnswer, name)
        assert answer.status is ReportStatus.MODEL_ERROR
        assert 'cannot be sent' in answer.text
    client.submit('c', make_episode(), SETTINGS)
    assert isinstance(events.wait(ENDS, 'c'), Answer)


def test_an_episode_too_large_for_the_server_is_answered(make_server, make_client, events):
    make_server(session_bytes=2000, total_bytes=4000).start()
    client = make_client()
    client.submit('a', make_episode(frames=9), SETTINGS)
    answer = events.wait(NoAnswer, 'a')
    assert answer.status is ReportStatus.MODEL_ERROR
    assert '--session-megabytes' in answer.text
    client.submit('b', make_episode(frames=1), SETTINGS)
    assert isinstance(events.wait(ENDS, 'b'), Answer)


def test_the_same_session_twice_has_two_answers(server, make_client, events):
    client = make_client()
    client.submit('a', make_episode('gate'), SETTINGS)
    client.submit('a', make_episode('gate'), SETTINGS)
    assert 'its own name' in events.wait(NoAnswer, 'a').text
    server.gate.set()
    events.wait(Answer, 'a')
    assert len(events.of(ENDS)) == 2


def test_a_receiver_that_raises_does_not_harm(server, socket_path, events):
    def receive(event):
        events(event)
        raise RuntimeError('the receiver is broken')

    client = InferenceClient(Endpoint(unix=socket_path), receive)
    client.start()
    client.submit('a', make_episode(), SETTINGS)
    assert isinstance(events.wait(ENDS, 'a'), Answer)
    client.close()


def test_two_monitors_share_a_server_without_crosstalk(server, make_client, events):
    one, two = make_client(), make_client()
    for number in range(4):
        one.submit(f'one {number}', make_episode(seed=number), SETTINGS)
        two.submit(f'two {number}', make_episode(seed=10 + number), SETTINGS)
    for number in range(4):
        for name, seed in ((f'one {number}', number), (f'two {number}', 10 + number)):
            answer = events.wait(ENDS, name)
            assert answer.diagnosis.failure_probability == digest(make_episode(seed=seed))


def test_a_monitor_that_leaves_frees_its_sessions(server, make_client, events):
    leaving, staying = make_client(), make_client()
    events.wait(ModelReady, count=2)
    leaving.open('streamed')
    push_all(leaving, 'streamed', make_episode())
    leaving.submit('running', make_episode('wait'), SETTINGS)
    events.wait(Started, 'running')
    staying.submit('next', make_episode(), SETTINGS)
    leaving.close()
    assert isinstance(events.wait(ENDS, 'next'), Answer)
    wait_for(lambda: server.store.nbytes == 0)


def test_states_are_told_in_order(server, make_client, events):
    client = make_client()
    events.wait(ModelReady)
    client.close()
    states = [event.state for event in events.of(StateChanged)]
    assert states[-3:] == ['loading', 'ready', 'down']
    assert len(events.of(ModelLost)) == 1


@pytest.mark.parametrize('options', [{'queue_size': 0}, {'timeout': 0}, {'timeout': float('nan')}])
def test_settings_that_cannot_work_are_refused(options, events):
    with pytest.raises(ArmorError, match='must be at least'):
        InferenceClient(Endpoint(unix='/x'), events, **options)
