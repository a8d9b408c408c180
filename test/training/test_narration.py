# SPDX-License-Identifier: Apache-2.0
"""What the state says of a clip in a sentence, in states that are made up frame by frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armor_ros.training.narration import NEEDED, narrate
from armor_ros.training.state_targets import state_facts

NAMES = ('red can', 'blue cube')
Arrays = dict[str, npt.NDArray[Any]]


def state(closing: str, can: str = '', cube: str = '', width: float = 0.06) -> Arrays:
    """
    Return a state of which each letter is a frame.

    'C' closes. An item is held ('H'), held and raised ('R'), or touched by one finger ('t'). The
    gripper is above the table, and from the fourth frame above the left bin.
    """
    count = len(closing)
    touched = np.zeros((count, 2, 2), np.bool_)
    items = np.tile([[0.5, 0.0, 0.03], [0.7, 0.3, 0.03]], (count, 1, 1))
    for item, letters in enumerate((can, cube)):
        for frame, letter in enumerate(letters):
            touched[frame, item] = (letter in 'HRt', letter in 'HR')
            items[frame, item, 2] += 0.1 * (letter == 'R')
    return {
        'touched': touched,
        'closing': np.array([letter == 'C' for letter in closing]),
        'width': np.full(count, width),
        'tcp': np.tile([0.53, 0.0, 0.05], (count, 1)),
        'items': items,
        'lids': np.zeros((count, 2)),
        'above': np.array(['table'] * 3 + ['left bin'] * (count - 3)),
    }


@pytest.mark.parametrize(
    ('arrays', 'told'),
    [
        (state('.....'), ''),
        (
            state('.CCCC..', can='.HRRR..'),
            'takes the red can above the table, lifts it, lets go of it above the left bin',
        ),
        # contact may last a frame longer than the command
        (
            state('.CCCC..', cube='.HRRRR.'),
            'takes the blue cube above the table, lifts it, lets go of it above the left bin',
        ),
        (
            state('.CCCC', can='.HRRR'),
            'takes the red can above the table, lifts it, holds it at the end',
        ),
        (
            state('.CCCCCC', can='.HHHt..'),
            'takes the red can above the table, loses it above the left bin',
        ),
        (
            state('.CCC.', can='.HRR.', cube='.HRR.'),
            'takes the red can and the blue cube above the table, lifts it, '
            'lets go of it above the left bin',
        ),
        (
            state('.C..C.', can='.t....', width=0.0),
            'closes on nothing beside the red can above the table, '
            'closes on nothing beside the red can above the left bin',
        ),
        (state('...CC.'), 'stays open beside the red can above the left bin'),
    ],
)
def test_a_story_is_what_the_fingers_do(arrays: Arrays, told: str) -> None:
    assert narrate(arrays, NAMES) == told


def test_fingers_far_from_all_items_are_beside_none() -> None:
    arrays = state('.CC', width=0.0)
    arrays['tcp'] = arrays['tcp'] + [0.0, -0.2, 0.0]
    assert narrate(arrays, NAMES) == 'closes on nothing above the table'


def test_a_lid_is_told_when_it_opens() -> None:
    arrays = state('.CCCC..', can='.HRRR..')
    arrays['lids'][3:, 0] = -0.6
    told = narrate(arrays, NAMES)
    assert told == (
        'takes the red can above the table, lifts it, the lid of the red can comes open, '
        'lets go of it above the left bin'
    )


def test_facts_have_the_story() -> None:
    arrays = state('.CCCC', can='.HRRR') | {'regions': np.tile(['left bin'], (5, 1))}
    assert state_facts(arrays, NAMES).story == narrate(arrays, NAMES)


@pytest.mark.parametrize('name', NEEDED)
def test_a_state_that_lacks_something_tells_nothing(name: str) -> None:
    arrays = state('.CCCC..', can='.HRRR..')
    del arrays[name]
    assert narrate(arrays, NAMES) == ''


@given(st.data())
def test_every_closing_is_told_once(data: st.DataObject) -> None:
    count = data.draw(st.integers(4, 12))
    letters = st.text('.C', min_size=count, max_size=count)
    contacts = st.text('.tHR', min_size=count, max_size=count)
    closing = data.draw(letters)
    told = narrate(state(closing, data.draw(contacts), data.draw(contacts)), NAMES)
    begun = [words for words in told.split(', ') if words.startswith(('takes', 'stays', 'closes'))]
    assert len(begun) == len([run for run in closing.split('.') if run])
