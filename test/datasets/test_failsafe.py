# SPDX-License-Identifier: Apache-2.0
"""FailSafe's rows of sub-tasks and folders of attempts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from foreign_data import dump, greys, plain, write_failsafe

from armor_ros.datasets.detect import open_data_set
from armor_ros.episodes.picture import save_picture
from armor_ros.errors import ArmorError

ROWS = 'json_files/vla_data_FailPickCube-v1.json'


def test_a_row_is_a_record(tmp_path: Path) -> None:
    failure, success = open_data_set(write_failsafe(tmp_path)).records()
    assert failure.id == 'vla_data_FailPickCube-v1_0'
    assert (failure.label, failure.injected_mode) == ('failure', 'trans_x')
    assert (failure.instruction, success.instruction) == ('reach the cube', 'Pick up the red cube')
    assert (success.label, success.injected_mode) == ('success', '')
    assert failure.episode == 'FailPickCube-v1/0/1_trans_x_2'
    assert failure.group == 'FailPickCube-v1/0'
    assert list(failure.views) == ['front', 'wrist']
    # a row's pictures are a choice already
    assert greys(failure.views['front'].read(5.0)) == [20, 40, 60]
    assert failure.fps == 0.0


def test_an_attempt_is_a_record(tmp_path: Path) -> None:
    root = write_failsafe(tmp_path, rows=False)
    success, failure = open_data_set(root).records()
    assert (success.id, success.label) == ('FailPickCube-v1/0/Ground_Truth', 'success')
    assert (failure.id, failure.label) == ('FailPickCube-v1/0/1_trans_x_2', 'failure')
    assert failure.injected_mode == 'trans_x'
    assert {success.instruction, failure.instruction} == {'pick up the red cube'}
    assert success.group == failure.group == 'FailPickCube-v1/0'
    assert greys(success.views['wrist'].read(5.0)) == [0, 40, 80]
    every = next(iter(open_data_set(root, fps=0).records()))
    assert len(every.views['wrist'].read(5.0)) == 12


def test_rows_or_attempts_can_be_chosen(tmp_path: Path) -> None:
    root = write_failsafe(tmp_path)
    ids = [record.id for record in open_data_set(root, records='attempts').records()]
    assert ids == ['FailPickCube-v1/0/Ground_Truth', 'FailPickCube-v1/0/1_trans_x_2']
    (root / ROWS).unlink()
    with pytest.raises(ArmorError, match=r'has no vla_data_\*\.json; use records: attempts'):
        open_data_set(root, records='rows')
    with pytest.raises(ArmorError, match='fps is -1'):
        open_data_set(root, fps=-1)
    with pytest.raises(ArmorError, match='records is'):
        open_data_set(root, records='both')


def test_odd_rows_are_counted(tmp_path: Path) -> None:
    root = write_failsafe(tmp_path)
    good, _ = json.loads((root / ROWS).read_text())
    rows = [
        good,
        good | {'image': 'FailPickCube-v1/0/Ground_Truth/front/3.png', 'failure_type': None},
        'text',
        {'image': []},
        good | {'image': []},
        good | {'image': [3]},
        good | {'image': [*good['image'], 'FailPickCube-v1/0/1_trans_x_2/front/99.png']},
        good | {'image': [ROWS]},
        good | {'instruction': None, 'sub_task': None, 'task': 'FailOpenDrawer-v1'},
    ]
    dump(root / ROWS, rows)
    data = open_data_set(root)
    records = list(data.records())
    assert [record.label for record in records] == ['failure', 'success', 'failure']
    assert records[2].instruction == 'fail open drawer'
    assert dict(data.skipped) == {
        'row skipped: it has no failure_type': 2,
        'row skipped: it lists no pictures': 2,
        'row skipped: one of its pictures is missing': 2,
    }


def test_odd_folders_are_counted(tmp_path: Path) -> None:
    root = write_failsafe(tmp_path, rows=False)
    (root / 'FailPickCube-v1' / '0' / '2_no_ops_1' / 'front').mkdir(parents=True)
    (root / 'FailPickCube-v1' / '0' / 'notes').mkdir()
    seed = root / 'FailPickCube-v1' / '10'
    save_picture(seed / '3_rot_z_1' / 'front' / '0.png', plain(3))
    data = open_data_set(root)
    assert [record.id for record in data.records()] == [
        'FailPickCube-v1/0/Ground_Truth',
        'FailPickCube-v1/0/1_trans_x_2',
        'FailPickCube-v1/10/3_rot_z_1',
    ]
    assert dict(data.skipped) == {'attempt skipped: it has no pictures': 2}
    assert data.examples['attempt skipped: it has no pictures'] == [
        'FailPickCube-v1/0/2_no_ops_1',
        'FailPickCube-v1/0/notes',
    ]
