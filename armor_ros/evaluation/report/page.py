# SPDX-License-Identifier: Apache-2.0
"""
From a run folder to report.html: one file that holds its pictures, its charts and their script.

It opens without a network and may not load anything: its content security policy says so. Texts
of a run are never markup: the template escapes, and the gallery's script sets text alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from armor_ros.errors import ArmorError
from armor_ros.evaluation.report.content import content
from armor_ros.evaluation.report.figures import charts
from armor_ros.evaluation.report.gallery import OUTCOMES, gallery
from armor_ros.evaluation.report.run import Run, read_run

REPORT = 'report.html'


def write_report(folder: Path) -> Path:
    """
    Write report.html of a run folder and return its path.

    Needs predictions.jsonl alone; what else is there (baselines, judgements, run.json, pictures)
    is shown too. Figures that are missing, or older than the predictions, are made first. Raises
    ArmorError when there are no predictions, or the page cannot be written.
    """
    path = folder / REPORT
    partial = path.with_name(f'.{path.name}.part')
    page = render(read_run(folder))
    try:
        # half a character, as a broken name has it, has no bytes of its own
        partial.write_text(page, encoding='utf-8', errors='replace')
        partial.replace(path)
    except OSError as error:
        raise ArmorError(
            f'cannot write {path}: {error.strerror or error}; choose another place or make room'
        ) from error
    return path


def render(run: Run) -> str:
    """Return the page of a run."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / 'templates'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies['json.dumps_kwargs'] = {
        'ensure_ascii': False,
        'separators': (',', ':'),
    }
    environment.filters.update(figure=format_figure, bounds=format_bounds, percent=_percent)
    drawn = charts(run.metrics, run.lines)
    return environment.get_template('report.html').render(
        **content(run),
        charts=drawn,
        gallery=gallery(run.folder, run.lines),
        outcomes=OUTCOMES,
        style=_asset('report.css'),
        script=_asset('report.js'),
        # nobody needs it where there is nothing to draw
        plotly=Markup(get_plotlyjs()) if drawn else '',
    )


def format_figure(figure: Mapping[str, Any], kind: str) -> str:
    """Return a figure's value as 'share' (91.2 %), 'number' (0.912) or 'seconds' (0.91 s)."""
    return '' if figure['value'] is None else _number(figure['value'], kind)


def format_bounds(figure: Mapping[str, Any], kind: str) -> str:
    """Return a figure's interval ('88.0 to 93.9 %'), '' where it has none."""
    low, high = figure.get('low'), figure.get('high')
    if low is None or high is None:
        return ''
    first = f'{100 * low:.1f}' if kind == 'share' else _number(low, kind)
    return f'{first} to {_number(high, kind)}'


def _number(value: float, kind: str) -> str:
    if kind == 'share':
        return f'{100 * value:.1f}\u00a0%'
    return f'{value:.2f}\u00a0s' if kind == 'seconds' else f'{value:.3f}'


def _percent(value: float | None) -> str:
    """Return a share for a style attribute."""
    return f'{100 * (value or 0.0):.2f}%'


def _asset(name: str) -> Markup:
    return Markup((Path(__file__).parent / 'templates' / name).read_text(encoding='utf-8'))
