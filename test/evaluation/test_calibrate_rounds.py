# SPDX-License-Identifier: Apache-2.0
"""The number of rounds is the smallest that is not clearly behind the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from some_lines import SETTINGS, a_line, a_round, random_lines

from armor_ros.episodes.diagnosis import ReturnPolicy
from armor_ros.errors import ArmorError
from armor_ros.evaluation.calibrate import CheckpointIdentity, calibrate
from armor_ros.evaluation.calibrate_rounds import RoundsChoice, choose_rounds
from armor_ros.model.config import ArmorConfig

CHECKPOINT = CheckpointIdentity('weights', 'config', ArmorConfig())
RIGHT, WRONG = 'the can slipped', 'all went well'


def task(number: int, *right: bool, texts: Sequence[str] = (), **changes: Any) -> dict[str, Any]:
    """Return a task, failed if its number is even, that was told right or not in each round."""
    failed = number % 2 == 0
    said = [0.9 if (ok == failed) else 0.1 for ok in right]
    words = list(texts) or [RIGHT] * len(said)
    trace = [a_round(index, said[index], words[index]) for index in range(len(said))]
    return a_line(number, 'failure' if failed else 'success', trace=trace, **changes)


def many(count: int, *right: bool, start: int = 0, **changes: Any) -> list[dict[str, Any]]:
    return [task(start + n, *right, **changes) for n in range(count)]


def choose(lines: Sequence[dict[str, Any]]) -> RoundsChoice:
    return choose_rounds(lines, ReturnPolicy.LAST)


def test_a_clear_gain_is_taken() -> None:
    """Of 100 failures and 100 successes each, 4 are mended in round 1, and nothing is spoilt."""
    lines = many(120, True, True) + many(72, False, False) + many(8, False, True)
    lines = [{**line, 'episode': f'set/{n}'} for n, line in enumerate(lines)]
    choice = choose(lines)
    first, second = choice.scores
    assert (first.accuracy, second.accuracy) == pytest.approx((0.6, 0.64))
    assert (first.rouge_l, first.score) == (None, pytest.approx(0.6))
    assert (first.behind, second.behind) == (pytest.approx(0.04), 0.0)
    # paired: sqrt(0.04 * 0.96 / 200); of two separate sets it would be 0.05, and no clear gain
    assert first.error == pytest.approx(math.sqrt(0.04 * 0.96 / 200), rel=0.1)
    assert second.error == 0.0
    assert choice.rounds == 2


def test_a_gain_within_one_standard_error_is_not_worth_its_cost() -> None:
    lines = many(34, True, True) + many(4, False, True, start=40) + many(2, True, False, start=50)
    choice = choose(lines)
    first = choice.scores[0]
    assert first.behind == pytest.approx(0.05)
    # differences of 1 in 4 of 40 tasks, -1 in 2: each class has 2 and 1 of 20
    spread = 0.5 * math.sqrt(2 * (3 / 20 - (1 / 20) ** 2) / 20)
    assert first.error == pytest.approx(spread, rel=0.1)
    assert (first.behind <= first.error, choice.rounds) == (True, 1)


def test_tasks_of_one_recording_are_one_piece_of_evidence() -> None:
    kept = many(12, True, True) + many(6, False, False, start=20)
    mended = many(4, False, True, start=40)
    together = [{**line, 'episode': 'set/the same'} for line in mended]
    apart, joined = (choose(kept + four).scores[0] for four in (mended, together))
    assert apart.behind == joined.behind
    assert joined.error > 1.5 * apart.error


def test_explanations_count_as_much_as_detection() -> None:
    """Detection stays as it is, the words get worse: refinement is worth nothing."""
    lines = many(40, True, True, texts=(RIGHT, WRONG), label_explanation=RIGHT)
    first, second = choose(lines).scores
    assert (first.rouge_l, first.score) == (1.0, 1.0)
    assert (second.rouge_l, second.score) == (0.0, 0.5)
    assert choose(lines).rounds == 1
    better = many(40, True, True, texts=(WRONG, RIGHT), label_explanation=RIGHT)
    assert choose(better).rounds == 2


def test_only_explained_tasks_count_for_explanations() -> None:
    lines = many(10, True, texts=(RIGHT,), label_explanation=RIGHT)
    (only,) = choose(lines + many(30, True, texts=(WRONG,), start=40)).scores
    assert only.rouge_l == 1.0


def test_tasks_that_stopped_keep_their_answer() -> None:
    timing = {'round_seconds': [1.0, 2.0]}
    lines = many(20, False, True, timing=timing)
    lines += many(20, True, start=20, timing={'round_seconds': [1.0]})
    first, second = choose(lines).scores
    assert (first.ran, second.ran) == (40, 20)
    assert (first.accuracy, second.accuracy) == (0.5, 1.0)
    assert (first.seconds, second.seconds) == (1.0, 2.0)


def test_the_return_policy_decides_on_each_round_s_answer() -> None:
    """Round 1 is wrong and doubtful: returning the surest round keeps what round 0 said."""
    lines = many(40, True, False)
    for line in lines:
        line['trace'][1]['combined_entropy'] += 1.0
    last, best = (choose_rounds(lines, policy).scores[1] for policy in ReturnPolicy)
    assert (last.accuracy, best.accuracy) == (0.0, 1.0)


def with_agreement(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line whose second trajectory says better words, and agrees more."""
    (entry,) = line['trace']
    second = {**entry, 'trajectory': 1, 'best': False, 'explanation': RIGHT, 'agreement': 0.9}
    second['combined_entropy'] = entry['combined_entropy'] + 0.1
    return {**line, 'trace': [{**entry, 'explanation': WRONG, 'agreement': 0.2}, second]}


def test_explanations_are_chosen_as_they_were() -> None:
    lines = [with_agreement(line) for line in many(20, True, label_explanation=RIGHT)]
    assert choose(lines).scores[0].rouge_l == 0.0
    agreed = [
        {**line, 'settings': {**SETTINGS, 'explanation_choice': 'agreement'}} for line in lines
    ]
    assert choose(agreed).scores[0].rouge_l == 1.0


def test_all_that_is_fitted_is_about_the_chosen_rounds() -> None:
    lines = random_lines(80)
    for line in lines:
        # round 0 is right and told in other words than all that follows
        line['trace'][0]['explanation'] = line['label_explanation']
        for entry in line['trace'][1:]:
            entry['explanation'] = 'nothing of the kind'
    summary = calibrate(lines, CHECKPOINT)
    assert summary.rounds.rounds == 1
    cut = [{**line, 'trace': line['trace'][:1], 'selected': 0} for line in lines]
    made = calibrate(cut, CHECKPOINT)
    assert made.calibration == summary.calibration
    assert summary.calibration.settings == {**made.calibration.settings, 'rounds': 1}
    asked = calibrate(lines, CHECKPOINT, rounds=4)
    assert asked.calibration.rounds == 4
    assert asked.rounds == summary.rounds
    assert asked.calibration.failure_scores != made.calibration.failure_scores
    raw = [line['failure_probability'] for line in lines]
    assert asked.nll[0] == pytest.approx(
        sum(
            -math.log(min(max(p if line['label'] == 'failure' else 1 - p, 1e-6), 1 - 1e-6))
            for p, line in zip(raw, lines, strict=True)
        )
        / 80
    )


def test_more_rounds_than_were_tried_are_refused() -> None:
    with pytest.raises(ArmorError, match=r'rounds is 5; the run was answered with at most 4'):
        calibrate(random_lines(80), CHECKPOINT, rounds=5)


def test_the_choice_is_always_the_same() -> None:
    lines = random_lines(60, clusters=20)
    assert choose(lines) == choose(lines)
