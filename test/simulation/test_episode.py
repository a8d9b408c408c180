# SPDX-License-Identifier: Apache-2.0
"""Whole episodes: physics fails as it should, and only the judge says how they ended."""

from dataclasses import replace

import numpy as np
import pytest

from armor_ros.episodes.task import TaskStatus
from armor_ros.simulation.episode import SimulatedEpisode, describe, draw_setup, run_episode
from armor_ros.simulation.events import EventKind
from armor_ros.simulation.plan import GRIP_FORCE
from armor_ros.simulation.scene import tote_name

SEEDS = range(4)


def run(seed: int, mode: str) -> SimulatedEpisode:
    return run_episode(draw_setup(seed, mode, 'transport', 'plain'))


@pytest.mark.parametrize('seed', SEEDS)
def test_nominal_succeeds(seed):
    episode = run(seed, 'nominal')
    assert episode.judgement.success, episode.explanation
    assert episode.result.status is TaskStatus.SUCCEEDED
    assert 5.0 < (episode.end_ns - episode.start_ns) / 1e9 < 8.5


@pytest.mark.parametrize(
    ('mode', 'kinds'),
    [
        ('slip', {EventKind.DROPPED}),
        ('missed_grasp', {EventKind.MISSED, EventKind.COLLISION}),
        ('wrong_destination', {EventKind.WRONG_DESTINATION}),
        ('wrong_object', {EventKind.WRONG_OBJECT}),
    ],
)
def test_modes_yield_their_failures(mode, kinds):
    judged = [run(seed, mode).judgement for seed in SEEDS]
    fitting = [j for j in judged if j.cause is not None and j.cause.kind in kinds]
    assert len(fitting) >= 3, [j.cause for j in judged]


def test_same_seed_same_states():
    first, second = run(3, 'slip').log, run(3, 'slip').log
    for name in ('times_ns', 'items', 'touched', 'width', 'tcp', 'blow'):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


def test_other_seed_other_scene():
    assert draw_setup(1, 'nominal').scene != draw_setup(2, 'nominal').scene


def test_the_mode_changes_the_plan_but_not_the_scene():
    assert draw_setup(4, 'nominal').scene == draw_setup(4, 'missed_grasp').scene
    assert draw_setup(4, 'nominal').plan != draw_setup(4, 'missed_grasp').plan


def test_labels_do_not_depend_on_the_injected_mode():
    nominal, missed = draw_setup(0, 'nominal'), draw_setup(0, 'missed_grasp')
    mislabelled = run_episode(replace(nominal, mode='missed_grasp'))
    assert mislabelled.judgement.success
    mislabelled = run_episode(replace(missed, mode='nominal'))
    assert not mislabelled.judgement.success


@pytest.mark.parametrize(
    ('mode', 'left'), [('slip', {'fade_force': 20.0}), ('slip_friction', {'fade_friction': 0.3})]
)
def test_a_slip_too_weak_to_drop_the_item_is_a_success(mode, left):
    setup = draw_setup(0, mode)
    episode = run_episode(replace(setup, plan=replace(setup.plan, **left)))
    assert episode.judgement.success


def test_the_arm_does_not_carry_nothing():
    episode = run(0, 'missed_grasp')
    assert episode.result.status is TaskStatus.ABORTED
    assert 'gripper empty after 2 attempts' in episode.result.message
    source = episode.setup.scene.source
    low = episode.log.tcp[:, 2] < 0.15
    assert low.any()
    near = np.abs(episode.log.tcp[low, 1] - (-0.31, 0.0, 0.31)[source]) < 0.12
    assert near.all()


def test_the_robot_believes_in_a_wrong_destination():
    episode = run(0, 'wrong_destination')
    assert episode.result.status is TaskStatus.SUCCEEDED
    assert not episode.judgement.success
    assert episode.judgement.target_rest != tote_name(episode.setup.scene.destination)


@pytest.mark.parametrize(
    ('watches', 'status'), [(True, TaskStatus.ABORTED), (False, TaskStatus.SUCCEEDED)]
)
def test_a_drop_is_noticed_only_by_a_stack_that_watches_its_grip(watches, status):
    setup = draw_setup(4, 'slip')
    episode = run_episode(replace(setup, plan=replace(setup.plan, watches_grip=watches)))
    assert episode.result.status is status
    assert episode.judgement.cause.kind is EventKind.DROPPED


@pytest.mark.parametrize('mode', ['slip', 'slip_friction'])
def test_slip_is_physics_and_not_an_opening(mode):
    episode = run(1, mode)
    cause = episode.judgement.cause
    assert cause.kind is EventKind.DROPPED
    sample = int(np.searchsorted(episode.log.times_ns, cause.time_ns))
    assert episode.log.closing[sample]


def test_lost_friction_is_that_of_the_fingers_alone():
    episode = run(1, 'slip_friction')
    plan, log, item = episode.setup.plan, episode.log, episode.setup.scene.target
    assert plan.fade_force == plan.grip_force == GRIP_FORCE
    assert 0.0 < plan.fade_friction < 0.05
    way = np.linalg.norm(np.diff(log.items[-25:, item], axis=0), axis=1)
    assert way.max() < 0.001  # it lies still on what it fell on


def test_words_count_time_from_the_first_instant_shown():
    episode = run(1, 'wrong_object')
    seconds = (episode.judgement.cause.time_ns - episode.start_ns) / 1e9
    shown = (episode.start_ns - 600_000_000, episode.end_ns + 3_000_000_000)
    assert f'{seconds:.1f} s after the start' in describe(episode) == episode.explanation
    assert f'{seconds + 0.6:.1f} s after the start' in describe(episode, shown)


def test_observer_sees_every_step():
    times = []
    episode = run_episode(draw_setup(0, 'nominal'), lambda cell: times.append(cell.time_ns))
    assert times[0] == 0
    assert set(np.diff(times)) == {4_000_000}
    assert times[-1] == episode.log.times_ns[-1]
