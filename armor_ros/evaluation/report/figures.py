# SPDX-License-Identifier: Apache-2.0
"""The report's charts as plain values that plotly's JavaScript draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from armor_ros.evaluation.lines import Line
from armor_ros.evaluation.metrics import Metrics

Chart = dict[str, Any]

# Colours that can be told apart in print, on white and on black, and by the colour-blind.
_BLUE, _ORANGE, _GREEN, _GREY = '#3d7fe0', '#d9771f', '#1f9e74', '#8a94a0'
_BINS = 24


def charts(metrics: Metrics, lines: Sequence[Line]) -> dict[str, Chart]:
    """Return the charts of a run by name; one that there is nothing to show of is left out."""
    made = {
        'reliability': _reliability(metrics['doubt']['reliability']),
        'risk': _risk(metrics['doubt']['risk_coverage']),
        'scores': _scores(metrics['rounds']),
        'entropies': _entropies(metrics['rounds']),
        'latency': _latency(lines),
    }
    return {name: chart for name, chart in made.items() if chart is not None}


def _reliability(bins: Sequence[Mapping[str, Any]]) -> Chart | None:
    if not bins:
        return None
    measured = {
        **_line([entry['mean_probability'] for entry in bins], None, 'measured', _BLUE),
        'y': [entry['fraction_failed'] for entry in bins],
        'error_y': _bars(
            [entry['fraction_failed'] for entry in bins],
            [entry['fraction_low'] for entry in bins],
            [entry['fraction_high'] for entry in bins],
        ),
        'text': [f'{entry["n"]} tasks' for entry in bins],
        'hovertemplate': 'said %{x:.0%}, failed %{y:.0%}<br>%{text}<extra></extra>',
    }
    ideal = {
        **_line([0, 1], [0, 1], 'ideal', _GREY),
        'mode': 'lines',
        'hoverinfo': 'skip',
    }
    ideal['line'] = {'color': _GREY, 'dash': 'dot', 'width': 1.5}
    return _chart(
        [ideal, measured],
        _axis('probability of failure that was told', share=True),
        _axis('share that did fail', share=True),
    )


def _risk(curve: Mapping[str, Any]) -> Chart | None:
    if not curve['coverage']:
        return None
    trace = {
        **_line(curve['coverage'], curve['risk'], 'wrong answers', _BLUE),
        'mode': 'lines' if len(curve['coverage']) > 20 else 'lines+markers',
        'hovertemplate': 'surest %{x:.0%}: %{y:.1%} wrong<extra></extra>',
    }
    wrong = _axis('share of these that is wrong', share=True)
    wrong['range'] = [0, 1.1 * max(0.1, *curve['risk'])]
    return _chart([trace], _axis('share of tasks answered, the surest first', share=True), wrong)


def _scores(rounds: Sequence[Mapping[str, Any]]) -> Chart | None:
    if len(rounds) < 2:
        return None
    numbers = [entry['round'] for entry in rounds]
    traces = [
        _figures(numbers, [entry['accuracy'] for entry in rounds], 'accuracy', _BLUE),
        _figures(numbers, [entry['rouge_l'] for entry in rounds], 'ROUGE-L', _ORANGE),
    ]
    for judge in rounds[0]['judges']:
        values = [entry['judges'][judge] for entry in rounds]
        traces.append(_figures(numbers, values, f'judge {judge}', _GREEN))
    known = [trace for trace in traces if trace is not None]
    if not known:
        return None
    return _chart(known, _rounds_axis(numbers), {**_axis('score'), 'range': [0, 1.03]})


def _entropies(rounds: Sequence[Mapping[str, Any]]) -> Chart | None:
    if len(rounds) < 2:
        return None
    numbers = [entry['round'] for entry in rounds]
    named = (
        ('detection_entropy', 'detection', _BLUE),
        ('explanation_entropy', 'explanation', _ORANGE),
        ('combined_entropy', 'combined', _GREEN),
    )
    traces = [
        _figures(numbers, [e[key] for e in rounds], name, color) for key, name, color in named
    ]
    known = [trace for trace in traces if trace is not None]
    if not known:
        return None
    axis = {**_axis('entropy in nats'), 'rangemode': 'tozero'}
    return _chart(known, _rounds_axis(numbers), axis)


def _latency(lines: Sequence[Line]) -> Chart | None:
    timings = [line.get('timing') or {} for line in lines if line.get('status', 'OK') == 'OK']
    seconds = [timing.get('inference_seconds') for timing in timings]
    known = np.array([value for value in seconds if value is not None], np.float64)
    if not len(known) or not known.max() > 0:
        return None
    counts, edges = np.histogram(known, _BINS, (0, float(known.max())))
    trace = {
        'type': 'bar',
        'x': [round(float(edge), 4) for edge in (edges[:-1] + edges[1:]) / 2],
        'y': counts.tolist(),
        'width': round(float(edges[1] - edges[0]) * 0.92, 6),
        'marker': {'color': _BLUE},
        'hovertemplate': 'about %{x:.3~f} s: %{y} tasks<extra></extra>',
    }
    vertical = {**_axis('tasks'), 'tickformat': 'd'}
    return _chart([trace], _axis('seconds of inference'), vertical)


def _figures(
    numbers: Sequence[int], figures: Sequence[Mapping[str, Any]], name: str, color: str
) -> Chart | None:
    """Return a line through figures with their intervals; None where no figure has a value."""
    values = [figure['value'] for figure in figures]
    if all(value is None for value in values):
        return None
    lows, highs = ([figure[end] for figure in figures] for end in ('low', 'high'))
    return {
        **_line(numbers, values, name, color),
        'error_y': _bars(values, lows, highs),
        'hovertemplate': 'round %{x}: %{y:.3f}<extra>%{fullData.name}</extra>',
    }


def _line(x: Sequence[Any], y: Sequence[Any] | None, name: str, color: str) -> Chart:
    return {
        'type': 'scatter',
        'mode': 'lines+markers',
        'x': list(x),
        'y': [] if y is None else list(y),
        'name': _plain(name),
        'line': {'color': color, 'width': 2},
        'marker': {'color': color, 'size': 7},
    }


def _bars(values: Sequence[Any], lows: Sequence[Any], highs: Sequence[Any]) -> Chart:
    """Return error bars; none where an interval is not known."""

    def span(one: Any, other: Any) -> float:
        return 0.0 if one is None or other is None else max(0.0, round(one - other, 6))

    return {
        'type': 'data',
        'symmetric': False,
        'array': [span(high, value) for high, value in zip(highs, values, strict=True)],
        'arrayminus': [span(value, low) for value, low in zip(values, lows, strict=True)],
        'thickness': 1.2,
        'width': 4,
    }


def _axis(title: str, *, share: bool = False) -> Chart:
    axis: Chart = {'title': {'text': title}, 'fixedrange': True, 'zeroline': False}
    if share:
        axis.update(range=[-0.03, 1.03], tickformat='.0%')
    return axis


def _rounds_axis(numbers: Sequence[int]) -> Chart:
    return {**_axis('round of refinement'), 'tickvals': list(numbers), 'tickformat': 'd'}


def _chart(traces: Sequence[Chart], x: Chart, y: Chart) -> Chart:
    return {'data': list(traces), 'layout': {'xaxis': x, 'yaxis': y}}


def _plain(text: str) -> str:
    """Return a name that plotly, which knows some HTML, shows as it is."""
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
