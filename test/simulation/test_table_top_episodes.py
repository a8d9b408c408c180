# SPDX-License-Identifier: Apache-2.0
"""Pushes, drawers and pegs in physics: they go well, and fail as they are meant to."""

import numpy as np
import pytest

from armor_ros.episodes.task import TaskStatus
from armor_ros.simulation.episode import SimulatedEpisode, draw_setup, relabel, run_episode
from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures import FAILURES
from armor_ros.simulation.plan import NO_TURN

TASKS = ('push_to_target', 'open_drawer', 'insert_peg')


def run(task: str, seed: int, mode: str, domain: str = 'train') -> SimulatedEpisode:
    return run_episode(draw_setup(seed, mode, task, domain))


@pytest.mark.parametrize('domain', ['plain', 'unseen_objects', 'unseen_workspace'])
@pytest.mark.parametrize('task', TASKS)
def test_nominal_succeeds_without_a_mishap(task, domain):
    episode = run(task, 1, 'nominal', domain)
    assert episode.judgement.success, episode.explanation
    assert episode.result.status is TaskStatus.SUCCEEDED
    assert EventKind.COLLISION not in [event.kind for event in episode.judgement.events]
    assert episode.setup.scene.aim in episode.explanation or (
        episode.setup.scene.done in episode.explanation
    )


@pytest.mark.parametrize(
    ('task', 'mode', 'kind'),
    [
        ('push_to_target', 'missed_push', EventKind.MISSED),
        ('push_to_target', 'push_direction', EventKind.MISPLACED),
        ('push_to_target', 'late_lowering', EventKind.WRONG_SEQUENCE),
        ('open_drawer', 'slip', EventKind.DROPPED),
        ('open_drawer', 'short_pull', EventKind.MISPLACED),
        ('open_drawer', 'wrong_sequence', EventKind.WRONG_SEQUENCE),
        ('insert_peg', 'goal_offset', EventKind.JAMMED),
        ('insert_peg', 'goal_rotation', EventKind.JAMMED),
        ('insert_peg', 'missing_rotation', EventKind.JAMMED),
    ],
)
def test_a_disturbance_leads_to_its_failure(task, mode, kind):
    causes = [run(task, seed, mode).judgement.cause for seed in (3, 4)]
    assert kind in [cause.kind for cause in causes if cause is not None]
    assert all(cause is not None and FAILURES[mode]().matches(cause) for cause in causes)


@pytest.mark.parametrize('mode', ['goal_rotation', 'missing_rotation'])
def test_a_peg_that_jams_for_its_turn_is_told_so(mode):
    cause = run('insert_peg', 3, mode).judgement.cause
    assert abs(cause.turn) > 0.25
    assert abs(run('insert_peg', 3, 'goal_offset').judgement.cause.turn) < 0.1


def test_a_gripper_without_turns_keeps_its_own():
    setup = draw_setup(3, 'missing_rotation', 'insert_peg')
    assert NO_TURN in setup.plan.deviations
    assert np.abs(run_episode(setup).log.yaw).max() < 0.1


def test_the_wrong_drawer_is_right_under_another_instruction():
    episode = run('open_drawer', 3, 'wrong_object')
    twins = relabel(episode, np.random.default_rng(0))
    assert [twin.success for twin in twins] == [True, False]
    opened = episode.setup.scene.items[episode.judgement.cause.item].name
    assert twins[0].instruction == f'open the {opened}'


def test_only_the_pulled_drawer_moves_and_stays_in_its_stroke():
    episode = run('open_drawer', 3, 'nominal')
    way = episode.log.items[:, :, 0] - episode.log.items[0, :, 0]
    target = episode.setup.scene.target
    assert 0.09 < way[-1, target] <= 0.151
    assert np.abs(np.delete(way, target, axis=1)).max() < 0.01
    assert np.abs(episode.log.items[:, :, 1:] - episode.log.items[0, :, 1:]).max() < 0.002


def test_where_the_arm_ends_does_not_tell_whether_an_item_was_lifted():
    lifted, missed = (run('pick_and_lift', 3, mode) for mode in ('nominal', 'translation_z'))
    assert (lifted.judgement.success, missed.judgement.success) == (True, False)
    assert missed.result.status is TaskStatus.ABORTED
    last = missed.log.tcp[-1]
    assert np.linalg.norm(last[:2] - lifted.log.tcp[-1, :2]) < 0.05
    assert np.linalg.norm(last - missed.log.tcp[0]) > 0.1
