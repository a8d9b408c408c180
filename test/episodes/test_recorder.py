# SPDX-License-Identifier: Apache-2.0
"""The recorder: from messages as they come to Episodes as they shall be."""

import random
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from armor_ros.episodes.decoding import CompressedImage, RawImage
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.episodes.recorder import CameraConfig, EpisodeRecorder, KeptFrame
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus
from armor_ros.errors import ArmorError

SECOND = 1_000_000_000
MS = 1_000_000
START = 1_700_000_000 * SECOND
LATENCY = 8 * MS
CAMERAS = (CameraConfig('front', '/front/image'), CameraConfig('wrist', '/wrist/image'))
ID = 'task'


def image(value: int = 0) -> RawImage:
    return RawImage('rgb8', 20, 16, 60, False, bytes([value % 256]) * 960)


def make(cameras: tuple[CameraConfig, ...] = CAMERAS, **changes: object) -> EpisodeRecorder:
    settings = {'frame_height': 16, 'frame_width': 20, **changes}
    return EpisodeRecorder(EpisodeSettings(**settings), cameras)


def start(task_id: str = ID, stamp: int = START, **more: object) -> TaskEvent:
    return TaskEvent(TaskPhase.START, task_id, stamp, **more)


def end(task_id: str = ID, stamp: int = START, **more: object) -> TaskEvent:
    return TaskEvent(TaskPhase.END, task_id, stamp, **more)


def send(
    recorder: EpisodeRecorder, stamp: int, *cameras: str, value: int = 0
) -> list[KeptFrame | None]:
    """Send one image of each camera, as the node does."""
    kept = []
    for camera in cameras or tuple(camera.name for camera in CAMERAS):
        if recorder.wants(camera, stamp, stamp + LATENCY):
            kept.append(recorder.add_image(camera, stamp, stamp + LATENCY, image(value)))
    return kept


def film(
    recorder: EpisodeRecorder, begin: float, until: float, *cameras: str, hz: int = 30
) -> list[Episode]:
    """Film from ``begin`` to ``until`` in seconds after START; return the Episodes made."""
    episodes = []
    for index in range(round(begin * hz), round(until * hz)):
        stamp = START + index * SECOND // hz
        send(recorder, stamp, *cameras, value=index)
        episodes += recorder.advance(stamp + LATENCY)
    return episodes


def at(seconds: float) -> int:
    return START + round(seconds * SECOND)


def check(episode: Episode) -> None:
    """Hold an Episode to what must always be true of it."""
    assert episode.clip_start_ns <= episode.start_ns <= episode.end_ns <= episode.clip_end_ns
    for clip in episode.clips:
        evidence, stamps = clip.evidence, clip.stamps_ns
        assert len(stamps) == len(clip.frames) == evidence.frames_used
        assert clip.frames.shape[1:] == (16, 20, 3)
        assert (np.diff(stamps) > 0).all()
        edges = [episode.clip_start_ns, *stamps.tolist(), episode.clip_end_ns]
        assert edges == sorted(edges)
        assert evidence.largest_gap_ns == max(np.diff(edges))
        if len(stamps):
            assert (evidence.first_stamp_ns, evidence.last_stamp_ns) == (edges[1], edges[-2])
        else:
            assert (evidence.first_stamp_ns, evidence.last_stamp_ns) == (0, 0)


def test_a_goal_of_8_seconds_at_10_hz_has_80_frames_seen_and_40_used() -> None:
    recorder = make()
    film(recorder, 0, 2, hz=10)
    state = GoalState(bytes(16), at(2), 2)
    [begun] = recorder.add_status('/pick', [state], at(2.01))
    assert recorder.open_tasks == (begun.task_id,)
    film(recorder, 2, 10, hz=10)
    state = GoalState(bytes(16), at(2), 4)
    [ended] = recorder.add_status('/pick', [state], at(9.999))
    [episode] = film(recorder, 10, 12, hz=10)
    check(episode)
    assert episode.task == ended
    assert (episode.start_ns, episode.end_ns) == (at(2), at(9.999))
    assert [clip.evidence.frames_seen for clip in episode.clips] == [80, 80]
    assert [clip.evidence.frames_used for clip in episode.clips] == [40, 40]
    assert [clip.evidence.topic for clip in episode.clips] == ['/front/image', '/wrist/image']
    assert not episode.truncated
    assert episode.fps == 5.0
    assert episode.clips[0].frames[0, 0, 0, 0] == 20
    assert episode.clips[0].evidence.largest_gap_ns == 200 * MS


def messages() -> Iterator[tuple]:
    """Yield (receive time, method, arguments) of a session with a bit of everything."""
    rng = random.Random(5)
    for index in range(1200):
        stamp = START + index * 33_333_333 + rng.randrange(-20 * MS, 20 * MS)
        receive = START + index * 33_333_333 + 30 * MS
        for camera in ('front', 'wrist'):
            if camera == 'front' or not 300 < index < 500:
                picture = (
                    image(index) if rng.random() < 0.97 else RawImage('?', 1, 1, 1, False, b'')
                )
                yield receive, 'add_image', (camera, stamp, receive, picture)
        if index % 60 == 30:
            yield receive, 'add_event', (start(f'task {index}', stamp), receive)
        if index % 60 == 10 and index > 100:
            yield receive, 'add_event', (end(f'task {index - 100}', stamp), receive)
        if index % 100 in (50, 99):
            status = 2 if index % 100 == 50 else 6
            states = [GoalState(bytes([index // 100] * 16), stamp, status)]
            yield receive, 'add_status', ('/pick', states, receive)


def play(tick_ms: int) -> list[Episode]:
    recorder = make(pre_roll=0.5, post_roll=0.25, buffer_seconds=20.0)
    episodes = []
    next_tick = START
    for receive, method, arguments in messages():
        while tick_ms and next_tick < receive:
            episodes += recorder.advance(next_tick)
            next_tick += tick_ms * MS
        getattr(recorder, method)(*arguments)
    return episodes + recorder.advance(START + 100 * SECOND)


def fingerprint(episodes: list[Episode]) -> list[object]:
    return [
        (
            episode.task,
            episode.start_ns,
            episode.clip_start_ns,
            episode.clip_end_ns,
            episode.truncated,
            [
                (clip.evidence, clip.stamps_ns.tolist(), clip.frames.tobytes())
                for clip in episode.clips
            ],
        )
        for episode in episodes
    ]


def test_the_same_messages_give_the_same_episodes_however_often_time_is_told() -> None:
    first = play(tick_ms=50)
    assert len(first) == 30
    for episode in first:
        check(episode)
    assert fingerprint(play(tick_ms=50)) == fingerprint(first)
    assert fingerprint(play(tick_ms=0)) == fingerprint(first)
    assert fingerprint(play(tick_ms=7)) == fingerprint(first)


def test_an_episode_waits_for_the_last_frame_of_each_camera() -> None:
    recorder = make()
    film(recorder, 0, 2)
    recorder.add_event(start(stamp=at(1)), at(1))
    recorder.add_event(end(stamp=at(2)), at(2))
    send(recorder, at(2), 'front')
    assert recorder.advance(at(2.02)) == []
    send(recorder, at(1.999), 'wrist')
    assert recorder.advance(at(2.03)) == []
    send(recorder, at(2), 'wrist')
    [episode] = recorder.advance(at(2.04))
    assert [clip.evidence.frames_seen for clip in episode.clips] == [31, 32]
    # The last instant belongs to the clip.
    assert episode.clips[0].evidence.last_stamp_ns == at(2)
    assert recorder.advance(at(3)) == []


def test_a_dead_camera_is_awaited_no_longer_than_settle() -> None:
    recorder = make(settle=0.5, post_roll=0.25)
    recorder.add_event(start(), START)
    film(recorder, 0, 1)
    film(recorder, 1, 2, 'front')
    recorder.add_event(end(stamp=at(2)), at(2))
    assert film(recorder, 2, 2.7, 'front') == []
    assert recorder.advance(at(2.75) - 1) == []
    [episode] = recorder.advance(at(2.75))
    check(episode)
    front, wrist = episode.clips
    assert front.evidence.largest_gap_ns <= 0.3 * SECOND
    assert wrist.evidence.largest_gap_ns >= 1.2 * SECOND
    assert episode.clip_end_ns == at(2.25)


def test_an_end_stamped_in_the_future_is_not_awaited_forever() -> None:
    recorder = make()
    recorder.add_event(start(), START)
    recorder.add_event(end(stamp=at(3600)), at(1))
    assert recorder.advance(at(6.4)) == []
    [episode] = recorder.advance(at(6.5))
    check(episode)
    assert episode.end_ns == at(3600)


def test_a_task_longer_than_the_buffer_is_truncated() -> None:
    recorder = make(buffer_seconds=10.0)
    recorder.add_event(start(), START)
    film(recorder, 0, 30)
    recorder.add_event(end(stamp=at(30)), at(30))
    [episode] = film(recorder, 30, 31)
    check(episode)
    assert episode.truncated
    assert episode.start_ns == START
    assert 50 <= episode.clips[0].evidence.frames_used <= 51
    # What was seen is known of the whole clip.
    assert episode.clips[0].evidence.frames_seen == 901


def test_a_task_as_long_as_the_buffer_is_whole() -> None:
    recorder = make(buffer_seconds=10.0)
    film(recorder, 0, 5)
    recorder.add_event(start(stamp=at(5)), at(5))
    film(recorder, 5, 14.5)
    recorder.add_event(end(stamp=at(14.5)), at(14.5))
    [episode] = film(recorder, 14.5, 15)
    assert not episode.truncated
    assert episode.clips[0].evidence.largest_gap_ns <= 0.3 * SECOND


def test_the_byte_cap_truncates_as_well() -> None:
    recorder = make(buffer_bytes=960 * 10)
    recorder.add_event(start(), START)
    film(recorder, 0, 5)
    assert all(values['buffered_bytes'] == 9600 for values in recorder.counters().values())
    recorder.add_event(end(stamp=at(5)), at(5))
    [episode] = film(recorder, 5, 6)
    assert episode.truncated
    assert episode.clips[0].evidence.frames_used == 10


def test_overlapping_tasks_have_their_own_bounds() -> None:
    recorder = make(pre_roll=0.2, post_roll=0.4)
    episodes = film(recorder, 0, 1)
    bounds = {'a': (1, 4), 'b': (2, 3), 'c': (2.5, 6)}
    marks = sorted(
        [(begin, start(name, at(begin))) for name, (begin, _) in bounds.items()]
        + [(until, end(name, at(until))) for name, (_, until) in bounds.items()],
        key=lambda mark: mark[0],
    )
    clock = 1.0
    for seconds, event in marks:
        episodes += film(recorder, clock, seconds)
        recorder.add_event(event, at(seconds))
        clock = seconds
    episodes += film(recorder, clock, 8)
    assert [episode.task.task_id for episode in episodes] == ['b', 'a', 'c']
    for episode in episodes:
        check(episode)
        begin, until = bounds[episode.task.task_id]
        assert episode.clip_start_ns == at(begin - 0.2)
        assert episode.clip_end_ns == at(until + 0.4)
        for clip in episode.clips:
            assert clip.evidence.first_stamp_ns - at(begin - 0.2) <= 200 * MS
            assert at(until + 0.4) - clip.evidence.last_stamp_ns <= 200 * MS


def test_a_task_may_name_its_cameras() -> None:
    recorder = make()
    recorder.add_event(start(cameras=('wrist', 'wrist', 'gripper')), START)
    film(recorder, 0, 1)
    recorder.add_event(end(stamp=at(1)), at(1))
    [episode] = film(recorder, 1, 1.5, 'wrist')
    check(episode)
    known, unknown = episode.clips
    assert (known.evidence.camera, known.evidence.frames_used) == ('wrist', 6)
    assert (unknown.evidence.camera, unknown.evidence.topic) == ('gripper', '')
    assert unknown.evidence.largest_gap_ns == SECOND


def test_bad_images_are_counted_and_the_next_one_taken() -> None:
    recorder = make()
    recorder.add_event(start(), START)
    picture = cv2.imencode('.jpg', np.zeros((16, 20, 3), np.uint8))[1].tobytes()
    bad = [
        CompressedImage('jpeg', b''),
        CompressedImage('jpeg', picture[:-10]),
        RawImage('rgb8', 10_000, 10_000, 30_000, False, b''),
    ]
    for index, each in enumerate(bad):
        stamp = START + index * 10 * MS
        assert recorder.wants('front', stamp, stamp)
        assert recorder.add_image('front', stamp, stamp, each) is None
    stamp = START + 50 * MS
    assert recorder.wants('front', stamp, stamp)
    assert recorder.add_image('front', stamp, stamp, CompressedImage('jpeg', picture))
    assert not recorder.wants('front', stamp + MS, stamp)
    recorder.add_event(end(stamp=at(1)), at(1))
    [episode] = recorder.flush()
    evidence = episode.clip('front').evidence
    assert (evidence.frames_seen, evidence.frames_used, evidence.frames_undecodable) == (5, 1, 3)
    counters = recorder.counters()['front']
    assert counters['undecodable'] == 3
    assert 'limit' in str(counters['last_error'])


def test_images_are_counted_once_whether_or_not_wants_was_asked() -> None:
    recorder = make()
    for index in range(30):
        stamp = START + index * 33 * MS
        if index % 2:
            recorder.wants('front', stamp, stamp)
        if index % 2 == 0 or recorder._tracks['front'].awaits(stamp):
            recorder.add_image('front', stamp, stamp, image())
    assert recorder.counters()['front']['seen'] == 30
    assert recorder.counters()['front']['kept'] == 5


def test_any_size_is_resized() -> None:
    recorder = make()
    big = RawImage('mono8', 100, 50, 0, False, bytes(5000))
    kept = recorder.add_image('front', START, START, big)
    assert kept is not None
    assert kept.frame.shape == (16, 20, 3)


def test_a_zero_stamp_is_the_time_of_receipt() -> None:
    recorder = make()
    recorder.add_event(start(stamp=0), at(1))
    for index in range(40):
        receive = at(1) + index * 100 * MS
        assert recorder.wants('front', 0, receive) == (index % 2 == 0)
        if index % 2 == 0:
            kept = recorder.add_image('front', 0, receive, image())
            assert kept is not None
            assert kept.stamp_ns == receive
    recorder.add_event(end(stamp=0), at(5))
    [episode] = recorder.flush()
    assert (episode.start_ns, episode.end_ns) == (at(1), at(5))
    assert episode.clips[0].evidence.frames_used == 20


def test_an_end_without_a_start_looks_back() -> None:
    recorder = make(lookback=3.0)
    film(recorder, 0, 5)
    recorder.add_event(end(stamp=at(5)), at(5))
    [episode] = film(recorder, 5, 6)
    check(episode)
    assert (episode.start_ns, episode.end_ns) == (at(2), at(5))
    assert episode.truncated


def test_an_end_stamped_before_its_start_moves_the_start() -> None:
    recorder = make(lookback=3.0)
    film(recorder, 0, 5)
    # The stamps of this executor come from a clock that was stepped back in between.
    recorder.add_event(start(stamp=at(5)), at(5))
    film(recorder, 5, 7)
    recorder.add_event(end(stamp=at(4)), at(7))
    [episode] = recorder.flush()
    check(episode)
    assert (episode.start_ns, episode.end_ns) == (at(2), at(4))
    assert episode.truncated


def loop(recorder: EpisodeRecorder, times: int, clocked: bool) -> list[Episode]:
    """Play 6 s with one goal from 1 s to 5 s, again and again; with or without /clock."""
    episodes = []
    for turn in range(times):
        for index in range(180):
            stamp = START + index * SECOND // 30
            receive = (stamp if clocked else stamp + 6 * turn * SECOND) + LATENCY
            for camera in ('front', 'wrist'):
                if recorder.wants(camera, stamp, receive):
                    recorder.add_image(camera, stamp, receive, image(turn + 1))
            if index in (30, 150):
                state = GoalState(bytes(16), at(1), 2 if index == 30 else 4)
                recorder.add_status('/pick', [state], receive)
            episodes += recorder.advance(receive)
    return episodes + recorder.flush()


@pytest.mark.parametrize('clocked', [True, False])
def test_a_bag_that_loops_ten_times_gives_ten_episodes(clocked: bool) -> None:
    episodes = loop(make(), 10, clocked)
    assert len(episodes) == 10
    for turn, episode in enumerate(episodes):
        check(episode)
        assert episode.start_ns == at(1)
        for clip in episode.clips:
            # Nothing of the loop before.
            assert (clip.frames == turn + 1).all()
            assert 20 <= clip.evidence.frames_used <= 26
            assert clip.evidence.first_stamp_ns - at(1) <= 200 * MS
        if clocked:
            assert not episode.truncated
            assert episode.clips[0].evidence.frames_seen == 121


def test_a_goal_that_was_cut_off_by_the_loop_begins_where_the_loop_does() -> None:
    recorder = make()
    film(recorder, 10, 20)
    recorder.add_status('/pick', [GoalState(bytes(16), at(15), 2)], at(15))
    film(recorder, 0, 4)
    recorder.add_status('/pick', [GoalState(bytes(16), at(15), 4)], at(4))
    [episode] = film(recorder, 4, 5)
    check(episode)
    assert at(0) <= episode.start_ns <= at(0.1)
    assert episode.end_ns == at(4)
    assert episode.truncated


def test_frames_of_an_ended_task_survive_a_jump_back() -> None:
    recorder = make(settle=5.0, post_roll=1.0)
    recorder.add_event(start(stamp=at(10)), at(10))
    film(recorder, 10, 12)
    recorder.add_event(end(stamp=at(12)), at(12))
    # The stamps jump; the clock of receipt does not.
    for index in range(4):
        recorder.wants('front', START + index * 33 * MS, at(12) + index * 33 * MS)
    [episode] = recorder.advance(at(12.2))
    check(episode)
    assert episode.clips[0].evidence.frames_used == 10


def test_a_jump_of_stamps_during_a_task_truncates_it() -> None:
    recorder = make(settle=5.0)
    film(recorder, 10, 15)
    recorder.add_event(start(stamp=at(10)), at(15))
    for index in range(60):
        stamp = at(11) + index * SECOND // 30
        for camera in ('front', 'wrist'):
            if recorder.wants(camera, stamp, stamp + 4 * SECOND):
                recorder.add_image(camera, stamp, stamp + 4 * SECOND, image(index))
    recorder.add_event(end(stamp=at(14)), at(17))
    # The new epoch has not come to the end of the clip, although the old one had.
    assert recorder.advance(at(18.9)) == []
    [episode] = recorder.advance(at(19))
    check(episode)
    assert episode.truncated
    evidence = episode.clips[0].evidence
    # The first frame after the jump was not kept, but it was seen.
    assert (evidence.frames_seen, evidence.frames_used) == (60, 10)


def test_a_clock_that_goes_back_without_a_frame_truncates_too() -> None:
    recorder = make()
    recorder.add_event(start(stamp=at(10)), at(10))
    recorder.advance(at(5))
    recorder.add_event(end(stamp=at(7)), at(7))
    [episode] = recorder.flush()
    assert (episode.start_ns, episode.end_ns, episode.truncated) == (at(5), at(7), True)


@pytest.mark.parametrize('step', [-5, 5, 3600])
def test_steps_of_the_clock_during_a_task(step: int) -> None:
    recorder = make()
    recorder.add_event(start(stamp=at(10)), at(10))
    film(recorder, 10, 12)
    film(recorder, 12 + step, 14 + step)
    recorder.add_event(end(stamp=at(14 + step)), at(14 + step))
    [episode] = film(recorder, 14 + step, 15 + step)
    check(episode)
    assert episode.end_ns == at(14 + step)
    assert episode.clips[0].evidence.frames_used >= 9
    assert episode.truncated == (step in (-5, 3600))


def test_kept_frames_name_their_tasks_and_add_up_to_the_episode() -> None:
    recorder = make(pre_roll=0.5)
    film(recorder, 0, 2)
    recorder.add_event(start('a', at(2)), at(2))
    streamed = {'a': list(recorder.frames_of('a')), 'b': []}
    assert len(streamed['a']) == 2 * 2  # at 1.6 s and 1.8 s; that of 1.4 s is too early
    assert {kept.tasks for kept in streamed['a']} == {('a',)}
    for index in range(60, 120):
        if index == 80:
            recorder.add_event(start('b', at(index / 30), cameras=('front',)), at(index / 30))
            streamed['b'] += recorder.frames_of('b')
        for kept in send(recorder, START + index * SECOND // 30):
            assert kept is not None
            for task_id in kept.tasks:
                streamed[task_id].append(kept)
    for name in 'ab':
        recorder.add_event(end(name, at(4)), at(4))
    for episode in recorder.flush():
        for clip in episode.clips:
            mine = [
                kept.stamp_ns
                for kept in streamed[episode.task.task_id]
                if kept.camera == clip.evidence.camera
            ]
            assert mine == clip.stamps_ns.tolist()
    assert list(recorder.frames_of('a')) == []


def test_a_window_is_a_task_given_by_its_bounds() -> None:
    recorder = make()
    film(recorder, 0, 10)
    recorder.window(end('verify', at(8)), at(3))
    [episode] = recorder.advance(at(10))
    check(episode)
    assert (episode.start_ns, episode.end_ns, episode.truncated) == (at(3), at(8), False)
    assert episode.clips[0].evidence.frames_used == 26
    # The same once more, as often as it is asked for.
    recorder.window(end('verify', at(8)), at(3))
    assert len(recorder.advance(at(10))) == 1
    recorder.add_event(start('open', at(9)), at(10))
    recorder.window(end('open', at(10)), at(9.5))
    [episode] = film(recorder, 10, 11)
    assert episode.start_ns == at(9.5)
    assert recorder.open_tasks == ()
    with pytest.raises(ArmorError, match='before its start'):
        recorder.window(end('verify', at(3)), at(8))


def test_twenty_tasks_that_end_in_one_second_are_twenty_episodes() -> None:
    recorder = make()
    film(recorder, 0, 5)
    episodes = []
    for index in range(20):
        recorder.add_event(start(f't{index}', at(5 + index / 20)), at(5 + index / 20))
        recorder.add_event(end(f't{index}', at(5.04 + index / 20)), at(5.04 + index / 20))
        episodes += recorder.advance(at(5.04 + index / 20))
    episodes += recorder.advance(at(7))
    assert [episode.task.task_id for episode in episodes] == [f't{index}' for index in range(20)]


def test_a_flood_of_ends_shares_the_memory_of_its_frames() -> None:
    recorder = make()
    film(recorder, 0, 40)
    for index in range(500):
        recorder.add_event(end(f't{index}', at(40) + index), at(40))
    episodes = recorder.advance(at(42))
    assert len(episodes) == 500
    owners = {
        id(clip.frames.base if clip.frames.base is not None else clip.frames)
        for episode in episodes
        for clip in episode.clips
    }
    assert len(owners) == 2


def test_the_oldest_of_too_many_open_tasks_is_answered() -> None:
    recorder = make(max_open_tasks=2)
    film(recorder, 0, 3)
    for index in range(3):
        recorder.add_event(start(f't{index}', at(index + 1)), at(index + 1))
    [episode] = film(recorder, 3, 4)
    check(episode)
    assert (episode.task.task_id, episode.end_ns) == ('t0', at(3))
    assert episode.task.status is TaskStatus.UNKNOWN
    assert recorder.open_tasks == ('t1', 't2')


def test_a_task_that_never_ends_is_answered() -> None:
    recorder = make(max_task_seconds=10.0)
    recorder.add_event(start(), START)
    assert film(recorder, 0, 10) == []
    [episode] = film(recorder, 10, 11)
    check(episode)
    assert 'no END' in episode.task.message


def test_a_start_of_an_ended_task_that_waits_makes_two_episodes() -> None:
    recorder = make()
    recorder.add_event(start(), START)
    film(recorder, 0, 2)
    recorder.add_event(end(stamp=at(2)), at(2))
    recorder.add_event(start(stamp=at(2)), at(2))
    episodes = film(recorder, 2, 3)
    recorder.add_event(end(stamp=at(3)), at(3))
    episodes += film(recorder, 3, 4)
    assert [(e.start_ns, e.end_ns) for e in episodes] == [(at(0), at(2)), (at(2), at(3))]


def test_no_camera_at_all() -> None:
    recorder = make(cameras=())
    recorder.add_event(start(), START)
    recorder.add_event(end(stamp=at(1)), at(1))
    [episode] = recorder.advance(at(1))
    assert episode.clips == ()


def test_unknown_and_doubled_cameras_are_refused() -> None:
    with pytest.raises(ArmorError, match='front, wrist'):
        make().wants('back', START, START)
    with pytest.raises(ArmorError, match="'front' is named twice"):
        make(cameras=(CAMERAS[0], CAMERAS[0]))


def test_reset_forgets_everything() -> None:
    recorder = make()
    recorder.add_event(start(), START)
    film(recorder, 0, 2)
    recorder.add_event(end(stamp=at(2)), at(2))
    recorder.reset()
    assert recorder.flush() == []
    assert recorder.open_tasks == ()
    assert recorder.counters()['front']['seen'] == 0
    assert recorder.task_counters() == {}


def test_goals_of_the_first_array_count_if_accepted_since_the_monitor_watches() -> None:
    for since, events in ((None, 0), (at(1), 2), (at(3), 0)):
        recorder = make()
        recorder.reset(since)
        states = [GoalState(bytes(16), at(2), 4)]
        assert len(recorder.add_status('/pick', states, at(4))) == events


@pytest.mark.parametrize('seed', range(30))
def test_whatever_comes_each_end_gives_one_sound_episode(seed: int) -> None:
    rng = random.Random(seed)
    recorder = make(max_open_tasks=4, goal_memory=16, pre_roll=0.3, post_roll=0.3)
    now, ends, episodes = START, 0, []
    for _ in range(1500):
        now += rng.randrange(0, 100 * MS)
        if rng.random() < 0.004:
            now = max(0, now + rng.choice([-100, -5, -1, 5, 3600]) * SECOND)
        skew = rng.choice([0, 0, 0, 0, -100 * MS, -5 * SECOND, 50 * SECOND, -now, -now + 1])
        kind = rng.random()
        if kind < 0.7:
            picture = image() if rng.random() < 0.9 else CompressedImage('jpeg', b'\xff\xd8\xff')
            recorder.add_image(rng.choice(['front', 'wrist']), now + skew, now, picture)
            events = []
        elif kind < 0.8:
            phase = rng.choice([TaskPhase.START, TaskPhase.END])
            event = TaskEvent(phase, rng.choice('abcdefgh'), now + skew)
            events = recorder.add_event(event, now)
        elif kind < 0.82:
            recorder.window(end(rng.choice('abcdefgh'), now), max(0, now - 5 * SECOND))
            events = []
            ends += 1
        else:
            states = [
                GoalState(
                    bytes([rng.randrange(30)] * 16), now + skew, rng.choice([1, 2, 4, 6, -59])
                )
                for _ in range(rng.randrange(4))
            ]
            events = recorder.add_status(rng.choice(['/pick', '/place']), states, now)
        ends += sum(event.phase is TaskPhase.END for event in events)
        if rng.random() < 0.3:
            episodes += recorder.advance(now)
    episodes += recorder.flush()
    for episode in episodes:
        check(episode)
    assert len(episodes) == ends > 30


def test_telling_the_time_is_cheap() -> None:
    recorder = make(max_open_tasks=16)
    for index in range(16):
        recorder.add_event(start(f't{index}', at(index)), at(index))
    film(recorder, 16, 20)
    begin = time.thread_time()
    for index in range(1000):
        recorder.advance(at(20) + index)
    assert time.thread_time() - begin < 0.2
