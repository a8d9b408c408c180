# SPDX-License-Identifier: Apache-2.0
"""The gallery: one page that shows every sample, holds all it needs, and trusts no text."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from armor_ros.datasets.manifest import Sample, write_manifest
from armor_ros.errors import ArmorError
from armor_ros.simulation.gallery import contact_sheet, select, write_gallery

VOID = {'meta', 'input', 'img', 'br', 'link'}


class Page(HTMLParser):
    """Collects the elements of a page, and complains about any that is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ('script', 'style'):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def sample(number: int, root: Path, **changes) -> Sample:
    views = {'overhead': (0, 0, 255), 'front': (255, 0, 0)}
    for view, color in views.items():
        folder = root / 'frames' / f'e{number}' / view
        folder.mkdir(parents=True, exist_ok=True)
        for frame in range(10):
            picture = np.full((20, 20, 3), color, np.uint8)[:, :, ::-1]
            cv2.imwrite(str(folder / f'{frame}.png'), picture)
    made = Sample(
        id=f's{number}',
        instruction='lift the can',
        views={view: f'frames/e{number}/{view}' for view in views},
        fps=5.0,
        frames=10,
        label='failure',
        task='lift',
        explanation='The robot drops the can.',
        split='train',
        episode=f'e{number}',
        judged='failure',
        robot_status='ABORTED',
        injected_mode='slip',
        seed=7,
        event={'kind': 'dropped', 'item': 'blue can', 'place': 'table', 'time_ns': 1_250_000_000},
    )
    return replace(made, **changes)


def gallery(root: Path, samples: list[Sample], **options) -> str:
    write_manifest(root, samples)
    return write_gallery(root, **options).read_text(encoding='utf-8')


def test_a_sample_is_shown_with_all_that_is_known_of_it(tmp_path):
    text = gallery(tmp_path, [sample(0, tmp_path)])
    page = Page(text)
    words = ' '.join(page.words)
    for fact in ('lift the can', 'failure', 'The robot drops the can.', 'disturbed: slip'):
        assert fact in words
    assert 'cause: dropped, blue can, at table, 1.2 s' in words
    assert 'robot: ABORTED' in words
    assert '1 samples of 1 recordings: 0 successes, 1 failures, 1 with an explanation' in words
    (section,) = page.all('section')
    assert section['data-label'] == 'failure'
    assert section['data-mode'] == 'slip'
    assert section['data-odd'] == 'no'


def test_pictures_are_views_by_time_and_lie_in_the_page(tmp_path):
    page = Page(gallery(tmp_path, [sample(0, tmp_path)]))
    (image,) = page.all('img')
    head, data = image['src'].split(',')
    assert head == 'data:image/jpeg;base64'
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (258, 1038, 3)
    assert picture[64, 500].argmax() == 2  # front, red, is above
    assert picture[190, 500].argmax() == 0  # overhead, blue, below
    assert '1.0 s' in page.words
    # 10 frames at 5 FPS in 8 columns: 0.0 0.2 0.6 0.8 1.0 1.2 1.6 1.8 s; the cause is at 1.25 s
    marked = [n for n, span in enumerate(page.all('span')) if span.get('class') == 'cause']
    assert marked == [2 + 5]  # after the names of two views


def test_the_page_loads_nothing(tmp_path):
    text = gallery(tmp_path, [sample(0, tmp_path)])
    page = Page(text)
    for _, attributes in page.elements:
        for name, value in attributes.items():
            if name in ('src', 'href', 'action', 'srcset', 'data'):
                assert value.startswith('data:image/jpeg;base64,')
    assert not re.search(r'https?://|url\(|@import|fetch\(|XMLHttp', text)
    assert "default-src 'none'" in page.all('meta')[1]['content']


def test_texts_are_escaped_and_no_place_to_fill_in(tmp_path):
    nasty = '"><script>alert(1)</script>@cards@ &amp; \'x'
    text = gallery(
        tmp_path,
        [
            sample(
                0,
                tmp_path,
                instruction=nasty,
                explanation=nasty,
                task=nasty,
                injected_mode=nasty,
                split=nasty,
                robot_status=nasty,
                event={'kind': nasty, 'item': nasty, 'place': nasty, 'time_ns': 0},
            )
        ],
    )
    page = Page(text)
    assert len(page.all('script')) == 1
    assert len(page.all('article')) == 1
    assert page.all('section')[0]['data-task'] == nasty
    assert nasty in page.words


def test_twins_stand_under_the_pictures_that_they_share(tmp_path):
    one = sample(0, tmp_path)
    twin = replace(
        one, id='s0-twin', instruction='lift the box', label='success', judged='success'
    )
    page = Page(gallery(tmp_path, [one, twin]))
    assert len(page.all('img')) == len(page.all('article')) == 1
    assert [s['data-label'] for s in page.all('section')] == ['failure', 'success']


def test_wrong_labels_and_wrong_words_of_the_robot_are_marked(tmp_path):
    noisy = sample(0, tmp_path, label='success', robot_status='SUCCEEDED', explanation=None)
    page = Page(gallery(tmp_path, [noisy, sample(1, tmp_path)]))
    assert 'label noise: really a failure' in page.words
    assert 'sparse: no explanation' in page.words
    assert [s['data-odd'] for s in page.all('section')] == ['yes', 'no']
    assert [s.get('class') for s in page.all('span')].count('wrong') == 1


def test_of_many_recordings_every_kind_is_shown(tmp_path):
    kinds = ['slip'] * 7 + ['drop'] * 2 + ['nominal']
    recordings = [[sample(n, tmp_path, injected_mode=kind)] for n, kind in enumerate(kinds)]
    chosen = select(recordings, 5)
    assert [r[0].injected_mode for r in chosen] == ['slip', 'slip', 'drop', 'drop', 'nominal']
    assert select(recordings, 50) == recordings
    page = Page(gallery(tmp_path, [r[0] for r in recordings], most=3))
    assert len(page.all('article')) == 3
    assert any('3 recordings are shown here' in word for word in page.words)


def test_contact_sheet_keeps_steps_and_views_apart():
    red, blue = (np.zeros((3, 8, 8, 3), np.uint8) for _ in range(2))
    red[..., 0] = [[[0]], [[100]], [[200]]]
    blue[..., 2] = 255
    sheet = contact_sheet([red, blue], [0, 2])
    assert sheet.shape == (258, 258, 3)
    assert sheet[10, 10].tolist() == [0, 0, 0]
    assert sheet[10, 200].tolist() == [200, 0, 0]
    assert sheet[200, 10].tolist() == [0, 0, 255]
    assert sheet[128, 128].tolist() == [255, 255, 255]


@pytest.mark.parametrize(('samples', 'most', 'words'), [(0, 9, 'no samples'), (1, 0, 'give 1')])
def test_mistakes_are_named(tmp_path, samples, most, words):
    write_manifest(tmp_path, [sample(0, tmp_path)][:samples])
    with pytest.raises(ArmorError, match=words):
        write_gallery(tmp_path, most=most)
