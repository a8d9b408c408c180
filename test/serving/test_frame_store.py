# SPDX-License-Identifier: Apache-2.0
"""The server's frames: the same episode comes out, and never more bytes than allowed."""

import dataclasses

import numpy as np
import pytest
from conftest import make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.errors import ArmorError
from armor_ros.serving.codec import ProtocolError
from armor_ros.serving.frame_store import FRAME_OVERHEAD, FrameStore
from armor_ros.serving.manifest import frame_message, submit_message, unpack_indices

OWNER = object()
FRAME_BYTES = 6 * 8 * 3 + FRAME_OVERHEAD


def frame_of(episode, clip, index, session=1):
    part = episode.clips[clip]
    return frame_message(
        session, part.evidence.camera, int(part.stamps_ns[index]), part.frames[index]
    )


def all_frames(episode, session=1):
    return [
        frame_of(episode, clip, index, session)
        for clip, part in enumerate(episode.clips)
        for index in range(len(part.stamps_ns))
    ]


def submit_of(episode, session=1):
    return submit_message(session, episode, RefinementSettings())


def assert_same_episode(actual, expected):
    assert dataclasses.replace(actual, clips=()) == dataclasses.replace(expected, clips=())
    for ours, theirs in zip(actual.clips, expected.clips, strict=True):
        assert ours.evidence == theirs.evidence
        assert np.array_equal(ours.frames, theirs.frames)
        assert ours.frames.shape == theirs.frames.shape
        assert np.array_equal(ours.stamps_ns, theirs.stamps_ns)


@pytest.mark.parametrize('streamed', [0, 1, 3, 7])
def test_what_was_not_streamed_is_asked_for_and_the_episode_is_the_same(streamed):
    episode = make_episode(frames=4)
    store = FrameStore(10**6, 10**6)
    for frame in all_frames(episode)[:streamed]:
        assert store.add(OWNER, frame) is None
    session, missing = store.submit(OWNER, submit_of(episode))
    wanted = [
        frame_of(episode, clip, index)
        for clip, packed in enumerate(missing)
        for index in unpack_indices(packed)
    ]
    assert wanted == all_frames(episode)[streamed:]
    for number, frame in enumerate(wanted, 1):
        assert store.add(OWNER, frame) is (session if number == len(wanted) else None)
    assert_same_episode(store.take_episode(session), episode)
    store.forget(session)
    assert store.nbytes == 0


def test_a_streamed_frame_of_the_same_stamp_and_other_pixels_is_asked_for_again():
    # a simulation that was reset gives the same stamps with other pictures
    before, after = make_episode(seed=1), make_episode(seed=2)
    store = FrameStore(10**6, 10**6)
    for frame in all_frames(before):
        store.add(OWNER, frame)
    session, missing = store.submit(OWNER, submit_of(after))
    assert [len(unpack_indices(part)) for part in missing] == [4, 3]
    for frame in all_frames(after):
        store.add(OWNER, frame)
    assert_same_episode(store.take_episode(session), after)


def test_an_uploaded_frame_must_be_the_one_that_was_named():
    store = FrameStore(10**6, 10**6)
    store.submit(OWNER, submit_of(make_episode(seed=1)))
    with pytest.raises(ProtocolError, match='is not the one'):
        store.add(OWNER, all_frames(make_episode(seed=2))[0])


def test_frames_outside_the_clip_are_dropped_and_late_ones_ignored():
    whole, part = make_episode(frames=6), make_episode(frames=3)
    store = FrameStore(10**6, 10**6)
    for frame in all_frames(whole):
        store.add(OWNER, frame)
    held = store.nbytes
    session, _ = store.submit(OWNER, submit_of(part))
    assert store.nbytes < held
    assert store.add(OWNER, all_frames(whole)[5]) is None
    assert session.nbytes == 5 * FRAME_BYTES


def test_an_episode_without_frames_is_complete_at_once():
    store = FrameStore(1, 1)
    episode = make_episode(frames=0)
    session, missing = store.submit(OWNER, submit_of(episode))
    assert not any(missing)
    assert_same_episode(store.take_episode(session), episode)


def test_streaming_stops_at_the_bounds_and_submit_makes_room():
    store = FrameStore(7 * FRAME_BYTES, 10 * FRAME_BYTES)
    first, second = make_episode(frames=4, seed=1), make_episode(frames=4, seed=2)
    for frame in [*all_frames(first, 1), *all_frames(second, 2)]:
        store.add(OWNER, frame)
        assert store.nbytes <= 10 * FRAME_BYTES
    _, missing = store.submit(OWNER, submit_of(first, 1))
    assert not any(missing)  # all seven were kept, the other session gave way
    assert store.nbytes <= 10 * FRAME_BYTES
    with pytest.raises(ArmorError, match='--total-megabytes'):
        store.submit(OWNER, submit_of(second, 2))


def test_an_episode_larger_than_a_session_is_refused_with_the_remedy():
    store = FrameStore(6 * FRAME_BYTES, 10**6)
    with pytest.raises(ArmorError, match='--session-megabytes'):
        store.submit(OWNER, submit_of(make_episode(frames=4)))


def test_sessions_of_an_owner_are_bounded_and_apart_from_those_of_others():
    store = FrameStore(10**6, 10**6, max_sessions=2)
    episode, other = make_episode(), object()
    for session in (1, 2, 3):
        store.add(OWNER, frame_of(episode, 0, 0, session))
    assert len(store.sessions_of(OWNER)) == 2
    with pytest.raises(ArmorError, match='more than 2 sessions'):
        store.submit(OWNER, submit_of(episode, 3))
    assert store.find(other, 1) is None
    store.add(other, frame_of(episode, 0, 0, 1))
    assert store.find(other, 1) is not store.find(OWNER, 1)


def test_a_session_is_submitted_once():
    store = FrameStore(10**6, 10**6)
    store.submit(OWNER, submit_of(make_episode()))
    with pytest.raises(ProtocolError, match='twice'):
        store.submit(OWNER, submit_of(make_episode()))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(['frame', 'frame', 'frame', 'submit', 'forget']),
        st.integers(1, 4),
        st.integers(0, 6),
    ),
    max_size=60,
)


@given(STEPS)
@settings(deadline=None)
def test_the_bounds_hold_whatever_comes(steps):
    store = FrameStore(5 * FRAME_BYTES, 9 * FRAME_BYTES, max_sessions=3)
    episodes = {number: make_episode(frames=number, seed=number) for number in range(1, 5)}
    for step, session, index in steps:
        try:
            if step == 'frame':
                frames = all_frames(episodes[session], session)
                store.add(OWNER, frames[index % len(frames)])
            elif step == 'submit':
                store.submit(OWNER, submit_of(episodes[session], session))
            elif (known := store.find(OWNER, session)) is not None:
                store.forget(known)
        except ArmorError:
            pass
        assert store.nbytes <= 9 * FRAME_BYTES
        held = store.sessions_of(OWNER)
        assert all(one.nbytes <= 5 * FRAME_BYTES for one in held)
        assert sum(len(data) for one in held for data in one.frames.values()) <= store.nbytes
