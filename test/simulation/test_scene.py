# SPDX-License-Identifier: Apache-2.0
"""Drawn scenes keep their promises."""

import numpy as np
import pytest

from armor_ros.errors import ArmorError
from armor_ros.simulation.plan import INJECTIONS, inject, sample_plan
from armor_ros.simulation.scene import (
    TOTE_CENTERS,
    TOTE_HALF,
    Task,
    free_spot,
    sample_scene,
    sample_task,
)


def draw(seed: int):
    rng = np.random.default_rng(seed)
    return sample_scene(rng, sample_task(rng))


@pytest.mark.parametrize('seed', range(100))
def test_the_instruction_names_one_item_among_distractors(seed):
    scene = draw(seed)
    names = [item.name for item in scene.items]
    assert len(set(names)) == len(names)
    target = scene.items[scene.target]
    source = [item for item in scene.items if item.tote == scene.source]
    assert target in source
    assert sum(item.shape == target.shape for item in source) >= 2
    assert sum(item.color == target.color for item in source) >= 2
    assert target.name in scene.instruction
    assert scene.source != scene.destination


@pytest.mark.parametrize('seed', range(100))
def test_items_and_the_drop_keep_apart_inside_their_totes(seed):
    scene = draw(seed)
    spots = [(item.tote, item.x, item.y) for item in scene.items]
    spots.append((scene.destination, *scene.drop))
    for tote, x, y in spots:
        center = TOTE_CENTERS[tote]
        assert abs(x - center[0]) < TOTE_HALF[0] - 0.04
        assert abs(y - center[1]) < TOTE_HALF[1] - 0.06
    for i, (tote, x, _) in enumerate(spots):
        assert all(abs(x - other[1]) > 0.08 for other in spots[:i] if other[0] == tote)


def test_free_spot_is_far_from_items():
    for seed in range(50):
        scene = draw(seed)
        rng = np.random.default_rng(seed)
        for tote in range(3):
            taken = [item.x for item in scene.items if item.tote == tote]
            if len(taken) < 3:
                x, _ = free_spot(rng, scene, tote)
                assert all(abs(x - other) > 0.05 for other in taken)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('pink', 'can', 0, 1), 'colours: red'),
        (('red', 'sofa', 0, 1), 'shapes: can'),
        (('red', 'can', 0, 3), '0 to 2'),
        (('red', 'can', 1, 1), 'same tote'),
    ],
)
def test_impossible_tasks_are_refused(arguments, words):
    with pytest.raises(ArmorError, match=words):
        Task(*arguments)


def test_unknown_mode_is_refused():
    scene = draw(0)
    rng = np.random.default_rng(0)
    with pytest.raises(ArmorError, match=r"'sulk'.*nominal, slip"):
        inject('sulk', sample_plan(rng, scene), scene, rng)


@pytest.mark.parametrize('mode', sorted(set(INJECTIONS) - {'nominal'}))
def test_every_mode_spoils_the_plan_and_is_documented(mode):
    scene = draw(0)
    plan = sample_plan(np.random.default_rng(0), scene)
    assert inject(mode, plan, scene, np.random.default_rng(1)) != plan
    assert INJECTIONS[mode].__doc__
