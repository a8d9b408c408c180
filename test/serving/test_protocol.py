# SPDX-License-Identifier: Apache-2.0
"""What is encoded comes back equal; what nobody encoded is a ProtocolError and nothing else."""

import dataclasses

import msgpack
import numpy as np
import pytest
from conftest import make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from armor_ros.episodes.diagnosis import (
    Diagnosis,
    ExplanationChoice,
    InputMode,
    ModelInfo,
    RefinementSettings,
    ReportStatus,
    ReturnPolicy,
    Round,
    Verdict,
)
from armor_ros.serving import messages, protocol
from armor_ros.serving.codec import ProtocolError
from armor_ros.serving.manifest import (
    assemble,
    frame_message,
    pack_indices,
    submit_message,
    unpack_indices,
)

INTEGERS = st.integers(-(2**63), 2**63 - 1)
PROBABILITIES = st.floats(0, 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(max_size=60)
ROUNDS = st.builds(
    Round, st.integers(0, 255), st.integers(0, 255), PROBABILITIES, st.booleans(), TEXTS,
    FLOATS, FLOATS, FLOATS, st.booleans(), st.none() | PROBABILITIES,
)  # fmt: skip
INFOS = st.builds(ModelInfo, TEXTS, TEXTS, TEXTS, TEXTS, st.booleans(), TEXTS, st.integers(0, 255))
SETTINGS = st.builds(
    RefinementSettings,
    rounds=st.integers(0, 255),
    trajectories=st.integers(1, 255),
    tolerance=st.floats(0, 10),
    return_policy=st.sampled_from(ReturnPolicy),
    explanation_choice=st.sampled_from(ExplanationChoice),
    sample_label=st.booleans(),
    seed=INTEGERS,
    input_mode=st.none() | st.sampled_from(InputMode),
    camera=TEXTS,
    deadline=st.floats(0, 3600),
)
TRACES = st.lists(ROUNDS, min_size=1, max_size=5).map(tuple)
DIAGNOSES = TRACES.flatmap(
    lambda trace: st.builds(
        Diagnosis, st.sampled_from(Verdict), PROBABILITIES, TEXTS, FLOATS, FLOATS, FLOATS,
        st.integers(0, len(trace) - 1), st.just(trace), SETTINGS, INFOS, st.booleans(),
        PROBABILITIES, st.booleans(), st.integers(1, 2**31), st.integers(0, 2**31),
    )
)  # fmt: skip
FRAMES = st.tuples(INTEGERS, TEXTS, INTEGERS, st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda fields: st.binary(min_size=(n := fields[3] * fields[4] * 3), max_size=n).map(
        lambda data: messages.Frame(*fields, data)
    )
)
MESSAGES = st.one_of(
    st.builds(messages.Hello, INTEGERS, TEXTS),
    FRAMES,
    st.builds(
        lambda session, frames, seed, values, usual: submit_message(
            session, make_episode(frames=frames, seed=seed), values, usual
        ),
        INTEGERS, st.integers(0, 4), st.integers(0, 99), SETTINGS, st.lists(TEXTS, max_size=3),
    ),
    st.builds(
        messages.Open,
        INTEGERS,
        TEXTS,
        st.none() | st.sampled_from(InputMode),
        st.floats(0, messages.MAX_FPS, exclude_min=True),
    ),
    st.builds(messages.Cancel, INTEGERS),
    st.builds(messages.Welcome, INTEGERS),
    st.builds(messages.Goodbye, INTEGERS, TEXTS),
    st.builds(messages.ModelState, st.sampled_from(['loading', 'failed']), TEXTS, st.none()),
    st.builds(messages.ModelState, st.just('ready'), TEXTS, INFOS),
    st.builds(
        messages.NeedFrames, INTEGERS,
        st.lists(st.lists(st.integers(0, 2**32 - 1)).map(pack_indices)).map(tuple),
    ),
    st.builds(messages.Started, INTEGERS),
    st.builds(messages.Detection, INTEGERS, PROBABILITIES),
    st.builds(messages.RoundDone, INTEGERS, TRACES),
    st.builds(messages.Result, INTEGERS, DIAGNOSES, FLOATS),
    st.builds(messages.Refused, INTEGERS, st.sampled_from(ReportStatus), TEXTS),
)  # fmt: skip


@given(MESSAGES)
@settings(deadline=None)
def test_every_message_comes_back_equal(message):
    back = protocol.decode(protocol.encode(message))
    assert back == message
    assert type(back) is type(message)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_random_bytes_are_a_protocol_error(data):
    with pytest.raises(ProtocolError):
        protocol.decode(data)


@given(MESSAGES, st.data())
@settings(deadline=None, max_examples=300)
def test_a_damaged_message_decodes_or_is_a_protocol_error(message, data):
    encoded = bytearray(protocol.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(encoded) - 1))
        encoded[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    for candidate in (bytes(encoded), bytes(encoded[:cut])):
        try:
            back = protocol.decode(candidate)
        except ProtocolError:
            continue
        assert protocol.decode(protocol.encode(back)) == back


JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats() | TEXTS | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(MESSAGES, st.data())
@settings(deadline=None, max_examples=300)
def test_a_field_of_another_kind_is_a_protocol_error_or_stays_what_it_is(message, data):
    plain = msgpack.unpackb(protocol.encode(message))
    name = data.draw(st.sampled_from(sorted(plain)))
    plain[name] = data.draw(JSON)
    try:
        back = protocol.decode(msgpack.packb(plain))
    except ProtocolError:
        return
    assert protocol.decode(protocol.encode(back)) == back


def damaged(message, **changes):
    plain = msgpack.unpackb(protocol.encode(message))
    plain.update(changes)
    return msgpack.packb({key: value for key, value in plain.items() if value is not Ellipsis})


DETECTION = messages.Detection(1, 0.5)
SUBMIT = submit_message(1, make_episode(), RefinementSettings())
LIKELY = Round(0, 0, 0.5, True, 'it fell', 0.1, 0.1, 0.2, True, agreement=1.5)


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        ('text', 'binary'),
        (b'', 'not msgpack'),
        (b'\xc1', 'not msgpack'),
        (b'\x91' * 5000, 'not msgpack'),
        (msgpack.packb([1]), 'must be a map'),
        (msgpack.packb({'type': 'Bomb'}), 'unknown message type'),
        (msgpack.packb({'type': ['Hello']}), 'unknown message type'),
        (msgpack.packb({1: 2}), 'not msgpack'),
        (damaged(DETECTION, session=...), 'missing fields: session'),
        (damaged(DETECTION, surprise=1), 'unknown fields: surprise'),
        (damaged(DETECTION, session='1'), 'session must be int, not str'),
        (damaged(DETECTION, session=True), 'session must be int, not bool'),
        (damaged(DETECTION, session=2**63), 'beyond 64 bits'),
        (damaged(DETECTION, failure_probability=float('nan')), 'finite'),
        (damaged(DETECTION, failure_probability=1.5), 'in 0 to 1'),
        (damaged(messages.Refused(1, ReportStatus.OK, ''), status=99), 'one of 0, 1'),
        (damaged(messages.Refused(1, ReportStatus.OK, ''), text='x' * 70_000), 'at most 65536'),
        (damaged(messages.Frame(1, 'a', 0, 1, 1, b'abc'), height=2), '3 bytes instead of 6'),
        (damaged(messages.Frame(1, 'a', 0, 1, 1, b'abc'), width=10**9), 'pixels'),
        (damaged(messages.NeedFrames(1, (b'',)), missing=[b'abc']), 'four bytes'),
        (damaged(messages.ModelState('loading', '', None), state='ready'), 'info must be set'),
        (damaged(SUBMIT, clips=5), 'must be a list'),
    ],
)
def test_what_is_wrong_is_said(data, words):
    with pytest.raises(ProtocolError, match=words):
        protocol.decode(data)


def changed_clip(**changes):
    first = dataclasses.replace(SUBMIT.clips[0], **changes)
    return dataclasses.replace(SUBMIT, clips=(first, *SUBMIT.clips[1:]))


@pytest.mark.parametrize(
    ('message', 'words'),
    [
        (messages.Detection(1, float('nan')), 'failure_probability is nan'),
        (messages.Detection(1, -0.1), 'in 0 to 1'),
        (messages.Started(2**70), 'beyond 64 bits'),
        (messages.Hello(1, '\ud800'), 'UTF-8'),
        (changed_clip(stamps=SUBMIT.clips[0].stamps[:-8]), 'a frame'),
        (changed_clip(stamps=SUBMIT.clips[0].stamps[::-1]), 'increase strictly'),
        (dataclasses.replace(SUBMIT, clips=SUBMIT.clips[:1] * 2), 'two clips of one camera'),
        (dataclasses.replace(SUBMIT, settings=RefinementSettings(rounds=10**6)), 'rounds'),
        (dataclasses.replace(SUBMIT, settings=RefinementSettings(temperature=-1.0)), 'temp'),
        (dataclasses.replace(SUBMIT, settings=RefinementSettings(deadline=-1.0)), 'deadline'),
        (dataclasses.replace(SUBMIT, usual_explanations=('x',) * 65), 'at most 64'),
        (dataclasses.replace(SUBMIT, usual_explanations=('x' * 2001,)), 'of 2000 characters'),
        (messages.RoundDone(1, ()), 'rounds is empty'),
        (messages.RoundDone(1, (LIKELY,)), 'agreement is 1.5'),
        (messages.Open(1, 'front', None, 0.0), 'fps is 0.0'),
        (messages.Open(1, 'front', None, float('inf')), 'fps is inf'),
    ],
)
def test_nothing_wrong_is_sent(message, words):
    with pytest.raises(ProtocolError, match=words):
        protocol.encode(message)


def test_a_message_has_a_largest_size(monkeypatch):
    frame = frame_message(1, 'front', 0, np.zeros((8, 8, 3), np.uint8))
    encoded = protocol.encode(frame)
    monkeypatch.setattr(protocol, 'MAX_MESSAGE_BYTES', len(encoded) - 1)
    with pytest.raises(ProtocolError, match='make frames smaller'):
        protocol.encode(frame)
    with pytest.raises(ProtocolError, match='at most'):
        protocol.decode(encoded)


@pytest.mark.parametrize(
    'frame',
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
)
def test_only_rgb_bytes_are_frames(frame):
    with pytest.raises(ProtocolError, match='uint8'):
        frame_message(1, 'front', 0, frame)


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_indices_come_back(indices):
    assert unpack_indices(pack_indices(indices)) == indices


@pytest.mark.parametrize('frames', [0, 1, 5])
def test_an_episode_is_assembled_as_it_was(frames):
    episode = make_episode(frames=frames, seed=3)
    submit = protocol.decode(protocol.encode(submit_message(9, episode, RefinementSettings())))
    back = assemble(submit, [clip.frames for clip in episode.clips])
    assert dataclasses.replace(back, clips=()) == dataclasses.replace(episode, clips=())
    for ours, theirs in zip(back.clips, episode.clips, strict=True):
        assert ours.evidence == theirs.evidence
        np.testing.assert_array_equal(ours.stamps_ns, theirs.stamps_ns)
        assert ours.stamps_ns.dtype == np.int64
