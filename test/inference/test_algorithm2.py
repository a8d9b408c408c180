# SPDX-License-Identifier: Apache-2.0
"""Algorithm 2 on hand-made distributions: scores, stopping, and which answer is returned."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from armor_ros.episodes.diagnosis import (
    ExplanationChoice,
    RefinementSettings,
    ReturnPolicy,
    Round,
    select_answer,
)
from armor_ros.episodes.text_verdict import TextVerdict
from armor_ros.errors import ArmorError
from armor_ros.inference.algorithm2 import Detection, Explanation, Refinement, refine
from armor_ros.inference.errors import ModelError, OutOfTime
from armor_ros.model.prompts import PreviousAnswer

SETTINGS = RefinementSettings(rounds=4, trajectories=3, entropy_weight=0.1, tolerance=1e-4)


class Scripted:
    """
    A policy that says what the test wrote down.

    ``script[t][m]`` is (failure probability, detection entropy, explanation entropy).
    """

    def __init__(self, script: Sequence[Sequence[tuple[float, float, float]]]) -> None:
        self.script = script
        self.detected: list[list[PreviousAnswer]] = []
        self.explained: list[tuple[int, list[PreviousAnswer]]] = []

    def detect(self, previous: Sequence[PreviousAnswer]) -> list[Detection]:
        row = self.script[len(self.detected)]
        self.detected.append(list(previous))
        return [Detection(p, h) for (p, h, _), _ in zip(row, previous, strict=False)]

    def explain(self, previous: Sequence[PreviousAnswer], round_index: int) -> list[Explanation]:
        row = self.script[round_index]
        self.explained.append((round_index, list(previous)))
        return [Explanation(f'e{round_index}{m}', h) for m, (_, _, h) in enumerate(row)]


def level(value: float, trajectories: int = 3) -> list[tuple[float, float, float]]:
    """Return a round in which the first trajectory is best, with C = value."""
    return [(0.9, value, 0.0 if m == 0 else 1.0) for m in range(trajectories)]


def run(script: Any, **changes: Any) -> Refinement:
    return refine(Scripted(script), replace(SETTINGS, **changes))


def test_combined_entropy_and_the_best_of_a_round() -> None:
    outcome = run([[(0.9, 0.3, 2.0), (0.9, 0.3, 1.0), (0.9, 0.3, 1.5)]], rounds=1)
    assert [answer.combined_entropy for answer in outcome.trace] == pytest.approx([0.5, 0.4, 0.45])
    assert [answer.best for answer in outcome.trace] == [False, True, False]
    assert outcome.selected == 1
    assert outcome.trace[1] == Round(0, 1, 0.9, True, 'e01', 0.3, 1.0, 0.3 + 0.1, True)


def test_entropy_weight() -> None:
    # Round 0 has one detection; from round 1 on lambda decides between the two parts.
    script = [level(9.0, 2), [(0.9, 0.3, 2.0), (0.9, 0.5, 0.0)]]
    assert run(script, rounds=2, trajectories=2, entropy_weight=0.0).selected == 2
    assert run(script, rounds=2, trajectories=2, entropy_weight=0.2).selected == 3


def test_the_first_of_equals_is_best() -> None:
    outcome = run([[(0.9, 0.3, 1.0)] * 3], rounds=1)
    assert [answer.best for answer in outcome.trace] == [True, False, False]


def test_runs_all_rounds_while_entropy_falls() -> None:
    outcome = run([level(0.6), level(0.5), level(0.4), level(0.3)])
    assert [answer.round for answer in outcome.trace] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert [answer.trajectory for answer in outcome.trace] == [0, 1, 2] * 4
    assert outcome.selected == 9


@pytest.mark.parametrize(
    ('fall', 'rounds'),
    [(0.2, 4), (1.001e-4, 4), (0.999e-4, 2), (0.0, 2), (-0.1, 2)],
)
def test_stops_when_the_fall_is_within_the_tolerance(fall: float, rounds: int) -> None:
    levels = [level(0.6 - fall * index) for index in range(4)]
    assert run(levels).trace[-1].round == rounds - 1


def test_tolerance_is_measured_from_the_lowest_so_far() -> None:
    script = [level(0.6), level(0.4), level(0.35), level(0.1)]
    assert run(script, tolerance=0.1).trace[-1].round == 2
    assert run(script, tolerance=0.0).trace[-1].round == 3


def test_no_fall_at_all_stops_without_any_tolerance() -> None:
    assert run([level(0.5)] * 4, tolerance=0.0).trace[-1].round == 1


def test_return_policies_differ_after_a_rise() -> None:
    script = [level(0.6), level(0.4), level(0.5), level(0.1)]
    last, best = (run(script, return_policy=policy) for policy in ReturnPolicy)
    assert last.trace == best.trace
    assert last.trace[last.selected].round == 2, 'the paper returns the round it stops at'
    assert best.trace[best.selected].round == 1


def test_return_best_takes_the_earliest_of_equals() -> None:
    outcome = run([level(0.4), level(0.4)], return_policy=ReturnPolicy.BEST)
    assert outcome.selected == 0


def test_every_trajectory_follows_its_own_answers() -> None:
    script = [
        [(0.9, 0.6, 0.3), (0.9, 0.6, 0.2), (0.9, 0.6, 0.1)],
        [(0.8, 0.5, 0.3), (0.2, 0.5, 0.2), (0.5, 0.5, 0.1)],
        level(0.1),
    ]
    policy = Scripted(script)
    refine(policy, replace(SETTINGS, rounds=3))
    assert policy.detected[0] == [PreviousAnswer()], 'one detection serves round 0'
    assert policy.explained[0] == (0, [PreviousAnswer()] * 3)
    first = [PreviousAnswer(True, f'e0{m}') for m in range(3)]
    assert policy.detected[1] == first
    assert policy.explained[1] == (1, first)
    second = [PreviousAnswer(failed, f'e1{m}') for m, failed in enumerate((True, False, True))]
    assert policy.detected[2] == second
    assert policy.explained[2] == (2, second)


def test_round_0_gives_every_trajectory_the_same_detection() -> None:
    outcome = run([[(0.7, 0.3, 1.0), (0.1, 0.9, 1.0), (0.2, 0.8, 1.0)]], rounds=1)
    assert {answer.failure_probability for answer in outcome.trace} == {0.7}
    assert {answer.detection_entropy for answer in outcome.trace} == {0.3}


def test_label_is_the_likelier_and_a_tie_fails() -> None:
    for probability, failed in ((0.4999, False), (0.5, True), (0.5001, True)):
        outcome = run([[(probability, 0.3, 1.0)] * 3], rounds=1)
        assert {answer.failed for answer in outcome.trace} == {failed}


def test_sampled_labels_follow_the_probability() -> None:
    count = 2000
    script = [[(0.25, 0.3, 1.0)] * count]
    outcome = run(script, rounds=1, trajectories=count, sample_label=True)
    failed = [answer.failed for answer in outcome.trace]
    assert sum(failed) / count == pytest.approx(0.25, abs=0.04)
    again = run(script, rounds=1, trajectories=count, sample_label=True)
    assert failed == [answer.failed for answer in again.trace]
    other = run(script, rounds=1, trajectories=count, sample_label=True, seed=1)
    assert failed != [answer.failed for answer in other.trace]


def test_callbacks_come_in_order() -> None:
    calls: list[Any] = []
    policy = Scripted([level(0.6), level(0.5), level(0.5)])
    explain = policy.explain

    def recorded(previous: Sequence[PreviousAnswer], round_index: int) -> list[Explanation]:
        calls.append('explain')
        return explain(previous, round_index)

    policy.explain = recorded  # type: ignore[method-assign]
    outcome = refine(policy, SETTINGS, calls.append, lambda value: calls.append(value))
    rounds = [outcome.trace[start : start + 3] for start in (0, 3, 6)]
    assert calls == [0.9, 'explain', rounds[0], 'explain', rounds[1], 'explain', rounds[2]]


@pytest.mark.parametrize('bad', [math.nan, math.inf])
@pytest.mark.parametrize('place', [0, 1, 2])
def test_numbers_that_are_not_finite(bad: float, place: int) -> None:
    row = [0.5, 0.5, 0.5]
    row[place] = bad
    with pytest.raises(ModelError, match='round 0, trajectory 0'):
        run([[tuple(row)] * 3])


@pytest.mark.parametrize(
    ('changes', 'part'),
    [
        ({'rounds': 0}, 'rounds is 0'),
        ({'trajectories': 0}, 'trajectories is 0'),
        ({'max_new_tokens': 0}, 'max_new_tokens is 0'),
        ({'tolerance': -1.0}, 'tolerance is -1.0'),
        ({'temperature': math.nan}, 'temperature is nan'),
        ({'entropy_weight': math.inf}, 'entropy_weight is inf'),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(ArmorError) as caught:
        run([level(0.5)] * 4, **changes)
    assert part in str(caught.value)


def test_the_defaults_are_those_of_table_5() -> None:
    assert RefinementSettings() == RefinementSettings(
        rounds=4,
        trajectories=3,
        tolerance=1e-4,
        entropy_weight=0.1,
        temperature=0.7,
        return_policy=ReturnPolicy.LAST,
        sample_label=False,
        explanation_choice=ExplanationChoice.CONSENSUS,  # of which the table says nothing
    )


class Asked(Scripted):
    """A scripted policy that also says how likely a failure is given an explanation alone."""

    def __init__(self, script: Any, given: dict[str, float], *, late: bool = False) -> None:
        super().__init__(script)
        self.given = given
        self.late = late
        self.alone: list[list[str]] = []

    def detect(self, previous: Sequence[PreviousAnswer]) -> list[Detection]:
        if all(each.failed is None and each.explanation for each in previous):
            if self.late:
                raise OutOfTime
            self.alone.append([each.explanation for each in previous])
            return [Detection(self.given[each.explanation], 0.1) for each in previous]
        return super().detect(previous)


AGREEMENT = replace(SETTINGS, explanation_choice=ExplanationChoice.AGREEMENT)
# Round 0: one label. Round 1: the best trajectory says success, and so does the last one.
TWO_ROUNDS = [
    [(0.8, 0.6, 0.1), (0.8, 0.6, 0.2), (0.8, 0.6, 0.3)],
    [(0.3, 0.2, 0.0), (0.7, 0.2, 0.1), (0.4, 0.2, 0.2)],
]
GIVEN = {'e00': 0.7, 'e01': 0.9, 'e02': 0.2, 'e10': 0.4, 'e11': 0.1, 'e12': 0.3}


def test_the_explanation_that_speaks_most_for_the_verdict() -> None:
    policy = Asked(TWO_ROUNDS, GIVEN)
    outcome = refine(policy, replace(AGREEMENT, rounds=1))
    assert policy.alone == [['e00', 'e01', 'e02']]
    # the label is failure, so that the agreement is the probability of failure itself
    assert [answer.agreement for answer in outcome.trace] == [0.7, 0.9, 0.2]
    assert outcome.selected == 1
    assert [answer.best for answer in outcome.trace] == [True, False, False]


def test_agreement_keeps_the_label_of_the_best_trajectory() -> None:
    policy = Asked(TWO_ROUNDS, GIVEN)
    outcome = refine(policy, replace(AGREEMENT, rounds=2))
    # 1 - 0.4, 0.1 (it says failure), 1 - 0.3: the middle one would agree most with "success"
    assert [answer.agreement for answer in outcome.trace[3:]] == pytest.approx([0.6, 0.1, 0.7])
    assert outcome.selected == 5
    assert not outcome.trace[5].failed
    swapped = refine(Asked(TWO_ROUNDS, {**GIVEN, 'e11': 0.99}), replace(AGREEMENT, rounds=2))
    assert swapped.selected == 5


def test_agreement_changes_nothing_but_what_is_returned() -> None:
    policy, plain = Asked(TWO_ROUNDS, GIVEN), Scripted(TWO_ROUNDS)
    agreed = refine(policy, replace(AGREEMENT, rounds=2))
    usual = refine(plain, replace(SETTINGS, rounds=2))
    assert usual.selected == 3
    assert [replace(answer, agreement=None) for answer in agreed.trace] == list(usual.trace)
    assert policy.explained == plain.explained
    assert policy.detected == plain.detected


def test_agreement_within_the_round_of_the_return_policy() -> None:
    script = [TWO_ROUNDS[0], [(0.8, 0.9, 0.0)] * 3]
    best = refine(Asked(script, GIVEN), replace(AGREEMENT, return_policy=ReturnPolicy.BEST))
    assert best.selected == 1
    assert refine(Asked(script, GIVEN), AGREEMENT).selected == 3


def test_equal_agreement_leaves_it_to_the_entropy() -> None:
    script = [[(0.8, 0.6, 0.5), (0.8, 0.6, 0.1), (0.8, 0.6, 0.3)]]
    given = {'e00': 0.9, 'e01': 0.5, 'e02': 0.9}
    assert refine(Asked(script, given), replace(AGREEMENT, rounds=1)).selected == 2


def test_without_time_or_choice_the_answer_is_the_paper_s() -> None:
    late = refine(Asked(TWO_ROUNDS, GIVEN, late=True), replace(AGREEMENT, rounds=2))
    assert (late.selected, late.trace[3].agreement) == (3, None)
    policy = Asked([TWO_ROUNDS[0][:1]], GIVEN)
    alone = refine(policy, replace(AGREEMENT, rounds=1, trajectories=1))
    assert (alone.selected, policy.alone) == (0, [])


def test_an_explanation_that_contradicts_the_label_is_the_last_choice() -> None:
    # the label is failure; words of 'e01' tell of a success
    words = TextVerdict({'e00': 1.0, 'e01': -1.0})
    usual = refine(Scripted(TWO_ROUNDS), replace(SETTINGS, rounds=1))
    assert not any(answer.contradicts for answer in usual.trace)
    found = refine(Scripted(TWO_ROUNDS), replace(SETTINGS, rounds=1), verdict=words)
    assert [answer.contradicts for answer in found.trace] == [False, True, False]
    assert [replace(answer, contradicts=False) for answer in found.trace] == list(usual.trace)
    texts = ('it went well', 'it went very well', 'it fell')
    trace = [replace(answer, explanation=text)
             for answer, text in zip(found.trace, texts, strict=True)]  # fmt: skip

    def selected(*contradicting: int, choice: ExplanationChoice) -> int:
        marked = [replace(answer, contradicts=place in contradicting)
                  for place, answer in enumerate(trace)]  # fmt: skip
        return select_answer(marked, ReturnPolicy.LAST, choice)

    consensus = ExplanationChoice.CONSENSUS
    assert selected(choice=consensus) == 0
    assert selected(0, 1, choice=consensus) == 2
    assert selected(0, 1, 2, choice=consensus) == 0
    assert selected(0, choice=ExplanationChoice.PAPER) == 0


def test_an_agreement_that_is_not_finite() -> None:
    with pytest.raises(ModelError, match='given the explanation'):
        refine(Asked(TWO_ROUNDS, {**GIVEN, 'e01': math.nan}), AGREEMENT)


def _said(*answers: tuple[str, float, bool], index: int = 0) -> list[Round]:
    """Return a round of (explanation, combined entropy, failed)."""
    low = min(entropy for _, entropy, _ in answers)
    return [
        Round(index, m, 0.9 if failed else 0.1, failed, text, 0.1, 0.1, entropy, entropy == low)
        for m, (text, entropy, failed) in enumerate(answers)
    ]


def _consensus(trace: Sequence[Round], policy: ReturnPolicy = ReturnPolicy.LAST) -> int:
    return select_answer(trace, policy, ExplanationChoice.CONSENSUS)


def test_the_explanation_that_is_most_like_the_others() -> None:
    texts = ('It is in the bowl.', 'The can fell, and it is on the table.', 'the CAN fell')
    trace = _said(*((text, 0.1 * m, True) for m, text in enumerate(texts)))
    # words in common: (3/5+8, 0), (3/13, 3/11), (0, 3/11), each twice
    assert _consensus(trace) == 1
    assert select_answer(trace, ReturnPolicy.LAST) == 0


@pytest.mark.parametrize('seed', range(20))
def test_consensus_is_the_mean_overlap_of_words(seed: int) -> None:
    rng = random.Random(seed)
    texts = [' '.join(rng.choices('abcd', k=rng.randint(0, 5))) for _ in range(5)]

    def shared(one: str, other: str) -> float:
        left = other.split()
        count = 0
        for word in one.split():
            if word in left:
                left.remove(word)
                count += 1
        return 2 * count / max(1, len(one.split()) + len(other.split()))

    means = [
        sum(shared(own, texts[m]) for m in range(5) if m != at) for at, own in enumerate(texts)
    ]
    selected = _consensus(_said(*((text, rng.random(), True) for text in texts)))
    assert means[selected] == pytest.approx(max(means))


def test_consensus_keeps_label_and_round_and_leaves_equals_to_the_entropy() -> None:
    first = _said(('it fell down', 0.3, True), ('it fell', 0.4, True), ('it fell', 0.5, True))
    assert _consensus(first) == 1
    others = _said(('all is well', 0.9, True), ('b', 0.8, False), ('b', 0.7, False), index=1)
    assert _consensus(first + others) == 5
    assert _consensus(first + others, ReturnPolicy.BEST) == 1
    split = _said(('it fell', 0.3, True), ('well', 0.4, False), ('well', 0.5, False))
    assert _consensus(split) == 0
    assert _consensus(_said(('', 0.2, True), ('', 0.1, True))) == 1


def test_consensus_asks_nothing_more() -> None:
    policy, plain = Asked(TWO_ROUNDS, GIVEN), Scripted(TWO_ROUNDS)
    settings = replace(SETTINGS, rounds=2, explanation_choice=ExplanationChoice.CONSENSUS)
    assert refine(policy, settings).trace == refine(plain, replace(SETTINGS, rounds=2)).trace
    assert policy.alone == []
