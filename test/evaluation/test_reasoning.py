# SPDX-License-Identifier: Apache-2.0
"""Scores of explanations equal rouge_score's and scikit-learn's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rouge_score import rouge_scorer
from sklearn import metrics
from some_lines import a_line, a_round, random_lines, unknown

from armor_ros.errors import ArmorError
from armor_ros.evaluation.judgements import read_judgements, texts_to_judge, write_judgements
from armor_ros.evaluation.reasoning import Referenced, reasoning


def test_rouge_equals_rouge_score() -> None:
    lines = random_lines(40)
    scorer = rouge_scorer.RougeScorer(['rougeL'], use_stemmer=True)
    scores = np.array(
        [
            scorer.score(line['label_explanation'], line['explanation'])['rougeL'].fmeasure
            for line in lines
        ]
    )
    failed = np.array([line['label'] == 'failure' for line in lines])
    result = reasoning(Referenced(lines, {}))['rouge_l']
    assert result['total']['value'] == pytest.approx(scores.mean(), abs=1e-6)
    assert result['failures']['value'] == pytest.approx(scores[failed].mean(), abs=1e-6)
    assert result['failures']['n'] == failed.sum()


def test_words_are_stemmed() -> None:
    line = a_line(0, label_explanation='the can was dropping', trace=[a_round(0, 1, 'can drops')])
    # stemmed, "can" and "drop" are common: precision 2/2, recall 2/4
    value = reasoning(Referenced([line], {}))['rouge_l']['total']['value']
    assert value == pytest.approx(2 / 3, abs=1e-6)


def test_no_explanation_scores_nothing_and_no_reference_does_not_count() -> None:
    lines = [
        a_line(0, label_explanation='the can slipped'),
        unknown(1, label_explanation='the can slipped'),
        a_line(2),
        a_line(3, label=None, label_explanation='nobody knows'),
    ]
    total = reasoning(Referenced(lines, {}))['rouge_l']['total']
    assert (total['value'], total['n']) == (0.5, 2)
    none = reasoning(Referenced(lines[2:], {}))['rouge_l']['total']
    assert (none['value'], none['reason'] != '') == (None, True)


def answers(scores: list[float | None]) -> tuple[list[dict[str, Any]], dict[Any, float | None]]:
    """Return a line for each score, and the judgements that give it."""
    lines = [
        a_line(
            number,
            'failure' if number % 2 else 'success',
            label_explanation='it slipped',
            trace=[a_round(0, 0.9, f'answer {number}')],
        )
        for number in range(len(scores))
    ]
    texts = texts_to_judge(lines)
    return lines, dict(zip(texts, scores, strict=True))


def test_what_a_judge_could_not_judge_counts_nothing_and_is_told() -> None:
    lines, judgements = answers([1.0, 0.5, None, 1.0])
    # and one that the judge was never asked about
    lines.append(a_line(9, label_explanation='x', trace=[a_round(0, 0.9, 'not judged')]))
    lines.append(unknown(10, label_explanation='x'))
    result = reasoning(Referenced(lines, {'judge': judgements}))['judges']['judge']
    assert result['total']['value'] == pytest.approx(2.5 / 6, abs=1e-6)
    assert (result['judged'], result['unjudged']) == (4, 2)
    assert result['failures']['n'] == 4
    assert result['failures']['value'] == pytest.approx(1.5 / 4, abs=1e-6)


def test_kappa_equals_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    first = rng.choice([0.0, 0.5, 1.0], 60)
    second = np.where(rng.random(60) < 0.7, first, rng.choice([0.0, 0.5, 1.0], 60))
    lines, judgements = answers([float(score) for score in first])
    other = dict(zip(judgements, [float(score) for score in second], strict=True))
    unjudged = next(iter(other))
    other[unjudged] = None
    result = reasoning(Referenced(lines, {'a': judgements, 'b': other}))
    expected = metrics.cohen_kappa_score((2 * first[1:]).astype(int), (2 * second[1:]).astype(int))
    assert result['kappa']['value'] == pytest.approx(expected, abs=1e-6)
    assert result['kappa']['n'] == 59
    assert result['kappa']['judges'] == ['a', 'b']
    assert result['kappa']['low'] < expected < result['kappa']['high']
    assert reasoning(Referenced(lines, {'a': judgements}))['kappa'] is None


@pytest.mark.parametrize('pair', [([1.0, 1.0], [1.0, 1.0]), ([1.0, 0.5], [None, None])])
def test_kappa_without_a_value_has_a_reason(pair: Any) -> None:
    lines, first = answers(pair[0])
    second = dict(zip(first, pair[1], strict=True))
    kappa = reasoning(Referenced(lines, {'a': first, 'b': second}))['kappa']
    assert kappa['value'] is None
    assert kappa['reason']


def test_each_text_is_judged_once_rounds_included() -> None:
    trace = [a_round(0, 0.9, 'first'), a_round(1, 0.9, 'second')]
    lines = [a_line(n, label_explanation='it slipped', trace=trace) for n in range(3)]
    lines += [a_line(4, trace=trace), unknown(5, label_explanation='it slipped')]
    texts = [
        ('move the can', 'it slipped', 'second'),
        ('move the can', 'it slipped', 'first'),
    ]
    assert texts_to_judge(lines) == texts
    assert texts_to_judge(lines, rounds=False) == texts[:1]


def test_judgements_come_back_from_their_folder(tmp_path: Path) -> None:
    judgements = {('a', 'b\u2028', 'ü'): 0.5, ('a', 'b', 'c'): None, ('a', 'b', 'd'): 1.0}
    path = write_judgements(tmp_path, 'anthropic:some/model', judgements)
    before = path.read_bytes()
    write_judgements(tmp_path, 'anthropic:some/model', dict(reversed(judgements.items())))
    assert path.read_bytes() == before
    assert read_judgements(tmp_path) == {'anthropic:some/model': judgements}
    assert read_judgements(tmp_path / 'nowhere') == {}


@pytest.mark.parametrize(
    'text', ['', 'x', '{"judge": "a"}\n{"score": 1}\n', '{"judge": "a"}\n[1]\n']
)
def test_a_broken_file_of_judgements_is_named(tmp_path: Path, text: str) -> None:
    path = write_judgements(tmp_path, 'a', {})
    path.write_text(text)
    with pytest.raises(ArmorError, match=r'a\.jsonl is not a file of judgements'):
        read_judgements(tmp_path)
