# SPDX-License-Identifier: Apache-2.0
"""Sentences carry the judged facts, whatever phrasing is drawn."""

import numpy as np
import pytest

from armor_ros.simulation.events import HARMLESS, Event, EventKind, Judgement
from armor_ros.simulation.explanation import explain
from armor_ros.simulation.scene import TOTE_CENTERS, Item
from armor_ros.simulation.tasks import Transport

SECOND = 1_000_000_000
FAILURES = [kind for kind in EventKind if kind not in HARMLESS]


def scene() -> Transport:
    items = (
        Item('blue', 'can', 0, *TOTE_CENTERS[0], 0.0),
        Item('red', 'box', 0, *TOTE_CENTERS[0], 0.0),
    )
    return Transport(items=items, target=0, source=0, destination=2, spot=TOTE_CENTERS[2])


def event(kind: EventKind, item: int = 0, rest: str = 'middle bin') -> Event:
    return Event(kind, 3 * SECOND, item, 'table', rest, (0.5, 0.0, 0.2))


def sentences(judgement: Judgement) -> set[str]:
    return {
        explain(
            judgement, scene(), np.random.default_rng(seed), start_ns=SECOND, end_ns=9 * SECOND
        )
        for seed in range(40)
    }


@pytest.mark.parametrize('kind', FAILURES)
def test_every_failure_has_several_whole_sentences(kind):
    found = sentences(Judgement(False, event(kind, item=1), (), 'left bin'))
    assert len(found) >= 2
    for text in found:
        assert '{' not in text
        assert text.endswith('.')
        assert 'blue can' in text or 'red box' in text


def test_a_drop_tells_when_and_where():
    found = sentences(Judgement(False, event(EventKind.DROPPED, rest='table'), (), 'table'))
    assert all('2.0 s after the start' in text and 'on the table' in text for text in found)


def test_a_wrong_object_names_both_items():
    found = sentences(Judgement(False, event(EventKind.WRONG_OBJECT, item=1), (), 'left bin'))
    assert all('red box' in text and 'blue can' in text for text in found)


def test_success_names_the_destination():
    found = sentences(Judgement(True, None, (), 'right bin'))
    assert all('right bin' in text for text in found)


def test_success_owns_up_to_luck():
    lucky = Judgement(True, None, (event(EventKind.DROPPED),), 'right bin')
    assert all('slipped' in text or 'lost its grip' in text for text in sentences(lucky))


def test_same_random_state_same_sentence():
    judgement = Judgement(False, event(EventKind.DROPPED), (), 'middle bin')
    first, second = (
        explain(judgement, scene(), np.random.default_rng(5), start_ns=0, end_ns=SECOND)
        for _ in range(2)
    )
    assert first == second
