# SPDX-License-Identifier: Apache-2.0
"""The tasks of a recording become Episodes, on the recording's own clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from armor_ros.datasets.bags import Bag, BagClock, BagTaskEvent
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.recorder import CameraConfig
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus
from armor_ros.errors import ArmorError
from armor_ros.evaluation.bag_episodes import BagEpisodes

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
SMALL = EpisodeSettings(frame_height=28, frame_width=28, lookback=1.0)


def episodes_of(path: Path, settings: EpisodeSettings = SMALL, **options: Any) -> list[Episode]:
    with Bag(path) as bag:
        return list(BagEpisodes(bag, settings, **options))


def test_an_action_goal_is_an_episode(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 5.0, status=6)
    (episode,) = episodes_of(robot_bag.write(tmp_path / 'bag'))
    assert episode.task.name == '/pick'
    assert episode.task.status is TaskStatus.ABORTED
    assert (episode.start_ns, episode.end_ns) == (START + SECOND, START + 5 * SECOND)
    assert not episode.truncated
    evidence = episode.clips[0].evidence
    assert (evidence.camera, evidence.topic) == ('front', '/front/image_raw/compressed')
    # Ten images a second for four seconds, both ends included, of which every second is kept.
    assert (evidence.frames_seen, evidence.frames_used) == (41, 21)
    assert episode.clips[0].frames.shape == (21, 28, 28, 3)


def test_the_end_of_an_action_is_its_log_time(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    robot_bag.offset = 300_000_000
    robot_bag.goal(1.0, 4.0)
    (episode,) = episodes_of(robot_bag.write(tmp_path / 'bag'))
    assert episode.start_ns == START + SECOND
    assert episode.end_ns == START + 4 * SECOND + 300_000_000


def test_a_task_at_the_very_end_is_not_lost(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera(seconds=(0.0, 3.0))
    robot_bag.goal(1.0, 3.0)
    (episode,) = episodes_of(robot_bag.write(tmp_path / 'bag'))
    assert episode.clips[0].evidence.frames_used == 10


def test_overlapping_tasks_and_events(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    robot_bag.goal(0.5, 2.5, number=1)
    robot_bag.goal(2.6, 4.5, number=2)
    for phase, seconds in ((TaskPhase.START, 1), (TaskPhase.END, 4)):
        stamp_ns = START + seconds * SECOND
        event = TaskEvent(phase, 'inspect', stamp_ns, instruction='look at the can')
        robot_bag.messages.append(BagTaskEvent('/armor/task_event', stamp_ns, event))
    episodes = episodes_of(robot_bag.write(tmp_path / 'bag'))
    assert [(e.end_ns - START) / SECOND for e in episodes] == [2.5, 4.0, 4.5]
    assert episodes[1].task.instruction == 'look at the can'


def test_a_task_in_progress_at_the_end_is_told(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 2.0, number=1)
    robot_bag.goal(3.0, None, number=2)
    with Bag(robot_bag.write(tmp_path / 'bag')) as bag:
        assert len(list(BagEpisodes(bag, SMALL))) == 1
        (problem,) = bag.problems
        assert problem.startswith('tasks still running at the end of the bag: /pick/0000')


def test_goals_that_ended_before_the_recording_are_history(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    robot_bag.goal(-9.0, -4.0, number=1)
    late = [message for message in robot_bag.messages if message.log_ns >= START]
    latched = robot_bag.messages[-1]
    robot_bag.messages = [*late, type(latched)('/pick', START + 1, latched.goals)]
    robot_bag.goal(1.0, 2.0, number=2)
    (episode,) = episodes_of(robot_bag.write(tmp_path / 'bag'))
    assert episode.task.task_id.endswith('2')


def test_a_goal_first_seen_when_it_had_ended_is_a_task(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 4.0)
    # The status at its start was lost.
    robot_bag.messages.pop(-2)
    (episode,) = episodes_of(robot_bag.write(tmp_path / 'bag'))
    assert (episode.start_ns, episode.end_ns) == (START + SECOND, START + 4 * SECOND)


def test_simulated_time_recorded_on_the_wall_clock(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.offset = 40_000 * SECOND
    for tick in range(601):
        stamp_ns = START + tick * SECOND // 100
        robot_bag.messages.append(BagClock(stamp_ns + robot_bag.offset, stamp_ns))
    robot_bag.camera()
    robot_bag.goal(1.0, 5.0)
    (episode,) = episodes_of(robot_bag.write(tmp_path / 'bag'))
    assert (episode.start_ns, episode.end_ns) == (START + SECOND, START + 5 * SECOND)
    assert episode.clips[0].evidence.frames_used == 21


def test_a_clock_that_the_cameras_do_not_follow_is_left_alone(
    robot_bag: Any, tmp_path: Path
) -> None:
    for tick in range(61):
        log_ns = START + tick * SECOND // 10
        robot_bag.messages.append(BagClock(log_ns, 5 * SECOND + tick * SECOND // 10))
    robot_bag.camera()
    robot_bag.goal(1.0, 5.0)
    (episode,) = episodes_of(robot_bag.write(tmp_path / 'bag'))
    assert (episode.start_ns, episode.end_ns) == (START + SECOND, START + 5 * SECOND)


def test_given_cameras_and_missing_ones(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera('/front/image_raw/compressed')
    robot_bag.camera('/wrist/image_raw/compressed')
    robot_bag.goal(1.0, 2.0)
    path = robot_bag.write(tmp_path / 'bag')
    cameras = (CameraConfig('hand', '/wrist/image_raw/compressed'), CameraConfig('top', '/top'))
    with Bag(path) as bag:
        (episode,) = BagEpisodes(bag, SMALL, cameras)
        assert [clip.evidence.frames_used for clip in episode.clips] == [6, 0]
        assert f'camera top: {path} has no topic /top' in next(iter(bag.problems))
    wrong = (CameraConfig('hand', '/wrist/image_raw'),)
    with pytest.raises(ArmorError, match=r'near names: /wrist/image_raw/compressed'):
        episodes_of(path, cameras=wrong)


def test_position_goes_from_beginning_to_end(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 2.0)
    positions: list[float] = []
    episodes_of(robot_bag.write(tmp_path / 'bag'), on_position=positions.append)
    assert positions == sorted(positions)
    assert (positions[0], positions[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ('prepare', 'pattern'),
    [
        (
            lambda bag: None,
            r'it has no action and no ended TaskEvent; its topics are /front.*To evaluate it, '
            r'record <action>/_action/status or /armor/task_event',
        ),
        (
            lambda bag: bag.goal(1.0, None),
            r'no goal of /pick ended while it was recorded.*To evaluate it, record until',
        ),
        (
            lambda bag: bag.goal(1.0, 2.0, action='/other'),
            r'its actions /other are left out by the settings.*change the globs',
        ),
    ],
)
def test_why_there_is_no_task(robot_bag: Any, tmp_path: Path, prepare: Any, pattern: str) -> None:
    robot_bag.camera(broken=lambda index: index % 2 == 0)
    prepare(robot_bag)
    settings = EpisodeSettings(frame_height=28, frame_width=28, actions=('/pick*',))
    with Bag(robot_bag.write(tmp_path / 'bag')) as bag:
        episodes = BagEpisodes(bag, settings)
        assert list(episodes) == []
        with pytest.raises(ArmorError, match=pattern) as caught:
            raise ArmorError(episodes.why_no_task())
        assert ' of 60 images could not be decoded' in str(caught.value)
