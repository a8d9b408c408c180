# SPDX-License-Identifier: Apache-2.0
"""ARMBench's videos: labels, splits, crop, and explanations from beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foreign_data import film, write_armbench

from armor_ros.datasets.armbench import read_explanations
from armor_ros.datasets.detect import open_data_set
from armor_ros.datasets.video import write_video
from armor_ros.errors import ArmorError


def test_labels_and_splits(tmp_path: Path) -> None:
    records = {record.id: record for record in open_data_set(write_armbench(tmp_path)).records()}
    assert list(records) == ['v2', 'v0', 'v1']
    assert [records[f'v{n}'].label for n in range(3)] == ['success', 'failure', 'failure']
    assert [records[f'v{n}'].injected_mode for n in range(3)] == ['', 'open', 'deconstruction']
    assert [records[f'v{n}'].split for n in range(3)] == ['test', 'test', 'train']
    assert {record.instruction for record in records.values()} == {
        'transport an object from one bin to another'
    }
    assert records['v0'].fps == 5.0
    assert records['v0'].explanation is None
    assert records['v0'].views['camera'].read(5.0).shape == (6, 570, 750, 3)
    (whole, *_) = open_data_set(tmp_path, crop=None, instruction='move it').records()
    assert whole.instruction == 'move it'
    assert whole.views['camera'].read(5.0, (320, 320)).shape == (6, 320, 320, 3)


def test_the_crop_is_that_of_the_data_sets_own_code(tmp_path: Path) -> None:
    root = write_armbench(tmp_path)
    frames = np.zeros((3, 720, 960, 3), np.uint8)
    frames[:, 80:650, 100:850] = 240
    write_video(root / 'videos' / 'v0.mp4', frames, 5.0)
    view = {record.id: record for record in open_data_set(root).records()}['v0'].views['camera']
    assert view.read(5.0).mean() > 235


def test_a_video_too_small_for_the_crop_says_so(tmp_path: Path) -> None:
    root = write_armbench(tmp_path)
    film(root / 'videos' / 'v0.mp4', 6)
    records = {record.id: record for record in open_data_set(root).records()}
    with pytest.raises(ArmorError, match=r'crop is \(100, 80, 850, 650\).*96 x 64.*left out'):
        records['v0'].views['camera'].read(5.0)


@pytest.mark.parametrize('header', ['id,explanation\n', ''])
def test_explanations_come_from_beside(tmp_path: Path, header: str) -> None:
    root = write_armbench(tmp_path)
    text = header + 'v1,"The box opened, and ""all"" fell out."\nv9,never\n\nv2,\n'
    (root / 'explanations.csv').write_text(text)
    data = open_data_set(root)
    found = {record.id: record.explanation for record in data.records()}
    assert found == {'v0': None, 'v1': 'The box opened, and "all" fell out.', 'v2': None}
    assert dict(data.skipped) == {'explanation unused: no video has its id': 1}
    assert data.examples['explanation unused: no video has its id'] == ['v9']
    elsewhere = tmp_path / 'mine.csv'
    elsewhere.write_text('v0,Nothing is damaged.\n')
    data = open_data_set(root, explanations=str(elsewhere))
    assert next(r for r in data.records() if r.id == 'v0').explanation == 'Nothing is damaged.'


def test_broken_explanations_are_named(tmp_path: Path) -> None:
    file = tmp_path / 'x.csv'
    file.write_text('a,b\na,c\n')
    with pytest.raises(ArmorError, match=r"x\.csv, row 2: the id 'a' comes twice"):
        read_explanations(file)
    file.write_text('a\n')
    with pytest.raises(ArmorError, match='row 1: it needs two columns'):
        read_explanations(file)
    file.write_bytes(b'a,\xff\xfe\n')
    with pytest.raises(ArmorError, match=r'cannot read .*x\.csv'):
        read_explanations(file)
    with pytest.raises(ArmorError, match='cannot read'):
        read_explanations(tmp_path / 'missing.csv')


def test_odd_annotations_are_counted(tmp_path: Path) -> None:
    root = write_armbench(tmp_path)
    annotations = root / 'annotations'
    (annotations / 'v1.json').write_text('{"id": "v1", "label": "wet"}')
    (annotations / 'v2.json').write_text('[1, 2]')
    (annotations / 'v10.json').write_text('{"id": "v10", "label": "nominal"}')
    (annotations / 'v9.json').write_text('{broken')
    (annotations / 'v8.json').write_text('{"id": "../v0", "label": "nominal"}')
    (annotations / 'v7.json').write_text('{"id": "v0", "label": " Open "}')
    (root / 'test.csv').write_text('v0,nominal\nv5\n')
    film(root / 'videos' / 'v6.mp4', 6)
    data = open_data_set(root)
    assert [(record.id, record.label) for record in data.records()] == [
        ('v0', 'success'),
        ('v0#2', 'failure'),
    ]
    assert dict(data.skipped) == {
        'video skipped: its label is none of nominal, open and deconstruction': 1,
        'video skipped: its annotation is not an object': 1,
        'video skipped: it is annotated but not there': 1,
        'video skipped: it has no annotation': 1,
        'record skipped: it cannot be read': 2,
        'record kept: its id was taken, so that it got a number': 1,
    }
    assert any(
        'leads out of' in text for text in data.examples['record skipped: it cannot be read']
    )


def test_a_broken_video_is_counted(tmp_path: Path) -> None:
    root = write_armbench(tmp_path)
    (root / 'videos' / 'v0.mp4').write_bytes(b'nothing')
    data = open_data_set(root)
    assert [record.id for record in data.records()] == ['v2', 'v1']
    assert 'cannot read the video' in data.examples['record skipped: it cannot be read'][0]
