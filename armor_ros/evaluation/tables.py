# SPDX-License-Identifier: Apache-2.0
"""Metrics as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from armor_ros.evaluation.calibrate_rounds import RoundsScore
from armor_ros.evaluation.metrics import Metrics


def metrics_table(columns: Mapping[str, Metrics]) -> Table:
    """Return the main figures of one run, and of its baselines beside it."""
    rows = {name: _main_figures(metrics) for name, metrics in columns.items()}
    tasks = max(metrics['detection']['accuracy']['n'] for metrics in columns.values())
    return _side_by_side(rows, tasks, 'figure')


def comparison_tables(comparison: Mapping[str, Any]) -> list[Table]:
    """Return the runs side by side, and how each differs from the first."""
    tasks = comparison['common']['labelled']
    tables = [_side_by_side(comparison['metrics'], tasks, 'on common tasks')]
    for pair in comparison['pairs']:
        title = f'{escape(pair["run"])} minus {escape(pair["reference"])}, {pair["n"]} tasks'
        table = Table('figure', 'difference, 95 % interval', title=title)
        for name, value in pair['differences'].items():
            table.add_row(escape(name), format_figure(value, pair['n'], signed=True))
        test = pair['mcnemar']
        table.add_row(
            "McNemar's exact test",
            f'p = {test["p_value"]:.3g}; right alone: {test["only_run_right"]} against '
            f'{test["only_reference_right"]}',
        )
        tables.append(table)
    return tables


def format_figure(figure: Any, tasks: int = 0, *, signed: bool = False) -> str:
    """
    Return a figure as text: value and interval, and n where it is not ``tasks``.

    A figure without a value is a dash; metrics.json has the reason.
    """
    if not isinstance(figure, Mapping):
        return '-' if figure is None else f'{figure:.3f}'
    plus = '+' if signed else ''
    if figure['value'] is None:
        return '-'
    text = f'{figure["value"]:{plus}.3f}'
    if figure['low'] is not None:
        text += f' \\[{figure["low"]:{plus}.3f}, {figure["high"]:{plus}.3f}]'
    return text if figure['n'] == tasks else f'{text} n {figure["n"]}'


def _side_by_side(columns: Mapping[str, Mapping[str, Any]], tasks: int, heading: str) -> Table:
    table = Table(f'{heading} (n {tasks})', *(escape(name) for name in columns))
    names: dict[str, None] = {}
    for figures in columns.values():
        names.update(dict.fromkeys(figures))
    for name in names:
        cells = [figures.get(name) for figures in columns.values()]
        table.add_row(escape(name), *(format_figure(cell, tasks) for cell in cells))
    return table


def _main_figures(metrics: Metrics) -> dict[str, Any]:
    reasoning, doubt, abstention = (metrics[k] for k in ('reasoning', 'doubt', 'abstention'))
    kinds = metrics.get('kinds')
    return {
        **metrics['detection'],
        'coverage': abstention['coverage'],
        'error among the answered': abstention['error_answered'],
        'rouge_l': reasoning['rouge_l']['total'],
        'rouge_l failures': reasoning['rouge_l']['failures'],
        **({'right kind of failure': kinds['right_kind']} if kinds else {}),
        **{f'judge {name}': values['total'] for name, values in reasoning['judges'].items()},
        'ece': doubt['ece'],
        'brier': doubt['brier'],
        'agreement with the robot': metrics['disagreement']['agreement'],
        'seconds of inference': metrics['cost']['inference_seconds']['mean'],
    }


def round_table(rounds: Sequence[Mapping[str, Any]]) -> Table:
    """Return accuracy, ROUGE-L and entropy after each round."""
    table = Table('round', 'ran', 'accuracy', 'rouge_l', 'combined entropy', 'flips right/wrong')
    for entry in rounds:
        table.add_row(
            str(entry['round']),
            str(entry['ran']),
            format_figure(entry['accuracy'], entry['n']),
            format_figure(entry['rouge_l'], entry['n']),
            format_figure(entry['combined_entropy'], entry['n']),
            f'{entry["flips_right"]}/{entry["flips_wrong"]}',
        )
    return table


def choice_table(scores: Sequence[RoundsScore], rounds: int) -> Table:
    """Return how each number of rounds scores; ``rounds``, the one taken, is marked."""
    table = Table(
        *('rounds', 'ran', 'accuracy', 'rouge_l', 'score', 'behind the best', 'seconds'),
        title='With at most so many rounds; accuracy is balanced, ± the standard error',
    )
    for entry in scores:
        table.add_row(
            f'{entry.rounds}{" *" if entry.rounds == rounds else ""}',
            str(entry.ran),
            f'{entry.accuracy:.3f}',
            '-' if entry.rouge_l is None else f'{entry.rouge_l:.3f}',
            f'{entry.score:.3f}',
            f'{entry.behind:.3f} ± {entry.error:.3f}',
            '-' if entry.seconds is None else f'{entry.seconds:.2f}',
        )
    return table
