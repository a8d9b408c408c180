# SPDX-License-Identifier: Apache-2.0
"""report.html: what stands in it, that it needs nothing else, and that texts stay texts."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from some_lines import a_line, a_round, of_baseline, random_lines, unknown, write_lines
from typer.testing import CliRunner

from armor_ros.cli import app
from armor_ros.errors import ArmorError
from armor_ros.evaluation.report import pictures, write_report
from armor_ros.evaluation.report.content import tiles
from armor_ros.evaluation.report.numbers import format_bounds, format_figure
from armor_ros.evaluation.score import read_metrics, write_metrics

HOSTILE = (
    '<script>alert(1)</script><img src=x onerror=alert(2)> &amp; "quoted" \'too\'',
    '</script><!--<script>document.title="owned"</script>',
    'W' * 480,
    'التقط العلبة \u202egnp.exe 🤖🦾 汉字 \u2028 \x07\x00',
    '{{ 7191 * 7193 }} {% for x in y %} ${7191*7193} %{x}',
)
VOID = {'meta', 'img', 'input', 'br', 'link'}


class Page(HTMLParser):
    """The tags of a page, its visible text, and its blocks of data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.data: dict[str, Any] = {}
        self._inside: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self._inside

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._inside.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tag, attributes = self._inside[-1] if self._inside else ('', {})
        if tag == 'script' and attributes.get('type') == 'application/json':
            self.data[str(attributes['id'])] = json.loads(data)
        elif tag not in ('script', 'style'):
            self.words.append(data)

    @property
    def text(self) -> str:
        return ' '.join(' '.join(self.words).split())

    @property
    def tasks(self) -> list[dict[str, Any]]:
        return list(self.data['gallery']['tasks'])


def read_page(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding='utf-8'))


def save_evidence(folder: Path, name: str, size: tuple[int, int] = (504, 1344)) -> str:
    rng = np.random.default_rng(len(name))
    pixels = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    (folder / 'evidence').mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / 'evidence' / name), pixels)
    return f'evidence/{name}'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run with two baselines, one of which gives texts that cannot be read."""
    folder = tmp_path / 'kitchen run'
    lines = random_lines(60)
    for number, line in enumerate(lines):
        line.update(split=('test', 'train')[number % 2], task_kind=('pick', 'stack')[number % 2])
    write_lines(folder, lines)
    for name, said in (('always-failure', True), ('mumbling', None)):
        answers = [
            of_baseline(number, line['label'], said, model={'model_id': name})
            for number, line in enumerate(lines)
        ]
        write_lines(folder / 'baselines' / name, answers)
    return folder


def test_the_page_holds_everything_and_may_load_nothing(run: Path) -> None:
    page = read_page(run)
    policies = [
        attributes['content']
        for tag, attributes in page.tags
        if tag == 'meta' and attributes.get('http-equiv') == 'Content-Security-Policy'
    ]
    assert policies == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    ]
    for tag, attributes in page.tags:
        assert tag not in ('link', 'iframe', 'object', 'embed', 'base')
        assert 'src' not in attributes
        assert (attributes.get('href') or '#').startswith('#')
        assert not [name for name in attributes if name.startswith('on')]
    text = (run / 'report.html').read_text(encoding='utf-8')
    style = text[text.index('<style>') : text.index('</style>')]
    assert 'url(' not in style
    assert '@import' not in style
    # plotly, once
    assert len(re.findall(r'plotly\.js v\d', text)) == 1


def test_links_lead_to_places_that_there_are(run: Path) -> None:
    page = read_page(run)
    identities = {attributes.get('id') for _, attributes in page.tags}
    targets = [attributes['href'] for tag, attributes in page.tags if tag == 'a']
    assert len(targets) > 5
    assert {str(target)[1:] for target in targets} <= identities


def test_the_headline_has_the_figures_of_the_metrics(run: Path) -> None:
    page = read_page(run)
    metrics = read_metrics(run)
    for tile in tiles(metrics):
        assert tile['title'] in page.text
        assert format_figure(tile['figure'], tile['kind']) in ' '.join(page.words)
        assert f'n {tile["figure"]["n"]}' in page.text
    accuracy = metrics['detection']['accuracy']
    low, high = (f'{100 * accuracy[end]:.1f}' for end in ('low', 'high'))
    assert format_bounds(accuracy, 'share') == f'{low} to {high}\N{NO-BREAK SPACE}%'
    assert format_bounds(accuracy, 'share') in ' '.join(page.words)
    assert '60 by the data set' in page.text


def test_the_table_has_the_model_and_its_baselines(run: Path) -> None:
    text = read_page(run).text
    assert text.index('always-failure') < text.index('mumbling')
    assert '60 answers could not be read' in text
    assert 'Every row is of the same number of tasks.' in text


def test_what_was_not_measured_says_why(tmp_path: Path) -> None:
    write_lines(tmp_path / 'run', [a_line(0, None), unknown(1, None)])
    page = read_page(tmp_path / 'run')
    assert 'No task has a label: there is nothing to be right or wrong about.' in page.text
    assert '1 of 2 tasks got no answer (1 NO_FRAMES)' in page.text
    assert 'not measured there is no such task' in page.text
    assert 'Not measured: no labelled task has a probability.' in page.text
    assert 'Not measured: no labelled task was answered in more than one round.' in page.text
    assert set(page.data['charts']) == {'latency'}
    assert page.data['gallery']['pictures'] == []


def test_a_page_without_charts_has_no_library(tmp_path: Path) -> None:
    write_lines(tmp_path / 'run', [of_baseline(0, 'failure', True, timing={})])
    path = write_report(tmp_path / 'run')
    assert path.stat().st_size < 100_000
    Page(path.read_text(encoding='utf-8'))


def test_weak_labels_and_untrained_models_are_named_first(tmp_path: Path) -> None:
    model = {'model_id': 'm', 'trained': False}
    weak = {'label_weak': True, 'label_source': 'status', 'model': model}
    write_lines(tmp_path / 'run', [a_line(number, **weak) for number in range(3)])
    text = read_page(tmp_path / 'run').text
    assert 'This model was never trained: its verdicts mean nothing.' in text
    assert "The only labels are the robot's own word" in text
    assert "3 by the robot's own word (an action's status)" in text
    assert text.index('never trained') < text.index('Summary')


@pytest.mark.parametrize(
    ('value', 'kind', 'text'),
    [
        (0.9126, 'share', '91.3 %'),
        (0.9126, 'number', '0.913'),
        (12.345, 'seconds', '12.35 s'),
        (0.00912, 'seconds', '9.1 ms'),
        (None, 'share', ''),
    ],
)
def test_figures_are_written_for_people(value: float | None, kind: str, text: str) -> None:
    figure = {'value': value, 'low': None, 'high': None}
    assert format_figure(figure, kind).replace('\N{NO-BREAK SPACE}', ' ') == text
    assert format_bounds(figure, kind) == ''


def test_contradictions_of_the_robot_are_told(tmp_path: Path) -> None:
    right = [a_line(number, 'failure', 0.9) for number in range(3)]
    wrong = [a_line(3, 'success', 0.9), a_line(4, None, 0.1, task_status='ABORTED')]
    page = read_page(write_lines(tmp_path / 'run', [*right, *wrong]))
    assert (
        '4 times the robot reported success and the video shows a failure; 1 time it' in page.text
    )
    assert 'Where a label can tell, the video was right in 75.0 %' in page.text
    agreeing = [a_line(0, 'success', 0.1)]
    text = read_page(write_lines(tmp_path / 'agreeing', agreeing)).text
    assert 'No verdict contradicts the robot.' in text
    silent = [a_line(0, 'success', 0.1, task_status='UNKNOWN')]
    text = read_page(write_lines(tmp_path / 'silent', silent)).text
    assert 'no task has both the robot’s word and a verdict' in text


def test_charts_show_the_figures_of_the_metrics(run: Path) -> None:
    charts = read_page(run).data['charts']
    metrics = read_metrics(run)
    bins = metrics['doubt']['reliability']
    measured = charts['reliability']['data'][1]
    assert measured['x'] == [entry['mean_probability'] for entry in bins]
    assert measured['y'] == [entry['fraction_failed'] for entry in bins]
    highs = [y + up for y, up in zip(measured['y'], measured['error_y']['array'], strict=True)]
    assert highs == pytest.approx([entry['fraction_high'] for entry in bins])
    curve = metrics['doubt']['risk_coverage']
    assert charts['risk']['data'][0]['y'] == curve['risk']
    accuracy, rouge = charts['scores']['data']
    assert accuracy['y'] == [entry['accuracy']['value'] for entry in metrics['rounds']]
    assert rouge['y'] == [entry['rouge_l']['value'] for entry in metrics['rounds']]
    entropies = {trace['name']: trace['y'] for trace in charts['entropies']['data']}
    assert entropies['combined'] == [e['combined_entropy']['value'] for e in metrics['rounds']]
    assert sum(charts['latency']['data'][0]['y']) == 60


def test_texts_of_a_run_are_never_markup(tmp_path: Path) -> None:
    folder = tmp_path / '<b>run & co'
    lines = []
    for number, text in enumerate(HOSTILE):
        answers = [a_round(0, 0.6, text), a_round(1, 0.9, text)]
        lines.append(
            a_line(
                number,
                trace=answers,
                source=text[:200],
                sample_id=text,
                task_kind=text,
                split=text,
                injected_mode=text,
                instruction=text,
                task_status_message=text,
                label_explanation=text,
                model={'model_id': text[:70]},
            )
        )
    write_lines(folder, lines)
    (folder / 'run.json').write_text(
        json.dumps({'checkpoint': HOSTILE[0], 'host': {HOSTILE[1]: HOSTILE[0]}})
    )
    page = read_page(folder)
    plain = read_page(write_lines(tmp_path / 'plain', [a_line(0), a_line(1)]))
    scripts = [tag for tag, _ in page.tags if tag == 'script']
    assert len(scripts) == len([tag for tag, _ in plain.tags if tag == 'script'])
    assert [attributes for tag, attributes in page.tags if tag == 'img'] == [
        {'id': 'viewer-picture', 'alt': ''}
    ]
    assert {task['instruction'] for task in page.tasks} == set(HOSTILE)
    assert {task['explanation'] for task in page.tasks} == set(HOSTILE)
    assert {task['rounds'][0]['text'] for task in page.tasks} == set(HOSTILE)
    assert '<b>run & co' in page.text
    assert str(7191 * 7193) not in page.text


def test_half_characters_do_not_stop_the_page(tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    write_lines(folder, [a_line(0)])
    text = (folder / 'predictions.jsonl').read_text().replace('move the can', r'move \ud83d it')
    (folder / 'predictions.jsonl').write_text(text)
    (task,) = read_page(folder).tasks
    assert task['instruction'] == 'move ? it'


def test_pictures_are_in_the_page_as_many_as_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'run'
    lines = [
        a_line(number, probability=0.5 + number / 100, label='success') for number in range(8)
    ]
    for number, line in enumerate(lines):
        line['evidence'] = save_evidence(folder, f'{number}.jpg')
    write_lines(folder, lines)
    page = read_page(folder)
    assert '8 of 8 pictures of the evidence are in this page' in page.text
    one = max(len(uri) for uri in page.data['gallery']['pictures']) * 3 // 4
    monkeypatch.setattr(pictures, 'BUDGET', 3 * one + one // 2)
    page = read_page(folder)
    assert '3 of 8 pictures of the evidence are in this page' in page.text
    with_picture = [task['number'] for task in page.tasks if 'picture' in task]
    # the most confident of the wrong ones
    assert with_picture == [7, 6, 5]
    assert all(task['file'] == f'evidence/{task["number"]}.jpg' for task in page.tasks)
    assert page.data['gallery']['pictures'][0].startswith('data:image/jpeg;base64,')


def test_pictures_outside_the_run_or_broken_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    secret = tmp_path / 'secret.jpg'
    save_evidence(folder, 'good.jpg')
    secret.write_bytes((folder / 'evidence' / 'good.jpg').read_bytes())
    (folder / 'evidence' / 'link.jpg').symlink_to(secret)
    (folder / 'evidence' / 'broken.jpg').write_bytes(b'\xff\xd8 no picture')
    names = ['../secret.jpg', str(secret), 'evidence/link.jpg', 'javascript:alert(1)', '.']
    names += ['evidence/absent.jpg', 'a\0b', 'evidence/broken.jpg', 'evidence/good.jpg']
    lines = [a_line(number, evidence=name) for number, name in enumerate(names)]
    write_lines(folder, lines)
    page = read_page(folder)
    found = {names[task['number']]: ('picture' in task, 'file' in task) for task in page.tasks}
    assert found.pop('evidence/good.jpg') == (True, True)
    assert found.pop('evidence/broken.jpg') == (False, True)
    assert set(found.values()) == {(False, False)}
    assert len(page.data['gallery']['pictures']) == 1


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_figures_older_than_the_predictions_are_made_anew(run: Path) -> None:
    write_metrics(run)
    write_lines(run, [a_line(0), a_line(1, 'success')])
    old = (run / 'predictions.jsonl').stat().st_mtime_ns - 10**9
    os.utime(run / 'metrics.json', ns=(old, old))
    text = read_page(run).text
    assert 'on 2 tasks of 1 source.' in text
    assert 'Mind n: the rows are not of the same number of tasks.' in text
    assert read_metrics(run)['counts']['tasks'] == 2


def test_the_command_says_where_the_page_is(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ['report', str(run)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(run / 'report.html')
    with pytest.raises(ArmorError, match=r'holds no predictions\.jsonl'):
        write_report(tmp_path)
