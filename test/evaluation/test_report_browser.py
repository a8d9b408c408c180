# SPDX-License-Identifier: Apache-2.0
"""report.html in a real browser, where there is one: its script runs, and texts stay texts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from some_lines import a_line, random_lines, write_lines
from test_report import HOSTILE, Page, save_evidence

from armor_ros.evaluation.report import write_report

_NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
BROWSER = next((path for name in _NAMES if (path := shutil.which(name))), None)


def rendered(page: Path, scratch: Path, width: int) -> tuple[str, str]:
    """Return the page's document after its script has run, and what the browser complained of."""
    assert BROWSER is not None
    options = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--dump-dom']
    options += [f'--user-data-dir={scratch / "profile"}', f'--window-size={width},900']
    options += ['--virtual-time-budget=4000', '--enable-logging=stderr', '--v=0']
    done = subprocess.run(
        [BROWSER, *options, page.as_uri()],
        capture_output=True,
        text=True,
        encoding='utf-8',
        timeout=120,
        check=True,
    )
    complaints = [line for line in done.stderr.splitlines() if 'CONSOLE' in line]
    return done.stdout, '\n'.join(complaints)


@pytest.mark.skipif(BROWSER is None, reason='there is no Chromium')
def test_the_script_shows_the_tasks_and_draws_the_charts(tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    lines = random_lines(40)
    for number, text in enumerate(HOSTILE):
        # certain and wrong: at the top
        wrong = {'instruction': text, 'explanation': text, 'source': text[:100]}
        lines.append(a_line(100 + number, 'success', 1.0, **wrong))
    lines[-1]['evidence'] = save_evidence(folder, 'a.jpg')
    write_lines(folder, lines)
    document, complaints = rendered(write_report(folder), tmp_path, 1400)
    assert complaints == ''
    page = Page(document)
    assert len([tag for tag, _ in page.tags if tag == 'article']) == 24
    assert '45 tasks' in page.text
    assert 'Show 21 more of 21' in page.text
    for text in (*HOSTILE[:2], HOSTILE[4]):
        # once as the task's name, once as what the model says
        assert sum(text in word for word in page.words) >= 2
    assert '<title>run – ARMOR evaluation</title>' in document
    charts = [tag for tag, attributes in page.tags if attributes.get('data-chart')]
    assert len(charts) == 5
    assert document.count('class="chart js-plotly-plot"') == 5
    sources = [attributes.get('src') for tag, attributes in page.tags if tag == 'img']
    assert [str(source)[:22] for source in sources if source] == ['data:image/jpeg;base64']
