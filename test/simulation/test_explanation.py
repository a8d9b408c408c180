# SPDX-License-Identifier: Apache-2.0
"""Sentences carry the judged facts, whatever phrasing is drawn."""

import re
from dataclasses import replace

import numpy as np
import pytest

from armor_ros.errors import ArmorError
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


def sentences(judgement: Judgement, style: str = 'first_person') -> set[str]:
    return {
        explain(
            judgement,
            scene(),
            np.random.default_rng(seed),
            start_ns=SECOND,
            end_ns=9 * SECOND,
            style=style,
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


def test_where_the_item_ended_is_told_once():
    drop = Judgement(False, event(EventKind.DROPPED, rest='table'), (), 'table')
    assert {text.count('on the table') for text in sentences(drop)} == {1}
    other = Judgement(False, event(EventKind.WRONG_OBJECT, item=1, rest='table'), (), 'left bin')
    assert any(text.count('in the left bin') == 1 for text in sentences(other))


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


def short_sentences(judgement: Judgement) -> set[str]:
    return sentences(judgement, style='aha')


@pytest.mark.parametrize('kind', FAILURES)
def test_short_style_answers_no_in_one_sentence(kind):
    found = short_sentences(Judgement(False, event(kind, item=1), (), 'left bin'))
    assert len(found) >= 2
    for text in found:
        assert text.startswith('No, ')
        assert text.endswith('.')
        assert '{' not in text
        assert len(text) < 130


def test_short_style_answers_yes_to_a_success():
    found = short_sentences(Judgement(True, None, (), 'right bin'))
    assert len(found) >= 2
    assert all(text.startswith('Yes, ') and text.endswith('.') for text in found)


@pytest.mark.parametrize(
    ('offset', 'axis', 'words'),
    [
        ((0.05, 0.01, 0.0), 'x', 'too far from the robot base'),
        ((0.0, -0.06, 0.0), 'y', 'too far to the left'),
        ((0.0, 0.01, 0.07), 'z', 'too high'),
    ],
)
def test_an_offset_is_told_by_axis_or_in_words(offset, axis, words):
    missed = replace(event(EventKind.MISSED), offset=offset)
    judgement = Judgement(False, missed, (), 'left bin')
    assert any(f'along the {axis} direction' in text for text in short_sentences(judgement))
    assert all(words in text for text in sentences(judgement))


def test_unknown_style_is_refused():
    with pytest.raises(ArmorError, match=r"'poem'.*first_person, aha"):
        explain(
            Judgement(True, None, (), 'right bin'),
            scene(),
            np.random.default_rng(0),
            start_ns=0,
            end_ns=SECOND,
            style='poem',
        )


@pytest.mark.parametrize(('turn', 'words'), [(0.9, 'turn|angle|rotation'), (0.0, 'not')])
def test_a_miss_in_place_is_not_told_as_an_offset(turn, words):
    missed = replace(event(EventKind.MISSED), offset=(0.002, -0.004, 0.001), turn=turn)
    judgement = Judgement(False, missed, (), 'left bin')
    for text in sentences(judgement) | short_sentences(judgement):
        assert ' cm ' not in text
        assert ' along' not in text.replace('come along', '')
        assert re.search(words, text)
