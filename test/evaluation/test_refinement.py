# SPDX-License-Identifier: Apache-2.0
"""What each round would have answered, by hand."""

from __future__ import annotations

import pytest
from some_lines import a_line, a_round, of_baseline, unknown

from armor_ros.evaluation.labelled import Labelled
from armor_ros.evaluation.reasoning import Referenced
from armor_ros.evaluation.refinement import Refined, policies, rounds

RIGHT, WRONG = 'the can slipped', 'all went well'


def refined(*lines: dict, judgements: dict | None = None) -> Refined:
    return Refined(Labelled.of(lines), Referenced(lines, judgements or {}))


# Mended in round 1, which has the higher entropy; stopped at once; spoilt in round 1; no answer.
MENDED = a_line(
    0,
    trace=[a_round(0, 0.1, WRONG), a_round(1, 0.6, RIGHT, explanation_entropy=0.9)],
    label_explanation=RIGHT,
)
STOPPED = a_line(1, trace=[a_round(0, 0.9, RIGHT)], label_explanation=RIGHT)
SPOILT = a_line(
    2,
    'success',
    trace=[a_round(0, 0.2, WRONG), a_round(1, 0.9, RIGHT)],
    label_explanation=WRONG,
)
SILENT = unknown(3, label_explanation=RIGHT)


def test_rounds_by_hand() -> None:
    first, second = rounds(refined(MENDED, STOPPED, SPOILT, SILENT))
    assert (first['round'], first['n'], first['ran']) == (0, 4, 3)
    assert (second['round'], second['n'], second['ran']) == (1, 4, 2)
    # the task that stopped at round 0 carries its answer forward, the silent one is wrong
    assert (first['accuracy']['value'], second['accuracy']['value']) == (0.5, 0.5)
    assert (first['flips_right'], first['flips_wrong']) == (0, 0)
    assert (second['flips_right'], second['flips_wrong']) == (1, 1)
    assert (first['rouge_l']['value'], second['rouge_l']['value']) == (0.5, 0.5)
    assert first['rouge_l_failures']['value'] == pytest.approx(1 / 3, abs=1e-6)
    assert second['rouge_l_failures']['value'] == pytest.approx(2 / 3, abs=1e-6)
    assert second['explanation_entropy']['value'] == pytest.approx(1.9 / 3, abs=1e-6)
    assert second['explanation_entropy']['n'] == 3


def test_both_policies_on_the_same_rounds() -> None:
    result = policies(refined(MENDED, STOPPED))
    assert result is not None
    assert result['last']['accuracy']['value'] == 1.0
    # the mended task's round 0 has the lower entropy
    assert result['best']['accuracy']['value'] == 0.5
    assert result['best']['rouge_l']['value'] == 0.5


def test_the_best_trajectory_of_a_round_is_the_answer() -> None:
    trace = [
        a_round(0, 0.3, WRONG, trajectory=0, best=False),
        a_round(0, 0.95, RIGHT, trajectory=1),
    ]
    (only,) = rounds(refined(a_line(0, trace=trace, label_explanation=RIGHT)))
    assert (only['accuracy']['value'], only['rouge_l']['value']) == (1.0, 1.0)


def test_judges_by_round() -> None:
    judgements = {
        'judge': {('move the can', RIGHT, RIGHT): 1.0, ('move the can', RIGHT, WRONG): 0.0}
    }
    entries = rounds(refined(MENDED, judgements=judgements))
    assert [entry['judges']['judge']['value'] for entry in entries] == [0.0, 1.0]


def test_baselines_have_no_rounds() -> None:
    baseline = refined(of_baseline(0, 'failure', True))
    assert rounds(baseline) == []
    assert policies(baseline) is None
