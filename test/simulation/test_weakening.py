# SPDX-License-Identifier: Apache-2.0
"""Weakened injections lie between the undisturbed plan and the spoiled one."""

from __future__ import annotations

import numpy as np
import pytest

from armor_ros.simulation.episode import draw_setup
from armor_ros.simulation.weakening import weaken


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
