# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armor_ros.episodes.text_verdict import TextVerdict
from armor_ros.errors import ArmorError

EXPLAINED = (
    ('The can slipped out of the gripper.', True),
    ('The cube is not on the shelf: it slipped.', True),
    ('The can is on the shelf.', False),
    ('The cube is on the shelf.', False),
)


def test_words_tell_what_an_explanation_speaks_of() -> None:
    verdict = TextVerdict.learn(EXPLAINED)
    assert verdict.agrees('the bottle slipped', failed=True)
    assert not verdict.agrees('the bottle slipped', failed=False)
    assert verdict.agrees('The bottle IS ON the shelf', failed=False)
    assert verdict.agrees('the bottle is not on it', failed=True)
    # what was never said speaks of nothing
    for failed in (True, False):
        assert not verdict.agrees('', failed)
        assert not verdict.agrees('banana', failed)


def test_the_log_odds_are_those_of_naive_bayes() -> None:
    verdict = TextVerdict.learn([('a b', True), ('a', False)])
    # 'b' and 'a b' in one of one failures and no success, each count and total smoothed
    once = math.log((1.5 / 2.0) / (0.5 / 2.0))
    assert verdict.failure_logit('A, b!') == pytest.approx(2 * once)
    assert verdict.failure_logit('a') == pytest.approx(0.0)


def test_weights_are_all_that_there_is_to_it() -> None:
    verdict = TextVerdict.learn(EXPLAINED)
    assert TextVerdict(verdict.weights).failure_logit('it slipped') == verdict.failure_logit(
        'it slipped'
    )


def test_rare_words_may_be_left_out() -> None:
    used = TextVerdict.learn(EXPLAINED, least=2).weights
    assert {'slipped', 'the can', 'on the'} <= used.keys()
    assert not {'gripper', 'not', 'it slipped'} & used.keys()
    every = TextVerdict.learn(EXPLAINED).weights
    assert used == {word: every[word] for word in used}


@given(st.lists(st.tuples(st.text('ab ', min_size=1), st.booleans()), max_size=8), st.text('abc '))
def test_failure_and_success_are_alike(samples: list[tuple[str, bool]], text: str) -> None:
    samples = [*samples, ('a', True), ('b', False)]
    one = TextVerdict.learn(samples)
    other = TextVerdict.learn((words, not failed) for words, failed in samples)
    assert one.failure_logit(text) == pytest.approx(-other.failure_logit(text), abs=1e-9)


def test_both_outcomes_must_have_been_explained() -> None:
    with pytest.raises(ArmorError, match='2 explained samples failed and 0 did not; to tell'):
        TextVerdict.learn([*EXPLAINED[:2], ('', False)])
