# SPDX-License-Identifier: Apache-2.0
"""The curves of a study as pictures: how training went, and what each round gave."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

# Of a line of training.jsonl, and of a row of rounds.
_LOSSES = {'detection': 'loss of the detection', 'language': 'loss of the explanation'}
_ROUNDS = {
    'accuracy': 'detection',
    'rouge_l_failures': 'explanation of failures',
    'entropy': 'detection entropy',
}
_SIZE = (10.0, 3.6)  # inches; higher where the legend is
_LEGEND_LINE = 0.22
# Losses of single steps are noise; a point is the mean of so many.
_SMOOTHED = 25


def training_curves(
    recipes: Sequence[str], logs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
) -> str:
    """
    Return a picture (SVG) of losses over optimizer steps, '' without any.

    ``logs`` are the steps of a recipe's runs, as training.jsonl has them. A curve is the mean over
    the runs of the means of up to 25 steps, the band behind it from the lowest to the highest.
    ``recipes`` are all that may be drawn: each has its colour, in all pictures.
    """
    if not any(logs.values()):
        return ''
    figure = Figure(_SIZE, layout='constrained')
    panels = figure.subplots(1, len(_LOSSES), squeeze=False)[0]
    for panel, (name, title) in zip(panels, _LOSSES.items(), strict=True):
        for recipe, runs in logs.items():
            shortest = min(map(len, runs), default=0)
            many = max(1, min(_SMOOTHED, shortest // 20))
            groups = shortest // many
            losses = [[line[name] for line in run[: groups * many]] for run in runs]
            values = np.array(losses, dtype=float).reshape(len(runs), groups, many).mean(axis=2)
            if not values.any():  # nothing was asked for that has this loss
                continue
            steps = (np.arange(groups) + 0.5) * many
            color, dashes = _look(recipes.index(recipe))
            panel.plot(steps, values.mean(axis=0), dashes, color=color, label=recipe)
            low, high = values.min(axis=0), values.max(axis=0)
            panel.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
        panel.set(xlabel='optimizer step', title=title, ylim=(0, None))
    return _svg(figure)


def round_curves(recipes: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """
    Return a picture (SVG) of what is answered after each round, with intervals; '' without rows.

    ``rows`` are those of study.json, ``recipes`` as for ``training_curves``.
    """
    if not rows:
        return ''
    figure = Figure(_SIZE, layout='constrained')
    panels = figure.subplots(1, len(_ROUNDS), squeeze=False)[0]
    drawn = list(dict.fromkeys(row['recipe'] for row in rows))
    for panel, (name, title) in zip(panels, _ROUNDS.items(), strict=True):
        for index, recipe in enumerate(drawn):
            own = [(row['round'], row['figures'][name]) for row in rows if row['recipe'] == recipe]
            # beside each other, where intervals would hide each other
            places = [number + 0.05 * (index - (len(drawn) - 1) / 2) for number, _ in own]
            values = np.array([[each[key] for key in ('value', 'low', 'high')] for _, each in own])
            middle, low, high = values.astype(float).T
            errors = np.maximum(np.nan_to_num([middle - low, high - middle]), 0.0)
            color, dashes = _look(recipes.index(recipe))
            panel.errorbar(
                places, middle, errors, color=color, label=recipe,
                fmt=f'o{dashes}', ms=3, elinewidth=0.8,
            )  # fmt: skip
        panel.set(xlabel='round', title=title, xticks=sorted({row['round'] for row in rows}))
    return _svg(figure)


def _look(index: int) -> tuple[Any, str]:
    """Return colour and line style, other ones for each of 80 recipes."""
    colors = mpl.colormaps['tab20'].colors  # type: ignore[attr-defined]
    # first the ten strong ones, then their pale sisters, then all once more in dashes
    return colors[(2 * index + index // 10 % 2) % 20], ('-', '--', ':', '-.')[index // 20 % 4]


def _svg(figure: Figure) -> str:
    """Return a figure as text that is the same each time, with one legend beside all panels."""
    known: dict[str, Any] = {}
    for panel in figure.axes:
        handles, labels = panel.get_legend_handles_labels()
        known = dict(zip(labels, handles, strict=True)) | known
    figure.set_figheight(max(_SIZE[1], _LEGEND_LINE * (len(known) + 1)))
    figure.legend(known.values(), known, loc='outside right upper', frameon=False)
    buffer = io.StringIO()
    with mpl.rc_context({'svg.hashsalt': 'armor', 'svg.fonttype': 'none'}):
        figure.savefig(buffer, format='svg', metadata={'Date': None})
    # matplotlib leaves spaces at the ends of lines
    return '\n'.join(line.rstrip() for line in buffer.getvalue().splitlines()) + '\n'
