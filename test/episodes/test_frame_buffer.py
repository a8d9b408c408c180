# SPDX-License-Identifier: Apache-2.0
"""The frame buffer against a slow and obvious model, and against the figures it promises."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armor_ros.episodes.frame_buffer import FrameBuffer
from armor_ros.episodes.stamp_clock import MAX_LOGGED, StampLog
from armor_ros.errors import ArmorError

SECOND = 1_000_000_000
PERIOD = 200_000_000
SIZE = (2, 3)
FRAME_BYTES = 18
START = 1_700_000_000 * SECOND


def frame(value: int = 0) -> np.ndarray:
    return np.full((*SIZE, 3), value % 256, np.uint8)


def make(max_seconds: float = 60.0, frames: int = 1000) -> FrameBuffer:
    return FrameBuffer(5.0, SIZE, max_seconds, frames * FRAME_BYTES)


class Model:
    """The rules of the buffer, spelled out without a thought for speed."""

    def __init__(self, max_ns: int, max_frames: int) -> None:
        self.max_ns, self.max_frames = max_ns, max_frames
        self.kept: set[int] = set()
        self.evicted: set[int] = set()
        self.newest: int | None = None
        self.doubted: int | None = None

    def push(self, stamp: int) -> bool:
        if stamp < 0:
            return False
        if self.newest is not None and abs(stamp - self.newest) > 2 * SECOND:
            doubted, self.doubted = self.doubted, stamp
            if doubted is None or stamp == doubted:
                return False
            if not doubted - 2 * SECOND <= stamp <= doubted + 10 * SECOND:
                return False
            if stamp < self.newest:
                self.kept, self.evicted = set(), set()
            self.newest = stamp
        self.doubted = None
        self.newest = stamp if self.newest is None else max(self.newest, stamp)
        if any(other // PERIOD == stamp // PERIOD for other in self.kept):
            return False
        if self.kept and stamp < min(self.kept):
            full = len(self.kept) == self.max_frames
            if full or any(stamp <= gone for gone in self.evicted):
                return False
        if self.kept and stamp < max(self.kept) - self.max_ns:
            return False
        old = {other for other in self.kept if other < stamp - self.max_ns}
        while len(self.kept - old) >= self.max_frames:
            old.add(min(self.kept - old))
        self.kept -= old
        # Only the newest of what has gone matters.
        self.evicted = {max(self.evicted | old)} if self.evicted | old else set()
        self.kept.add(stamp)
        return True


def walk(rng: np.random.Generator, count: int) -> list[int]:
    """Return stamps as bad cameras send them."""
    now, stamps = START, []
    kinds = rng.choice(9, count, p=[0.8, 0.05, 0.05, 0.03, 0.03, 0.02, 0.01, 0.005, 0.005])
    leaps = rng.integers(0, 120 * SECOND, count)
    jitter = rng.integers(-20_000_000, 20_000_000, count)
    for kind, leap, noise in zip(kinds.tolist(), leaps.tolist(), jitter.tolist(), strict=True):
        now += 33_333_333
        if kind == 1 and stamps:
            stamps.append(stamps[-1])  # a duplicate
        elif kind == 2:
            stamps.append(now - leap % SECOND)  # late
        elif kind == 3:
            now += leap % (3 * SECOND)  # a gap
            stamps.append(now)
        elif kind in (4, 5):
            stamps.append(now + leap - 60 * SECOND)  # a wild stamp
        elif kind == 6:
            now = max(START // 2, now - leap)  # a jump back
            stamps.append(now)
        elif kind == 7:
            now += leap * 30  # a jump forward
            stamps.append(now)
        elif kind == 8:
            stamps.append(int(rng.choice([0, -1, 1, 2**62])))
        else:
            stamps.append(now + noise)
    return stamps


@pytest.mark.parametrize(('max_seconds', 'frames'), [(60.0, 40), (6.0, 100), (60.0, 1), (1.0, 3)])
def test_hundred_thousand_pushes_equal_the_model(max_seconds: float, frames: int) -> None:
    rng = np.random.default_rng(frames)
    buffer, model = make(max_seconds, frames), Model(int(max_seconds * SECOND), frames)
    count = 100_000 if frames == 40 else 10_000
    picture = frame()
    kept = 0
    for stamp in walk(rng, count):
        usable = stamp < 2**61
        answer = buffer.push(stamp, picture.copy())
        assert answer == (usable and model.push(stamp))
        kept += answer
        stamps = buffer._stamps
        assert buffer.nbytes <= frames * FRAME_BYTES
        assert len(stamps) == len(buffer) == len(model.kept)
        if answer:
            assert all(a < b for a, b in itertools.pairwise(stamps))
            assert stamps[-1] - stamps[0] <= max_seconds * SECOND
            assert set(stamps) == model.kept
    assert kept == buffer.kept > count / 50
    assert buffer.jumps > 10
    assert buffer.doubted > 10


@given(st.lists(st.integers(-(10**10), 10**11), max_size=60))
def test_any_stamps_equal_the_model(stamps: list[int]) -> None:
    buffer, model = make(6.0, 10), Model(6 * SECOND, 10)
    for stamp in stamps:
        # Asking first, as the recorder does, never changes what push does.
        wanted = buffer.wants(stamp)
        kept = buffer.push(stamp, frame())
        assert kept == wanted == model.push(stamp)
    assert [stamp for stamp, _ in buffer.span(-SECOND, 10**12)] == sorted(model.kept)


def test_jittered_30_hz_gives_5_fps_evenly() -> None:
    rng = np.random.default_rng(1)
    stamps = START + np.arange(30 * 60) * 33_333_333 + rng.integers(-20_000_000, 20_000_001, 1800)
    buffer = make()
    for stamp in stamps.tolist():
        buffer.push(stamp, frame())
    kept, _ = buffer.select(START, START + 60 * SECOND)
    assert (np.diff(kept) > 0).all()
    assert np.diff(kept).max() <= 0.30 * SECOND
    assert abs((len(kept) - 1) / ((kept[-1] - kept[0]) / SECOND) - 5.0) <= 0.1


def test_one_wild_stamp_changes_nothing() -> None:
    for wild in (START - 3600 * SECOND, START + 3600 * SECOND, START + 30 * SECOND, 0, 2**31):
        buffer = make()
        for index in range(100):
            if index == 50:
                assert not buffer.push(wild, frame())
            assert buffer.push(START + index * PERIOD, frame(index))
        assert len(buffer) == 100
        assert buffer.jumps == 0
        assert buffer.doubted == 1


def test_a_repeated_wild_stamp_confirms_nothing() -> None:
    buffer = make()
    assert buffer.push(START, frame())
    for _ in range(3):
        assert not buffer.push(START - 100 * SECOND, frame())
    assert buffer.push(START + PERIOD, frame())
    assert len(buffer) == 2


@pytest.mark.parametrize('seconds', [2.1, 8, 59, 3600])
def test_a_jump_back_begins_an_epoch_with_its_second_frame(seconds: float) -> None:
    buffer = make(max_seconds=6.0)
    for index in range(100):
        buffer.push(START + index * PERIOD, frame(1))
    assert buffer.evicted_until_ns is not None
    back = START + 99 * PERIOD - int(seconds * SECOND)
    assert not buffer.push(back, frame(2))
    assert not buffer.would_drop(back)
    assert buffer.would_drop(back + 1)
    assert len(buffer) == 31
    assert buffer.push(back + 1, frame(2))
    assert buffer.span(0, 2**62) == [(back + 1, buffer.span(0, 2**62)[0][1])]
    assert buffer.evicted_until_ns is None
    assert buffer.jumps == 1
    for index in range(1, 20):
        assert buffer.push(back + index * PERIOD + 1, frame(2))


def test_a_jump_forward_keeps_what_is_young_enough() -> None:
    for seconds, left in ((3, 16), (5, 6), (7, 1), (3600, 1)):
        buffer = make(max_seconds=6.0)
        for index in range(31):
            buffer.push(START + index * PERIOD, frame())
        ahead = START + 6 * SECOND + seconds * SECOND
        assert not buffer.push(ahead, frame())
        assert buffer.would_drop(ahead + PERIOD)
        assert buffer.push(ahead + PERIOD, frame())
        assert len(buffer) == left


def test_late_frames_are_sorted_in_and_duplicates_dropped() -> None:
    buffer = make()
    for slot in (0, 1, 4, 2, 2, 3, 0):
        buffer.push(START + slot * PERIOD, frame(slot))
    stamps, frames = buffer.select(START, START + 10 * SECOND)
    assert ((stamps - START) // PERIOD).tolist() == [0, 1, 2, 3, 4]
    assert frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_select_includes_both_ends() -> None:
    buffer = make()
    for slot in range(5):
        buffer.push(START + slot * PERIOD, frame(slot))
    stamps, frames = buffer.select(START + PERIOD, START + 3 * PERIOD)
    assert ((stamps - START) // PERIOD).tolist() == [1, 2, 3]
    assert frames.shape == (3, *SIZE, 3)
    stamps, frames = buffer.select(START + 1, START + 2)
    assert stamps.shape == (0,)
    assert frames.shape == (0, *SIZE, 3)
    assert stamps.dtype == np.int64


def test_the_cap_counts_memory_that_is_really_held() -> None:
    buffer = make()
    big = np.zeros((100, 3, 3), np.uint8)
    buffer.push(START, big[:2])
    [(_, kept)] = buffer.span(0, 2**62)
    assert kept.base is None
    with pytest.raises(ValueError, match='read-only'):
        kept[0] = 1


def test_a_cap_below_one_frame_is_refused() -> None:
    with pytest.raises(ArmorError, match=f'buffer of {FRAME_BYTES - 1} bytes') as caught:
        FrameBuffer(5.0, SIZE, 60.0, FRAME_BYTES - 1)
    assert 'raise buffer_bytes' in str(caught.value)
    assert make(frames=1).push(START, frame())


def test_a_frame_of_another_shape_is_refused() -> None:
    with pytest.raises(ArmorError, match='resize it'):
        make().push(START, np.zeros((3, 2, 3), np.uint8))


def test_asking_is_cheap() -> None:
    buffer = make()
    for index in range(300):
        buffer.push(START + index * PERIOD, frame())
    begin = time.thread_time()
    for index in range(1000):
        buffer.wants(START + 300 * PERIOD + index * 1_000_000)
    assert time.thread_time() - begin < 0.1


def test_the_log_of_stamps_counts_inclusively_and_is_bounded() -> None:
    log = StampLog()
    for stamp in (5, 1, 3, 3, 9):
        log.add(stamp)
    assert log.count(1, 9) == 5
    assert log.count(3, 5) == 3
    assert log.count(4, 4) == 0
    assert log.count(9, 1) == 0
    for stamp in range(10, MAX_LOGGED + 500):
        log.add(stamp)
    assert log.count(0, 2**62) <= MAX_LOGGED
    assert log.count(MAX_LOGGED, 2**62) == 500
