# SPDX-License-Identifier: Apache-2.0
"""Weakened injections lie between the undisturbed plan and the spoiled one."""

from __future__ import annotations

import numpy as np
import pytest

from armor_ros.simulation.episode import draw_setup, run_episode
from armor_ros.simulation.weakening import recover, weaken


@pytest.mark.parametrize('seed', range(4))
def test_a_weakened_plan_lies_between(seed: int) -> None:
    nominal = draw_setup(seed, 'nominal', 'transport', 'train')
    spoiled = draw_setup(seed, 'missed_grasp', 'transport', 'train')
    weak = weaken(spoiled, 0.25)
    assert weak is not None
    assert (weak.mode, weak.seed) == ('weak_missed_grasp', seed)
    assert weak.scene == nominal.scene
    assert weak.plan.item == nominal.plan.item
    own, other = np.array(nominal.plan.sight_error), np.array(spoiled.plan.sight_error)
    np.testing.assert_allclose(weak.plan.sight_error, own + 0.25 * (other - own))
    assert np.abs(np.array(weak.plan.sight_error) - own).max() > 0.005


def test_nothing_is_left_of_another_item() -> None:
    assert weaken(draw_setup(0, 'wrong_object', 'transport'), 0.5) is None


def test_an_injection_that_needs_a_certain_scene_is_weakened_in_that_scene() -> None:
    seeds = range(40)
    spoiled = [draw_setup(seed, 'rotation_offset', 'put_into_container') for seed in seeds]
    drawn = [draw_setup(seed, 'nominal', 'put_into_container') for seed in seeds]
    other = [a for a, b in zip(spoiled, drawn, strict=True) if a.scene != b.scene]
    assert other  # some scenes do not allow it
    weak = weaken(other[0], 0.5)
    assert weak is not None
    assert weak.scene == other[0].scene


@pytest.mark.parametrize('task', ['pick_and_lift', 'transport', 'open_drawer'])
def test_a_robot_that_sees_better_at_its_second_look_recovers(task: str) -> None:
    spoiled = draw_setup(3, 'translation_z', task, 'train')
    recovered = recover(spoiled)
    assert recovered is not None
    assert recovered.mode == 'recovered_translation_z'
    failed, succeeded = run_episode(spoiled), run_episode(recovered)
    assert not failed.judgement.success
    assert succeeded.judgement.success
    assert succeeded.result.status.name == 'SUCCEEDED'
    first = succeeded.log.times_ns < failed.start_ns + 2_500_000_000
    np.testing.assert_array_equal(succeeded.log.tcp[first], failed.log.tcp[: first.sum()])


def test_nobody_recovers_from_what_was_not_seen_wrong_or_is_not_noticed() -> None:
    assert recover(draw_setup(0, 'slip', 'transport')) is None
    assert recover(draw_setup(0, 'nothing_transported', 'transport')) is None
