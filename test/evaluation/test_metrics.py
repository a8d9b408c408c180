# SPDX-License-Identifier: Apache-2.0
"""metrics.json: whole, deterministic, and never a number that is none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from some_lines import a_line, a_round, of_baseline, random_lines, unknown, write_lines

from armor_ros.errors import ArmorError
from armor_ros.evaluation.judgements import texts_to_judge, write_judgements
from armor_ros.evaluation.metrics import cost, score
from armor_ros.evaluation.score import read_metrics, write_metrics


def figures(value: Any) -> list[dict[str, Any]]:
    """Return all figures in some metrics."""
    if isinstance(value, dict):
        if {'value', 'low', 'high', 'n'} <= value.keys():
            return [value]
        return [figure for inner in value.values() for figure in figures(inner)]
    if isinstance(value, list):
        return [figure for inner in value for figure in figures(inner)]
    return []


def test_a_run_has_every_part_with_intervals() -> None:
    metrics = score(random_lines(60, clusters=30))
    assert list(metrics) == [
        *('schema', 'run', 'counts', 'detection', 'confusion', 'labels', 'disagreement'),
        *('abstention', 'reasoning', 'kinds', 'doubt', 'rounds', 'policies', 'groups', 'cost'),
    ]
    assert metrics['kinds'] is None
    assert metrics['run']['labels_used'] == 'strong'
    assert metrics['run']['clusters'] == 30
    assert len(metrics['rounds']) == 3
    for figure in figures({k: metrics[k] for k in ('detection', 'doubt', 'policies')}):
        assert figure['low'] <= figure['high'], figure
        assert (figure['interval'] in ('wilson', 'bootstrap'), 'reason' in figure) == (True, False)


def test_counts_by_hand() -> None:
    lines = [
        a_line(0),
        a_line(1, 'success', label_weak=True, label_source='status'),
        a_line(2, None, verdict='ABSTAIN'),
        unknown(3),
        of_baseline(4, 'success', None),
    ]
    counts = score(lines)['counts']
    plain = {name: value for name, value in counts.items() if not name.startswith('by_')}
    assert plain == {
        'tasks': 5,
        'labelled': 4,
        'weak': 1,
        'unlabelled': 1,
        'unknown': 2,
        'abstained': 1,
        'unparsable': 1,
        'failures': 2,
        'successes': 2,
    }
    assert counts['by_label_source'] == {'': 1, 'dataset': 3, 'status': 1}
    assert counts['by_verdict'] == {'ABSTAIN': 1, 'FAILURE': 2, 'UNKNOWN': 2}


def test_strong_labels_are_the_headline_and_weak_ones_apart() -> None:
    lines = [a_line(0), a_line(1, 'success', label_weak=True)]
    metrics = score(lines)
    assert metrics['run']['labels_used'] == 'strong'
    assert metrics['detection']['accuracy']['value'] == 1.0
    assert metrics['labels']['strong']['detection'] == metrics['detection']
    assert metrics['labels']['weak']['detection']['accuracy']['value'] == 0.0
    weak = score(lines[1:])
    assert weak['run']['labels_used'] == 'weak'
    assert weak['detection']['accuracy']['value'] == 0.0
    assert weak['labels'] == {
        'strong': None,
        'weak': {'n': 1, 'detection': weak['detection'], 'confusion': weak['confusion']},
    }


@pytest.mark.parametrize(
    'lines',
    [
        [a_line(0)],
        [a_line(0, None)],
        [unknown(0)],
        [unknown(0, None)],
        [of_baseline(n, 'failure', n % 2 == 0) for n in range(3)],
        [a_line(n, 'success', 0.0, label_explanation='fine') for n in range(4)],
        [a_line(n, 'failure', 1.0, episode='one') for n in range(4)],
    ],
    ids=['one', 'no label', 'no answer', 'nothing', 'baseline', 'one class', 'one recording'],
)
def test_poor_runs_have_reasons_instead_of_values(lines: Any) -> None:
    metrics = score(lines)
    json.dumps(metrics, allow_nan=False)
    for figure in figures(metrics):
        assert (None in (figure['value'], figure['low'], figure['high'])) == ('reason' in figure)
        assert figure.get('reason') != ''


PROBABILITY = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))


@st.composite
def any_line(draw: Any) -> dict[str, Any]:
    number, label = draw(st.integers(0, 5)), draw(st.sampled_from(['failure', 'success', None]))
    more = {
        'episode': draw(st.sampled_from(['', 'a', 'b'])),
        'label_weak': draw(st.booleans()),
        'label_explanation': draw(st.sampled_from([None, '', 'the can slipped', 'ü'])),
        'task_status': draw(st.sampled_from(['SUCCEEDED', 'ABORTED', 'CANCELED', 'UNKNOWN'])),
        'injected_mode': draw(st.sampled_from(['', 'slip'])),
        'failure_kind': draw(st.sampled_from(['', 'dropped'])),
    }
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return unknown(number, label, **more)
    if kind == 1:
        return of_baseline(number, label, draw(st.sampled_from([True, False, None])), **more)
    trace = [
        a_round(index, draw(PROBABILITY), draw(st.sampled_from(['', 'it slipped'])))
        for index in range(draw(st.integers(1, 3)))
    ]
    if kind == 2:
        more['verdict'] = 'ABSTAIN'
    return a_line(number, label, trace=trace, **more)


@settings(max_examples=60, deadline=None)
@given(st.lists(any_line(), min_size=1, max_size=8))
def test_no_lines_make_a_figure_that_is_no_number(lines: Any) -> None:
    metrics = score(lines)
    json.dumps(metrics, allow_nan=False)
    for figure in figures(metrics):
        assert isinstance(figure['n'], int)
        if figure['low'] is not None:
            assert math.isfinite(figure['high'] - figure['low'])
            assert figure['low'] <= figure['high']


def test_the_same_lines_give_the_same_bytes(tmp_path: Path) -> None:
    lines = random_lines(50, clusters=20)
    texts = texts_to_judge(lines)
    written = []
    for name in ('a', 'b'):
        folder = write_lines(tmp_path / name, lines)
        write_judgements(folder, 'judge', dict.fromkeys(texts, 0.5))
        metrics = write_metrics(folder)
        assert metrics['reasoning']['judges']['judge']['unjudged'] == 0
        assert metrics['rounds'][0]['judges']['judge']['value'] == 0.5
        assert read_metrics(folder) == metrics
        written.append((folder / 'metrics.json').read_bytes())
    assert written[0] == written[1]
    assert sorted(path.name for path in (tmp_path / 'a').iterdir()) == [
        *('judgements', 'metrics.json', 'predictions.jsonl'),
    ]


def test_only_the_cost_depends_on_times() -> None:
    lines = random_lines(20)
    slow = [{**line, 'timing': {'inference_seconds': 9.0}} for line in lines]
    first, second = score(lines), score(slow)
    assert first.pop('cost') != second.pop('cost')
    assert first == second


def test_cost_by_hand() -> None:
    lines = [
        a_line(0, timing={'inference_seconds': 1.0, 'round_seconds': [0.8]}),
        a_line(1, timing={'inference_seconds': 3.0, 'round_seconds': [2.0, 0.5]}),
        unknown(2),
    ]
    result = cost(lines)
    assert result['inference_seconds'] == {
        'mean': 2.0,
        'p50': 2.0,
        'p90': 2.8,
        'p99': 2.98,
        'max': 3.0,
        'n': 2,
    }
    assert [(entry['mean'], entry['n']) for entry in result['rounds']] == [(1.4, 2), (0.5, 1)]
    assert result['tasks_per_minute'] == 30.0
    assert result['first_detection_seconds']['mean'] is None
    assert cost([])['tasks_per_minute'] is None


@pytest.mark.parametrize('text', [None, '{', '[]', '{"schema": 0}'])
def test_metrics_that_cannot_be_read_say_how_to_make_them(
    tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / 'metrics.json').write_text(text)
    with pytest.raises(ArmorError, match=f'armor score {tmp_path} writes it'):
        read_metrics(tmp_path)
