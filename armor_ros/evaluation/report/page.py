# SPDX-License-Identifier: Apache-2.0
"""
From a run folder to report.html: one file that holds its pictures, its charts and their script.

It opens without a network and may not load anything: its content security policy says so. Texts
of a run are never markup: the template escapes, and the gallery's script sets text alone.
"""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from armor_ros.errors import ArmorError
from armor_ros.evaluation.report.content import content
from armor_ros.evaluation.report.figures import charts
from armor_ros.evaluation.report.gallery import OUTCOMES, gallery
from armor_ros.evaluation.report.numbers import css_percent, format_bounds, format_figure
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
    environment.filters.update(figure=format_figure, bounds=format_bounds, percent=css_percent)
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


def _asset(name: str) -> Markup:
    return Markup((Path(__file__).parent / 'templates' / name).read_text(encoding='utf-8'))
