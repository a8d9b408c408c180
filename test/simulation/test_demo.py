# SPDX-License-Identifier: Apache-2.0
"""The demo recording: what is in it, that it can be repeated, and that it appears whole."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability

from armor_ros.datasets.bags import BagTaskEvent, read_bag
from armor_ros.episodes.task import TaskPhase, TaskStatus
from armor_ros.errors import ArmorError
from armor_ros.simulation import demo
from armor_ros.simulation.engine import can_render, make_renderer
from armor_ros.simulation.episode import draw_setup, run_episode
from armor_ros.simulation.recording import Camera, FilmSettings
from armor_ros.simulation.robot import Cell
from armor_ros.simulation.world import CAMERAS

RATE = 1.0
STATUS_TOPIC = '/transport/_action/status'


def rendering_works() -> bool:
    if not can_render():
        return False
    try:
        make_renderer(Cell(draw_setup(0, 'nominal').scene).model, 32, 32).close()
    except ArmorError:
        return False
    return True


needs_gl = pytest.mark.skipif(not rendering_works(), reason='no off-screen GL library works here')


def generate(folder: Path, **options) -> demo.DemoSummary:
    settings = {'episodes': ('nominal', 'missed_grasp'), 'size': 48, 'rate': RATE} | options
    return demo.generate_demo_bag(folder / 'demo', **settings)


@pytest.fixture(scope='module')
def summary(tmp_path_factory) -> demo.DemoSummary:
    return generate(tmp_path_factory.mktemp('bag'))


def messages(bag: Path, topic: str) -> list:
    with AnyReader([bag]) as reader:
        chosen = [c for c in reader.connections if c.topic == topic]
        return [(t, reader.deserialize(raw, c.msgtype)) for c, t, raw in reader.messages(chosen)]


def stamp_ns(stamp) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


@needs_gl
@pytest.mark.parametrize('camera', CAMERAS)
def test_cameras_record_pictures_at_their_rate(summary, camera):
    pictures = messages(summary.bag, f'/{camera}/image_raw/compressed')
    assert abs(len(pictures) - summary.duration_s * RATE) <= 2
    stamps = np.array([stamp_ns(message.header.stamp) for _, message in pictures])
    assert stamps[0] >= demo.EPOCH_NS
    assert (np.diff(stamps) > 0).all()
    # a picture is logged after it was taken, as transport takes time
    assert all(
        0 < logged - s < 20_000_000 for (logged, _), s in zip(pictures, stamps, strict=True)
    )
    decoded = cv2.imdecode(pictures[0][1].data, cv2.IMREAD_COLOR)
    assert decoded.shape == (48, 48, 3)
    assert decoded.std() > 10
    assert pictures[0][1].format == 'jpeg'
    assert pictures[0][1].header.frame_id == camera


@needs_gl
def test_camera_info_goes_with_every_picture(summary):
    pictures = messages(summary.bag, '/front/image_raw/compressed')
    infos = messages(summary.bag, '/front/camera_info')
    assert [stamp_ns(m.header.stamp) for _, m in infos] == [
        stamp_ns(m.header.stamp) for _, m in pictures
    ]
    info = infos[0][1]
    assert (info.width, info.height) == (48, 48)
    assert info.k[0] == info.k[4] > 24
    assert info.k[2] == 24


@needs_gl
def test_clock_and_joint_states_run_at_50_hz(summary):
    clock = messages(summary.bag, '/clock')
    assert stamp_ns(clock[0][1].clock) == demo.EPOCH_NS
    assert abs(len(clock) - summary.duration_s * 50) <= 3
    times = np.array([stamp_ns(message.clock) for _, message in clock])
    assert (np.diff(times) >= 0).all()
    joints = messages(summary.bag, '/joint_states')
    assert len(joints) == len(clock)
    state = joints[0][1]
    assert len(state.name) == len(state.position) == len(state.velocity) == 9
    np.testing.assert_allclose(state.position[3], -3 * np.pi / 4)


@needs_gl
def test_goals_are_accepted_executed_and_ended(summary):
    arrays = messages(summary.bag, STATUS_TOPIC)
    assert [[goal.status for goal in m.status_list] for _, m in arrays] == [
        [1],
        [2],
        [4],
        [4, 1],
        [4, 2],
        [4, 6],
    ]
    for number, label in enumerate(summary.labels):
        goals = [(t, m.status_list[number]) for t, m in arrays[3 * number : 3 * number + 3]]
        assert {bytes(g.goal_info.goal_id.uuid).hex() for _, g in goals} == {label.goal_id}
        assert {stamp_ns(g.goal_info.stamp) for _, g in goals} == {label.start_ns}
        assert goals[-1][0] == label.end_ns
    first, second = summary.labels
    assert first.goal_id != second.goal_id
    assert second.start_ns - first.end_ns > 1_500_000_000


@needs_gl
def test_action_status_is_recorded_as_latched(summary):
    with AnyReader([summary.bag]) as reader:
        (connection,) = [c for c in reader.connections if c.topic == STATUS_TOPIC]
    (qos,) = connection.ext.offered_qos_profiles
    assert qos.durability is QosDurability.TRANSIENT_LOCAL


@needs_gl
def test_labels_tell_what_happened_beside_what_was_said(summary):
    lines = (summary.bag / demo.LABELS_FILE).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row['outcome'] for row in rows] == ['success', 'failure']
    assert [row['robot_status'] for row in rows] == ['SUCCEEDED', 'ABORTED']
    assert [row['injected_mode'] for row in rows] == ['nominal', 'missed_grasp']
    assert rows[0]['event'] is None
    assert rows[1]['event']['kind'] == 'missed_grasp'
    assert rows[1]['start_ns'] < rows[1]['event']['time_ns'] < rows[1]['end_ns']
    assert rows[0]['task_id'] == f'/transport/{rows[0]["goal_id"]}'
    assert {row['instruction'] for row in rows} == set(summary.instructions.values())


@needs_gl
def test_same_seed_same_recording(summary, tmp_path):
    again = generate(tmp_path)
    for name in ('demo.mcap', 'labels.jsonl', 'metadata.yaml'):
        assert (again.bag / name).read_bytes() == (summary.bag / name).read_bytes()


@needs_gl
def test_task_events_carry_each_tasks_own_instruction(tmp_path):
    told = []
    summary = generate(
        tmp_path,
        episodes=('nominal', 'wrong_destination'),
        trigger='task_event',
        progress=lambda done, total, what: told.append((done, total)),
    )
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert summary.instructions == {}
    events = [m.event for m in read_bag(summary.bag, []) if isinstance(m, BagTaskEvent)]
    assert [e.phase for e in events] == [TaskPhase.START, TaskPhase.END] * 2
    assert [e.task_id for e in events[::2]] == [label.task_id for label in summary.labels]
    assert [e.instruction for e in events[::2]] == [x.instruction for x in summary.labels]
    assert events[0].instruction != events[2].instruction
    assert [e.status for e in events[1::2]] == [TaskStatus.SUCCEEDED] * 2
    assert [e.stamp_ns for e in events[::2]] == [label.start_ns for label in summary.labels]


@needs_gl
def test_a_still_cell_looks_the_same_and_a_moved_one_does_not():
    cell = Cell(draw_setup(0, 'nominal').scene)
    with Camera(cell, 64) as camera:
        first, second = camera.picture('front'), camera.picture('front')
        cell.data.qpos[0] = 0.6
        cell.step()
        third = camera.picture('front')
    assert (first == second).all()
    assert (first != third).any()


@needs_gl
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError('disk full')

    monkeypatch.setattr(demo, '_write_labels', broken)
    with pytest.raises(OSError, match='disk full'):
        generate(tmp_path, episodes=('nominal',), rate=1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'episodes': ('nominal', 'sulk')}, "'sulk'.*nominal"),
        ({'episodes': ()}, 'no episodes'),
        ({'trigger': 'whistle'}, "'whistle'.*action, task_event"),
        ({'size': 5000}, '5000'),
        ({'rate': 0.0}, r'0\.0'),
    ],
)
def test_mistakes_are_named(tmp_path, options, words):
    with pytest.raises(ArmorError, match=words):
        generate(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_kept(tmp_path):
    (tmp_path / 'demo').mkdir()
    (tmp_path / 'demo' / 'mine').write_text('mine')
    with pytest.raises(ArmorError, match='exists already'):
        generate(tmp_path)
    assert (tmp_path / 'demo' / 'mine').read_text() == 'mine'


def test_film_settings_have_limits():
    assert replace(FilmSettings(), size=96).size == 96
    with pytest.raises(ArmorError, match='61'):
        FilmSettings(rate=61.0)


def test_the_default_demo_has_two_successes_and_four_failures_one_of_them_noticed():
    episodes = [
        run_episode(demo.demo_setup(0, index, mode, demo.DEMO_TASK))
        for index, mode in enumerate(demo.DEMO_EPISODES)
    ]
    assert [e.judgement.success for e in episodes] == [True, False, False, False, True, False]
    noticed = [e.result.status is TaskStatus.ABORTED for e in episodes]
    assert noticed == [False, False, False, True, False, False]
