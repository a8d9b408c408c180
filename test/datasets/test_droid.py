# SPDX-License-Identifier: Apache-2.0
"""DROID's raw attempts: outcome, cameras, instructions from beside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from foreign_data import dump, film, write_droid

from armor_ros.datasets.detect import open_data_set
from armor_ros.errors import ArmorError


def attempts(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.rglob('metadata_*.json'))


def change(attempt: Path, **values: object) -> None:
    file = next(attempt.glob('metadata_*.json'))
    metadata = json.loads(file.read_text()) | values
    file.write_text(json.dumps({k: v for k, v in metadata.items() if v is not None}))


def test_an_attempt_is_a_record(tmp_path: Path) -> None:
    failure, success = open_data_set(write_droid(tmp_path)).records()
    assert (failure.id, failure.label) == ('AUTOLab+x+2023-07-09', 'failure')
    assert (success.id, success.label) == ('AUTOLab+x+2023-07-08', 'success')
    assert success.instruction == 'Move the cup'
    assert (success.fps, success.group, success.source) == (15.0, 'AUTOLab', 'droid')
    assert list(success.views) == ['wrist', 'ext1', 'ext2']
    assert success.views['wrist'].read(5.0).shape == (5, 64, 96, 3)


def test_any_folder_of_it_will_do(tmp_path: Path) -> None:
    root = write_droid(tmp_path)
    for part, count in (('AUTOLab', 2), ('AUTOLab/success', 1), ('AUTOLab/success/2023-07-08', 1)):
        assert len(list(open_data_set(root / part).records())) == count
    (record,) = open_data_set(attempts(root)[1]).records()
    assert record.label == 'success'


def test_instructions_come_from_beside(tmp_path: Path) -> None:
    root = write_droid(tmp_path)
    texts = {'AUTOLab+x+2023-07-08': {'language_instruction1': '', 'language_instruction2': 'Go'}}
    dump(root / 'aggregated-annotations-030724.json', texts)
    failure, success = open_data_set(root).records()
    assert (failure.instruction, success.instruction) == ('Move the cup', 'Go')
    texts['AUTOLab+x+2023-07-09'] = {'language_instruction1': 'Stop'}
    other = dump(tmp_path / 'other.json', texts)
    failure, _ = open_data_set(root, annotations=str(other)).records()
    assert failure.instruction == 'Stop'
    other.write_text('[]')
    with pytest.raises(ArmorError, match='is not an object of instructions by uuid'):
        list(open_data_set(root, annotations=str(other)).records())


def test_odd_attempts_are_counted(tmp_path: Path) -> None:
    root = write_droid(tmp_path)
    template = attempts(root)[0]
    for day in range(10, 17):
        shutil.copytree(template, root / 'AUTOLab' / 'failure' / f'2023-07-{day}' / 'x')
    odd = [root / 'AUTOLab' / 'failure' / f'2023-07-{day}' / 'x' for day in range(10, 17)]
    next(odd[0].glob('metadata_*')).unlink()
    next(odd[1].glob('metadata_*')).write_text('{')
    next(odd[2].glob('metadata_*')).write_text('5')
    shutil.rmtree(odd[3] / 'recordings')
    change(odd[4], success=True)
    change(odd[5], success=None, current_task=None, uuid=None, wrist_mp4_path=None)
    change(odd[6], wrist_mp4_path='x/44.mp4', ext1_mp4_path='../../../secret.mp4')
    film(odd[6].parent / 'secret.mp4', 15)
    data = open_data_set(root)
    records = list(data.records())
    assert [(record.id, record.label) for record in records] == [
        ('AUTOLab+x+2023-07-09', 'failure'),
        ('AUTOLab+x+2023-07-09#2', 'success'),
        ('AUTOLab/failure/2023-07-15/x', 'failure'),
        ('AUTOLab+x+2023-07-09#3', 'failure'),
        ('AUTOLab+x+2023-07-08', 'success'),
    ]
    assert [len(record.views) for record in records] == [3, 3, 3, 1, 3]
    assert dict(data.skipped) == {
        'attempt skipped: it has no metadata, so it is incomplete': 1,
        'attempt skipped: its metadata is not an object': 1,
        'record skipped: it cannot be read': 1,
        'attempt skipped: it has no video in recordings/MP4': 1,
        'attempt kept: its metadata and its folder disagree on success': 1,
        'attempt kept: it names no task, so it has no instruction': 1,
        'record kept: its id was taken, so that it got a number': 2,
        'view wrist skipped: its video is missing': 2,
        'view ext1 skipped: its video is missing': 2,
        'view ext2 skipped: its video is missing': 1,
    }
