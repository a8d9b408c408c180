# SPDX-License-Identifier: Apache-2.0
"""Episodes encoded while they happen: the answers stay the same, whatever happens to a stream."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from conftest import PATIENCE, Recorder, make_episode, push_all, wait_for
from scripted_server import INFO, diagnose, digest

from armor_ros.episodes.diagnosis import InputMode, RefinementSettings, ReportStatus, settled
from armor_ros.serving import messages
from armor_ros.serving.codec import ProtocolError
from armor_ros.serving.events import Answer, ModelReady, NoAnswer, RoundDone
from armor_ros.serving.frame_store import FRAME_OVERHEAD, FrameStore
from armor_ros.serving.managed import ManagedInference, ServerSettings
from armor_ros.serving.manifest import frame_message, submit_message
from armor_ros.serving.streams import FRAMES_AHEAD, StreamPool
from armor_ros.serving.worker import LoadedModel

ENDS = (Answer, NoAnswer)
FRONT = RefinementSettings(
    rounds=2, trajectories=2, max_new_tokens=6, tolerance=0.0, seed=3, camera='front'
)
FPS = 5.0


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    pytest.importorskip('torch')
    from armor_ros.model.tiny import TinySize, make_tiny_checkpoint

    size = TinySize(hidden_size=64, layers=6, vision_hidden_size=32, vision_layers=2, spread=0.2)
    path = tmp_path_factory.mktemp('models') / 'tiny'
    return str(make_tiny_checkpoint(path, seed=1, size=size))


@pytest.fixture(scope='session')
def model(checkpoint):
    from armor_ros.model.checkpoint import load_checkpoint

    return load_checkpoint(checkpoint, device='cpu')


def expected_of(model, episode, settings=FRONT):
    from armor_ros.inference.diagnoser import Diagnoser

    return Diagnoser(model).diagnose(episode, settings)


def real_model(model, wrap=lambda stream: stream):
    """Return a model as the server loads it; ``wrap`` takes the place of a stream it opens."""
    from armor_ros.inference.diagnoser import Diagnoser

    diagnoser = Diagnoser(model)

    def open_stream(**options):
        return wrap(diagnoser.open_stream(**options))

    def diagnose_unwrapped(*arguments, stream=None, **options):
        return diagnoser.diagnose(*arguments, stream=getattr(stream, 'inner', stream), **options)

    return LoadedModel(model.info, diagnose_unwrapped, open_stream, model.config.input_mode)


def assert_same_answer(ours, theirs):
    assert (ours.selected, ours.verdict) == (theirs.selected, theirs.verdict)
    assert len(ours.trace) == len(theirs.trace)
    for one, other in zip(ours.trace, theirs.trace, strict=True):
        assert (one.explanation, one.failed) == (other.explanation, other.failed)
        for name in ('failure_probability', 'detection_entropy', 'explanation_entropy'):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-5)


class ScriptedStream:
    """Takes what it is given, and does in ``step`` what the test says."""

    def __init__(self, on_step=lambda stream: None, on_push=lambda stream: None):
        self.on_step, self.on_push = on_step, on_push
        self.pushed = []
        self.most_waiting = 0
        self.waiting = 0
        self.closed = 0
        self.nbytes = 0

    @property
    def nbytes_after_step(self):
        return self.nbytes + 100

    def push(self, stamp_ns, frame):
        self.on_push(self)
        self.pushed.append((stamp_ns, frame))
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        return not self.closed

    def step(self):
        self.on_step(self)
        if self.waiting < 2:
            return False
        self.waiting -= 2
        self.nbytes += 100
        return True

    def close(self):
        self.closed += 1
        self.waiting = self.nbytes = 0


class ScriptedModel:
    """The scripted model with streams; writes down what was opened and diagnosed."""

    def __init__(self, make_stream=ScriptedStream):
        self.make_stream = make_stream
        self.streams = []
        self.options = []
        self.given = []

    def load(self):
        return LoadedModel(INFO, self.diagnose, self.open_stream, InputMode.CLIP)

    def open_stream(self, **options):
        self.options.append(options)
        self.streams.append(self.make_stream())
        return self.streams[-1]

    def diagnose(self, episode, settings, *, stream=None, **options):
        self.given.append(stream)
        return diagnose(episode, settings, **options)


class Wrapped:
    """A real stream whose named method raises."""

    def __init__(self, inner, method, error):
        self.inner, self.method, self.error = inner, method, error

    def __getattr__(self, name):
        if name == self.method:
            raise self.error
        return getattr(self.inner, name)


# -- the real model -------------------------------------------------------------------------


def test_a_streamed_answer_from_another_process_is_the_one_given_here(checkpoint, model, events):
    episode = make_episode('put', frames=13, size=(56, 56))
    expected = expected_of(model, episode)
    log = Recorder()
    managed = ManagedInference(ServerSettings(checkpoint, device='cpu'), events, log, timeout=120)
    managed.start()
    try:
        events.wait(ModelReady)
        # The only sign of how far the process is, is how much it had left to do at the end.
        for pause in (0.5, 2.0, 8.0, 32.0):
            session = f'after {pause}'
            managed.client.open(session, FRONT, FPS)
            push_all(managed.client, session, episode)
            time.sleep(pause)
            managed.client.submit(session, episode, FRONT)
            answer = events.wait(ENDS, session, timeout=120)
            assert isinstance(answer, Answer), (answer, log.items)
            assert_same_answer(answer.diagnosis, expected)
            if 0 < answer.diagnosis.late_frames <= 2:
                return
        pytest.fail(f'{answer.diagnosis.late_frames} frames of 13 were late')
    finally:
        managed.close()


def test_episodes_that_happen_at_once_do_not_see_each_other(
    model, make_server, make_client, events
):
    server = make_server(lambda: real_model(model)).start()
    client = make_client(timeout=120)
    events.wait(ModelReady)
    episodes = {
        str(seed): make_episode('put', frames=9 + seed, size=(56, 56), seed=seed)
        for seed in range(3)
    }
    for name in episodes:
        client.open(name, FRONT, FPS)
    for index in range(max(len(each.clips[0].stamps_ns) for each in episodes.values())):
        for name, episode in episodes.items():
            clip = episode.clips[0]
            if index < len(clip.stamps_ns):
                client.push(name, 'front', int(clip.stamps_ns[index]), clip.frames[index])
    wait_until_encoded(server, sessions=3, frames=9 + 10 + 11)
    for name, episode in episodes.items():
        client.submit(name, episode, FRONT)
    for name, episode in episodes.items():
        diagnosis = events.wait(Answer, name).diagnosis
        assert_same_answer(diagnosis, expected_of(model, episode))
        assert diagnosis.late_frames == len(episode.clips[0].stamps_ns) % 2
    assert len(pool_of(server)) == 0


@pytest.mark.parametrize('method', ['push', 'step', 'waiting'])
@pytest.mark.parametrize('error', [RuntimeError('it broke'), MemoryError(), SystemExit(1)])
def test_a_stream_that_raises_costs_time_only(
    model, make_server, make_client, events, method, error
):
    opened = []

    def break_first(stream):
        opened.append(stream)
        return Wrapped(stream, method, error) if len(opened) == 1 else stream

    server = make_server(lambda: real_model(model, break_first)).start()
    client = make_client(timeout=120)
    events.wait(ModelReady)
    episode = make_episode('put', frames=8, size=(56, 56))
    client.open('broken', FRONT, FPS)
    push_all(client, 'broken', episode)
    wait_for(lambda: opened and not opened[0]._is_open)
    client.open('sound', FRONT, FPS)
    push_all(client, 'sound', episode)
    wait_until_encoded(server, sessions=1, frames=8)
    for name, late in (('broken', 8), ('sound', 0)):
        client.submit(name, episode, FRONT)
        diagnosis = events.wait(Answer, name).diagnosis
        assert_same_answer(diagnosis, expected_of(model, episode))
        assert diagnosis.late_frames == late
    assert len(opened) == 3
    assert client.state == 'ready'


def test_pixels_that_were_not_those_submitted_are_never_looked_at(
    model, make_server, make_client, events
):
    """A simulation that was reset gives the same stamps with other pictures."""
    server = make_server(lambda: real_model(model)).start()
    client = make_client(timeout=120)
    events.wait(ModelReady)
    episode = make_episode('put', frames=6, size=(56, 56))
    clip = episode.clips[0]
    before = clip.frames.copy()
    before[:, 1::16] = 255 - before[:, 1::16]
    client.open('a', FRONT, FPS)
    for stamp, frame in zip(clip.stamps_ns, before, strict=True):
        client.push('a', 'front', int(stamp), frame)
    wait_until_encoded(server, sessions=1, frames=6)
    client.submit('a', episode, FRONT)
    diagnosis = events.wait(Answer, 'a').diagnosis
    assert_same_answer(diagnosis, expected_of(model, episode))
    assert diagnosis.late_frames == 6


@pytest.mark.parametrize('streamed', [slice(0, 0), slice(3, 9), slice(0, 5), slice(0, 9, 2)])
def test_gaps_do_not_change_the_answer(model, make_server, make_client, events, streamed):
    make_server(lambda: real_model(model)).start()
    client = make_client(timeout=120)
    events.wait(ModelReady)
    episode = make_episode('put', frames=9, size=(56, 56), cameras=('front',))
    clip = episode.clips[0]
    client.open('a', FRONT, FPS)
    for index in range(9)[streamed]:
        client.push('a', 'front', int(clip.stamps_ns[index]), clip.frames[index])
    time.sleep(0.2)
    client.submit('a', episode, FRONT)
    assert_same_answer(events.wait(Answer, 'a').diagnosis, expected_of(model, episode))


def test_the_deadline_reaches_the_model(model, make_server, make_client, events):
    make_server(lambda: real_model(model)).start()
    client = make_client(timeout=120)
    episode = make_episode('put', frames=4, size=(56, 56))
    for name, deadline in (('in time', 3600.0), ('late', 1e-6)):
        client.submit(name, episode, dataclasses.replace(FRONT, deadline=deadline))
    assert not events.wait(Answer, 'in time').diagnosis.deadline_reached
    late = events.wait(Answer, 'late').diagnosis
    assert late.deadline_reached
    assert late.failure_probability == pytest.approx(
        expected_of(model, episode).trace[0].failure_probability, abs=1e-5
    )


def test_a_canceled_task_stops_between_two_steps_of_the_decoder(
    model, make_server, make_client, events, monkeypatch
):
    from armor_ros.model.decoder import Decoder

    episode = make_episode('put', frames=4, size=(56, 56))
    expected = expected_of(model, episode)
    server = make_server(lambda: real_model(model)).start()
    late_layers, steps, unwanted = Decoder.late_layers, [], []

    def take_step(*arguments):
        running = server.inference._running
        (unwanted if running.stop.is_set() else steps).append(running.number)
        time.sleep(0.01)
        return late_layers(*arguments)

    monkeypatch.setattr(Decoder, 'late_layers', take_step)
    client = make_client(timeout=120)
    events.wait(ModelReady)
    client.submit('a', episode, dataclasses.replace(FRONT, max_new_tokens=1000))
    wait_for(lambda: len(steps) > 5)
    client.cancel('a')
    client.submit('b', episode, FRONT)
    assert events.wait(NoAnswer, 'a').status is ReportStatus.CANCELED
    assert_same_answer(events.wait(Answer, 'b').diagnosis, expected)
    # one may have been decided on in the very moment
    assert len(unwanted) <= 1
    assert not events.of(RoundDone) or events.of(RoundDone)[0].session == 'b'


# -- the server around it -------------------------------------------------------------------


def pool_of(server):
    return server.inference._worker._streams


def wait_until_encoded(server, sessions, frames):
    """Wait until so many streams have taken so many frames, and wait for partners at most."""

    def is_done():
        if pool_of(server) is None:  # the model is being loaded
            return False
        growing = list(pool_of(server)._growing.values())
        pushed = sum(len(each.pushed) for each in growing)
        idle = all(each.stream.waiting < 2 for each in growing)
        return len(growing) == sessions and pushed == frames and idle

    wait_for(is_done)


def test_the_model_is_given_the_stream_of_the_camera_it_will_look_at(
    make_server, make_client, events
):
    scripted = ScriptedModel()
    server = make_server(scripted.load).start()
    client = make_client()
    events.wait(ModelReady)
    episode = make_episode(frames=20)
    client.open('a', FRONT, 2.5)
    push_all(client, 'a', episode)
    wait_until_encoded(server, sessions=1, frames=20)
    client.submit('a', episode, FRONT)
    assert events.wait(Answer, 'a').diagnosis.failure_probability == digest(episode)
    (stream,) = scripted.streams
    assert scripted.options == [{'fps': 2.5, 'camera': 'front'}]
    assert scripted.given == [stream]
    clip = episode.clips[0]
    assert [stamp for stamp, _ in stream.pushed] == clip.stamps_ns.tolist()
    assert np.array_equal(np.stack([frame for _, frame in stream.pushed]), clip.frames)
    assert stream.most_waiting <= FRAMES_AHEAD
    assert stream.closed


def test_frames_that_came_while_the_model_was_loaded_are_encoded_then(
    make_server, make_client, events
):
    gate = threading.Event()
    scripted = ScriptedModel()

    def load():
        gate.wait(60)
        return scripted.load()

    server = make_server(load).start()
    client = make_client()
    wait_for(lambda: client.state == 'loading')
    client.open('a', FRONT, FPS)
    push_all(client, 'a', make_episode(frames=600, size=(2, 2)))
    wait_for(lambda: server.store.nbytes > 1000 * FRAME_OVERHEAD)
    gate.set()
    wait_until_encoded(server, sessions=1, frames=600)
    assert scripted.streams[0].most_waiting <= FRAMES_AHEAD


def test_nothing_waits_for_the_model_while_it_encodes(make_server, make_client, events):
    gate, stepping = threading.Event(), threading.Event()

    def block(stream):
        stepping.set()
        assert gate.wait(60)

    scripted = ScriptedModel(lambda: ScriptedStream(block))
    server = make_server(scripted.load).start()
    client = make_client()
    events.wait(ModelReady)
    episode = make_episode(frames=40)
    client.open('a', FRONT, FPS)
    client.push('a', 'front', 1, episode.clips[0].frames[0])
    assert stepping.wait(PATIENCE)
    # All of this is the event loop's, and the model's thread is held.
    client.open('b', FRONT, FPS)
    push_all(client, 'b', episode)
    wait_for(lambda: sum(len(each.frames) for each in sessions_of(server)) == 1 + 40 + 39)
    client.cancel('b')
    wait_for(lambda: len(sessions_of(server)) == 1)
    client.submit('c', episode, FRONT)
    wait_for(lambda: len(server.inference._complete) == 1)
    gate.set()
    assert events.wait(Answer, 'c').diagnosis.failure_probability == digest(episode)


def sessions_of(server):
    return list(server.store._sessions.values())


def test_a_finished_task_goes_before_those_that_run(make_server, make_client, events):
    scripted = ScriptedModel(lambda: ScriptedStream(lambda stream: time.sleep(0.02)))
    make_server(scripted.load).start()
    client = make_client()
    events.wait(ModelReady)
    client.open('runs', FRONT, FPS)
    push_all(client, 'runs', make_episode(frames=600, size=(2, 2)))
    wait_for(lambda: scripted.streams and scripted.streams[0].pushed)
    client.submit('done', make_episode(), FRONT)
    events.wait(Answer, 'done')
    assert len(scripted.streams[0].pushed) < 600


@pytest.mark.parametrize('way', ['cancel', 'disconnect', 'refuse'])
def test_a_stream_nobody_wants_any_more_is_closed(make_server, make_client, events, way):
    scripted = ScriptedModel()
    server = make_server(scripted.load, session_bytes=100_000, total_bytes=200_000).start()
    client = make_client()
    events.wait(ModelReady)
    client.open('a', FRONT, FPS)
    push_all(client, 'a', make_episode())
    wait_until_encoded(server, sessions=1, frames=4)
    if way == 'cancel':
        client.cancel('a')
    elif way == 'disconnect':
        client.close()
    else:
        client.submit('a', make_episode(size=(200, 200)), FRONT)
        assert events.wait(NoAnswer, 'a').status is ReportStatus.MODEL_ERROR
    wait_for(lambda: scripted.streams[0].closed)
    assert len(pool_of(server)) == 0
    assert server.store.nbytes == 0


def test_streams_are_bounded_and_wait_for_their_turn(make_server, make_client, events):
    scripted = ScriptedModel()
    server = make_server(scripted.load, max_streams=1).start()
    client = make_client()
    events.wait(ModelReady)
    for name in ('a', 'b'):
        client.open(name, FRONT, FPS)
        push_all(client, name, make_episode(name))
    wait_until_encoded(server, sessions=1, frames=4)
    wait_for(lambda: len(sessions_of(server)) == 2)
    assert len(scripted.streams) == 1
    client.submit('a', make_episode('a'), FRONT)
    events.wait(Answer, 'a')
    wait_until_encoded(server, sessions=1, frames=4)
    assert len(scripted.streams) == 2
    client.submit('b', make_episode('b'), FRONT)
    events.wait(Answer, 'b')
    assert scripted.given == scripted.streams


@pytest.mark.parametrize(
    ('settings', 'max_streams', 'fps'),
    [
        (FRONT, 0, FPS),
        (dataclasses.replace(FRONT, input_mode=InputMode.COLLAGE), 4, FPS),
        (dataclasses.replace(FRONT, camera=''), 4, FPS),
        (FRONT, 4, -1.0),
        (FRONT, 4, None),
        (None, 4, FPS),
    ],
)
def test_without_a_stream_all_is_done_at_the_end(
    make_server, make_client, events, settings, max_streams, fps
):
    scripted = ScriptedModel()
    server = make_server(scripted.load, max_streams=max_streams).start()
    client = make_client()
    events.wait(ModelReady)
    episode = make_episode()
    client.open('a', settings, fps)
    push_all(client, 'a', episode)
    wait_for(lambda: sum(len(each.frames) for each in sessions_of(server)) == 7)
    client.submit('a', episode, FRONT)
    assert events.wait(Answer, 'a').diagnosis.failure_probability == digest(episode)
    assert (scripted.streams, scripted.given) == ([], [None])


def test_a_collage_is_no_stream_when_the_checkpoint_wants_it(make_server, make_client, events):
    scripted = ScriptedModel()

    def load():
        return LoadedModel(INFO, scripted.diagnose, scripted.open_stream, InputMode.COLLAGE)

    make_server(load).start()
    client = make_client()
    events.wait(ModelReady)
    for name, mode in (('collage', None), ('clip', InputMode.CLIP)):
        settings = dataclasses.replace(FRONT, input_mode=mode)
        client.open(name, settings, FPS)
        push_all(client, name, make_episode(name))
        if mode is not None:
            wait_for(lambda: scripted.streams)
        client.submit(name, make_episode(name), settings)
        events.wait(Answer, name)
    assert scripted.given == [None, scripted.streams[0]]


@pytest.mark.parametrize('how', ['reduced', 'refused'])
def test_memory_that_other_streams_hold_does_not_change_the_answer(
    make_server, make_client, events, how
):
    scripted = ScriptedModel()

    def short_of_memory(episode, settings, **options):
        own = options['stream']
        if any(not stream.closed for stream in scripted.streams if stream is not own):
            if how == 'refused':
                raise MemoryError
            settings = dataclasses.replace(settings, trajectories=1)
        return scripted.diagnose(episode, settings, **options)

    def load():
        return LoadedModel(INFO, short_of_memory, scripted.open_stream)

    server = make_server(load).start()
    client = make_client()
    events.wait(ModelReady)
    client.open('runs', FRONT, FPS)
    push_all(client, 'runs', make_episode('runs'))
    wait_until_encoded(server, sessions=1, frames=4)
    client.open('done', FRONT, FPS)
    push_all(client, 'done', make_episode())
    wait_until_encoded(server, sessions=2, frames=8)
    client.submit('done', make_episode(), FRONT)
    assert events.wait(ENDS, 'done').diagnosis.settings == FRONT
    assert len(pool_of(server)) == 0
    # The second attempt has an empty stream, so that its answer tells that all was late.
    assert scripted.given[-1] is scripted.streams[2]
    assert scripted.streams[2].pushed == []
    client.submit('runs', make_episode('runs'), FRONT)
    assert events.wait(ENDS, 'runs').diagnosis.settings == FRONT


def test_a_broken_accelerator_ends_the_process(make_server, make_client, events):
    def break_device(stream):
        raise RuntimeError('CUDA error: an illegal memory access was encountered')

    given_up = threading.Event()
    scripted = ScriptedModel(lambda: ScriptedStream(break_device))
    make_server(scripted.load, on_beyond_repair=given_up.set).start()
    client = make_client()
    events.wait(ModelReady)
    client.open('a', FRONT, FPS)
    push_all(client, 'a', make_episode())
    assert given_up.wait(PATIENCE)


def test_a_session_whose_beginning_was_lost_is_not_streamed(make_server, make_client, events):
    scripted = ScriptedModel()
    server = make_server(scripted.load)
    client = make_client()
    episode = make_episode(frames=8)
    clip = episode.clips[0]
    client.open('a', FRONT, FPS)
    client.push('a', 'front', int(clip.stamps_ns[0]), clip.frames[0])
    server.start()
    events.wait(ModelReady)
    for stamp, frame in list(zip(clip.stamps_ns, clip.frames, strict=True))[1:]:
        client.push('a', 'front', int(stamp), frame)
    wait_for(lambda: sum(len(each.frames) for each in sessions_of(server)) == 7)
    client.submit('a', episode, FRONT)
    assert events.wait(Answer, 'a').diagnosis.failure_probability == digest(episode)
    assert scripted.streams == []


# -- the parts ------------------------------------------------------------------------------


OWNER = object()
FRAME_BYTES = 6 * 8 * 3 + FRAME_OVERHEAD


def fill(store, number, episode, count=None):
    """Open a session of a store, and give it frames of the first camera."""
    store.open(OWNER, messages.Open(number, 'front', None, FPS))
    clip = episode.clips[0]
    for stamp, frame in list(zip(clip.stamps_ns, clip.frames, strict=True))[:count]:
        store.add(OWNER, frame_message(number, 'front', int(stamp), frame))
    return store.find(OWNER, number)


def make_pool(store, *, limit=4, max_bytes=10**9, make_stream=ScriptedStream):
    streams = []

    def open_stream(**_):
        streams.append(make_stream())
        return streams[-1]

    return StreamPool(open_stream, InputMode.CLIP, store, limit, max_bytes), streams


def test_sessions_take_turns():
    store = FrameStore(10**6, 10**6)
    sessions = [fill(store, number, make_episode(frames=40)) for number in range(3)]
    turns = []
    pool, streams = make_pool(
        store, make_stream=lambda: ScriptedStream(lambda stream: turns.append(stream))
    )
    for _ in range(12):
        assert pool.step(store.viewed())
    assert [streams.index(stream) for stream in turns] == [0, 1, 2] * 4
    while pool.step(store.viewed()):
        pass
    assert [len(stream.pushed) for stream in streams] == [40, 40, 40]
    assert not pool.step(sessions)


def test_streams_are_bounded_in_bytes_and_wait_for_room(caplog):
    store = FrameStore(10**6, 10**6)
    episode = make_episode(frames=12)
    sessions = [fill(store, number, episode) for number in range(2)]
    pool, streams = make_pool(store, max_bytes=500)
    while pool.step(store.viewed()):
        assert pool.nbytes <= 500
    # five steps of two frames in all; what is left waits for the others' end
    assert [stream.nbytes for stream in streams] == [300, 200]
    assert len([record for record in caplog.records if '--stream-megabytes' in record.msg]) == 2
    store.submit(OWNER, submit_message(0, episode, FRONT))
    pool.take(sessions[0], submit_message(0, episode, FRONT))
    while pool.step(store.viewed()):
        assert pool.nbytes <= 500
    assert [stream.nbytes for stream in streams] == [300, 500]
    pool.close()
    assert pool.nbytes == 0


def test_an_episode_that_was_not_streamed_is_late_only_if_it_was_to_be():
    store = FrameStore(10**6, 10**6)
    episode = make_episode(frames=6)
    pool, streams = make_pool(store, limit=0)
    submit = submit_message(1, episode, FRONT)
    announced = fill(store, 1, episode)
    assert not pool.step([announced])
    assert pool.take(announced, submit) is streams[0]
    unannounced, _ = store.submit(OWNER, submit_message(2, episode, FRONT))
    assert pool.take(unannounced, submit) is None
    store.open(OWNER, messages.Open(3, 'front', InputMode.COLLAGE, FPS))
    assert pool.take(store.find(OWNER, 3), submit) is None

    def refuse():
        raise MemoryError

    pool, _ = make_pool(store, make_stream=refuse)
    assert pool.take(announced, submit) is None


@pytest.mark.parametrize(('spare', 'late'), [(-1, {11}), (0, {9, 7, 5, 3})])
def test_what_there_was_no_room_for_is_told(model, make_server, make_client, events, spare, late):
    from armor_ros.inference.diagnoser import Diagnoser

    one_step = Diagnoser(model).open_stream(fps=FPS).nbytes_after_step
    server = make_server(lambda: real_model(model), stream_bytes=one_step + spare).start()
    client = make_client(timeout=120)
    events.wait(ModelReady)
    episode = make_episode('put', frames=11, size=(56, 56))
    client.open('a', FRONT, FPS)
    push_all(client, 'a', episode)
    wait_for(lambda: any(each.was_held_back for each in pool_of(server)._growing.values()))
    assert (pool_of(server).nbytes > 0) == (spare == 0)
    assert pool_of(server).nbytes <= one_step + spare
    client.submit('a', episode, FRONT)
    diagnosis = events.wait(Answer, 'a').diagnosis
    assert_same_answer(diagnosis, expected_of(model, episode))
    assert diagnosis.late_frames in late


def test_a_streamed_frame_is_held_once_only():
    store = FrameStore(10**6, 10**6)
    session = fill(store, 1, make_episode(frames=5))
    held = [np.frombuffer(data, np.uint8) for data in session.frames.values()]
    pool, streams = make_pool(store)
    assert pool.step([session])
    (stream,) = streams
    assert len(stream.pushed) == 5
    for data, (_, frame) in zip(held, stream.pushed, strict=True):
        assert np.shares_memory(data, frame)
    assert all(isinstance(stamp, int) for stamp in session.fresh)


def test_frames_for_which_there_is_no_room_are_not_remembered_either():
    store = FrameStore(3 * FRAME_BYTES, 10**6)
    episode = make_episode(frames=50)
    session = fill(store, 1, episode)
    assert (len(session.frames), len(session.fresh), session.is_whole) == (3, 3, False)
    # the same stamp again and again is one frame
    clip = episode.clips[0]
    for frame in clip.frames:
        store.add(OWNER, frame_message(1, 'front', int(clip.stamps_ns[0]), frame))
    assert (len(session.fresh), session.nbytes) == (3, 3 * FRAME_BYTES)


def test_frames_that_gave_way_to_a_finished_episode_end_the_stream():
    store = FrameStore(8 * FRAME_BYTES, 8 * FRAME_BYTES)
    session = fill(store, 1, make_episode(frames=6))
    pool, streams = make_pool(store)
    finished = make_episode(frames=4, cameras=('front',))
    store.submit(OWNER, submit_message(2, finished, FRONT))
    assert not session.fresh
    assert not pool.step(store.viewed())
    assert streams == []


def test_a_submitted_session_is_stepped_no_more_and_gives_its_stream_once():
    store = FrameStore(10**6, 10**6)
    episode = make_episode(frames=6)
    session = fill(store, 1, episode)
    pool, streams = make_pool(store)
    assert pool.step([session])
    (stream,) = streams
    submit = submit_message(1, episode, FRONT)
    store.submit(OWNER, submit)
    assert store.viewed() == []
    assert pool.take(session, submit) is stream
    assert pool.take(session, submit) is streams[1]
    assert not stream.closed
    assert streams[1].pushed == []


def test_a_stream_of_other_pixels_is_closed_instead_of_given():
    store = FrameStore(10**6, 10**6)
    session = fill(store, 1, make_episode(frames=6, seed=1))
    pool, streams = make_pool(store)
    assert pool.step([session])
    (stream,) = streams
    other = submit_message(1, make_episode(frames=6, seed=2), FRONT)
    assert pool.take(session, other) is streams[1]
    assert stream.closed
    assert (streams[1].pushed, streams[1].closed) == ([], 0)


def test_a_session_is_opened_before_it_begins_or_not_at_all():
    store = FrameStore(10**6, 10**6)
    fill(store, 1, make_episode())
    with pytest.raises(ProtocolError, match='after it had begun'):
        store.open(OWNER, messages.Open(1, 'front', None, FPS))


def test_what_the_model_was_calibrated_with_is_no_lack_of_memory(make_server, make_client, events):
    info = dataclasses.replace(INFO, rounds=2, trajectories=5)
    scripted, asked = ScriptedModel(), []

    def with_its_own(episode, settings, **options):
        asked.append(settings)
        return scripted.diagnose(episode, settled(settings, info), **options)

    server = make_server(lambda: LoadedModel(info, with_its_own, scripted.open_stream)).start()
    client = make_client()
    events.wait(ModelReady)
    client.open('runs', FRONT, FPS)
    push_all(client, 'runs', make_episode('runs'))
    wait_until_encoded(server, sessions=1, frames=4)
    client.open('done')
    untold = dataclasses.replace(FRONT, rounds=0, trajectories=0)
    client.submit('done', make_episode(), untold)
    settings = events.wait(ENDS, 'done').diagnosis.settings
    assert (settings.rounds, settings.trajectories) == (2, 5)
    assert len(asked) == 1
    assert len(pool_of(server)) == 1
