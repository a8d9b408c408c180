# SPDX-License-Identifier: Apache-2.0
"""Drawn scenes keep their promises."""

import numpy as np
import pytest

from armor_ros.errors import ArmorError
from armor_ros.simulation.domain import DOMAINS
from armor_ros.simulation.scene import SHAPES, TOTE_HALF, free_tote_spot
from armor_ros.simulation.tasks import Order, Transport


def draw(seed: int, domain: str = 'train') -> Transport:
    return Transport.draw(np.random.default_rng(seed), DOMAINS[domain])


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


@pytest.mark.parametrize('domain', sorted(DOMAINS))
@pytest.mark.parametrize('seed', range(30))
def test_items_and_the_drop_keep_apart_inside_their_totes(seed, domain):
    scene = draw(seed, domain)
    spots = [(item.tote, item.x, item.y) for item in scene.items]
    spots.append((scene.destination, *scene.drop))
    for tote, x, y in spots:
        center = scene.totes[tote]
        assert abs(x - center[0]) < TOTE_HALF[0] - 0.04
        assert abs(y - center[1]) < TOTE_HALF[1] - 0.06
    side_by_side = {frozenset(pair) for pair in scene.sticky}
    for i, (tote, x, _) in enumerate(spots):
        for k, other in enumerate(spots[:i]):
            if other[0] == tote and frozenset((i, k)) not in side_by_side:
                assert abs(x - other[1]) > 0.08


def test_some_items_of_the_train_domain_stand_side_by_side_without_touching():
    scenes = [draw(seed) for seed in range(60)]
    together = [scene for scene in scenes if scene.sticky]
    assert 8 < len(together) < 40
    for scene in together:
        ((first, second),) = scene.sticky
        a, b = scene.items[first], scene.items[second]
        gap = abs(a.x - b.x) - SHAPES[a.shape].half_length - SHAPES[b.shape].half_length
        assert 0.0 < gap < 0.005
        assert first == scene.target
    assert not any(draw(seed, 'plain').sticky for seed in range(60))


def test_free_spot_is_far_from_items():
    for seed in range(50):
        scene = draw(seed)
        rng = np.random.default_rng(seed)
        for tote in range(3):
            taken = [item.x for item in scene.items if item.tote == tote]
            if len(taken) < 3:
                x, _ = free_tote_spot(rng, scene.items, tote, scene.totes[tote])
                assert all(abs(x - other) > 0.05 for other in taken)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('beige', 'can', 0, 1), 'colours: red'),
        (('red', 'sofa', 0, 1), 'shapes: can'),
        (('red', 'can', 0, 3), '0 to 2'),
        (('red', 'can', 1, 1), 'same tote'),
    ],
)
def test_impossible_tasks_are_refused(arguments, words):
    with pytest.raises(ArmorError, match=words):
        Order(*arguments)
