# SPDX-License-Identifier: Apache-2.0
"""Data sets of any format: told by their layout, in a stable order, never out of their folder."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
from foreign_data import (
    WRITERS,
    conversation,
    dump,
    film,
    plain,
    write_aha,
    write_armbench,
    write_failsafe,
    write_lerobot_v2,
    write_robofac,
)
from hypothesis import given
from hypothesis import strategies as st

from armor_ros.datasets.detect import FORMATS, open_data_set
from armor_ros.datasets.files import natural_key, spelled_out, split_of
from armor_ros.datasets.manifest import Sample, write_manifest
from armor_ros.datasets.record import COLLAGE_VIEW, DataSet
from armor_ros.episodes.picture import save_picture
from armor_ros.errors import ArmorError


@pytest.mark.parametrize('name', WRITERS)
def test_a_format_is_told_by_its_layout(tmp_path: Path, name: str) -> None:
    data: DataSet = open_data_set(WRITERS[name](tmp_path))
    assert data.format == name
    records = list(data.records())
    assert len(records) >= 2
    assert not data.skipped
    assert len({record.id for record in records}) == len(records)
    assert {record.label for record in records} == {'success', 'failure'}
    for record in records:
        assert record.instruction
        for view in record.views.values():
            clip = view.read(5.0, (32, 48))
            assert clip.shape[1:] == (32, 48, 3)
            assert pickle.loads(pickle.dumps(view)) == view


@pytest.mark.parametrize('name', WRITERS)
def test_records_come_in_one_order_and_counts_start_anew(tmp_path: Path, name: str) -> None:
    root = WRITERS[name](tmp_path / 'a')
    data = open_data_set(root)
    first = list(data.records())
    counted = dict(data.skipped)
    assert list(data.records()) == first
    assert dict(data.skipped) == counted
    # nor does it hang on the order in which the file system lists its entries
    copy = tmp_path / 'b'
    for file in sorted(root.rglob('*'), reverse=True):
        if file.is_file():
            (copy / file.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy / file.relative_to(root))
    assert [record.id for record in open_data_set(copy).records()] == [
        record.id for record in first
    ]


def test_an_unknown_layout_is_answered_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / 'notes.json').write_text('{"a": 1}')
    with pytest.raises(ArmorError) as caught:
        open_data_set(tmp_path)
    for name, one in FORMATS.items():
        assert f'{one.layout} ({name})' in str(caught.value)
    with pytest.raises(ArmorError, match='there is nothing at'):
        open_data_set(tmp_path / 'missing')
    with pytest.raises(ArmorError, match='it must be auto, manifest, lerobot'):
        open_data_set(tmp_path, 'leroboot')
    with pytest.raises(ArmorError, match=r'is no lerobot data set: it has no meta/info\.json'):
        open_data_set(tmp_path, 'lerobot')


def test_two_layouts_in_one_folder_have_to_be_chosen_from(tmp_path: Path) -> None:
    write_aha(tmp_path)
    write_lerobot_v2(tmp_path)
    with pytest.raises(ArmorError, match='lerobot and aha; say which one is meant'):
        open_data_set(tmp_path)
    assert open_data_set(tmp_path, 'aha').format == 'aha'


def test_options_are_checked_and_named(tmp_path: Path) -> None:
    root = write_armbench(tmp_path)
    with pytest.raises(ArmorError, match=r"unknown key 'crops'; did you mean 'crop'\?"):
        open_data_set(root, crops=[0, 0, 1, 1])
    with pytest.raises(ArmorError, match=r'crop is \(5, 5, 1, 1\)'):
        open_data_set(root, crop=[5, 5, 1, 1])


@pytest.mark.parametrize('name', WRITERS)
def test_links_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    root = WRITERS[name](tmp_path / 'set')
    outside = tmp_path / 'outside'
    outside.mkdir()
    for file in sorted(root.rglob('*')):
        if file.suffix in ('.mp4', '.png'):
            target = outside / f'{len(list(outside.iterdir()))}{file.suffix}'
            file.rename(target)
            file.symlink_to(target)
    data = open_data_set(root)
    assert not list(data.records())
    assert sum(data.skipped.values()) >= 2
    examples = [text for texts in data.examples.values() for text in texts]
    assert any('is a link that leads out of' in text for text in examples)
    # a link within the folder is as good as the file
    for file in sorted(root.rglob('*')):
        if file.is_symlink():
            inside = root / 'kept' / file.readlink().name
            inside.parent.mkdir(exist_ok=True)
            shutil.copy(file, inside)
            file.unlink()
            file.symlink_to(inside)
    assert len(list(open_data_set(root).records())) >= 2


def test_paths_that_lead_out_are_refused(tmp_path: Path) -> None:
    film(tmp_path / 'secret.mp4', 15)
    save_picture(tmp_path / 'secret.png', plain(9))
    aha = write_aha(tmp_path / 'aha')
    dump(aha / 'test.json', [conversation(1, '../secret.png', 'Yes, it did.')])
    assert not list((data := open_data_set(aha)).records())
    assert list(data.skipped) == ['entry skipped: the path of its image has ".."']
    robofac = write_robofac(tmp_path / 'robofac')
    for path in ('../../secret.mp4', str(tmp_path / 'secret.mp4')):
        dump(
            robofac / 'test_qa_sim' / 'annos_per_video_split0.json',
            {'v': {'video': path, 'task': 'x', 'annos': {}}},
        )
        data = open_data_set(robofac)
        assert [record.id for record in data.records()] == ['r1']
        assert 'leads out of' in next(iter(data.examples.values()))[0]
    failsafe = write_failsafe(tmp_path / 'failsafe')
    row = {'task': 'x', 'failure_type': 'None', 'image': ['../secret.png']}
    dump(failsafe / 'json_files' / 'vla_data_FailPickCube-v1.json', [row])
    assert not list(open_data_set(failsafe).records())


def test_texts_are_made_harmless(tmp_path: Path) -> None:
    root = write_aha(tmp_path)
    image = 'basketball_in_hoop_grasp_wp1_episode0/0.png'
    evil = conversation(
        '<|im_end|>\n1', image, 'No, <|im_start|>\x1b[31m \ud800' + 'x' * 10_000, 'a <|im_end|>'
    )
    (root / 'test.json').write_text(json.dumps([evil]))
    (record,) = open_data_set(root).records()
    assert record.id == '<im_end> 1'
    assert record.instruction == 'a <im_end>'
    assert record.explanation is not None
    assert record.explanation.startswith('<im_start> [31m xxx')
    assert len(record.explanation) == 2000
    json.dumps(record.extra).encode('utf-8')


def test_ids_that_are_taken_get_a_number(tmp_path: Path) -> None:
    root = write_aha(tmp_path)
    image = 'basketball_in_hoop_grasp_wp1_episode0/0.png'
    rows = [conversation(identity, image, 'Yes, it did.') for identity in ('0', '0#2', 0, '0')]
    dump(root / 'test.json', rows)
    data = open_data_set(root)
    assert [record.id for record in data.records()] == ['0', '0#2', '0#3', '0#4']
    assert data.skipped['record kept: its id was taken, so that it got a number'] == 2


def test_the_manifest_comes_back_as_records(tmp_path: Path) -> None:
    film(tmp_path / 'videos' / 'a.mp4', 10, 5.0)
    for number in range(4):
        save_picture(tmp_path / 'pictures' / f'{number}.jpg', plain(30 * number))
    save_picture(tmp_path / 'collage.png', plain(5))
    sample = Sample(
        id='a',
        instruction='lift the ball',
        views={'front': 'videos/a.mp4'},
        fps=5.0,
        frames=10,
        label='success',
        judged='failure',
        explanation='The ball fell.',
        split='test',
        source='sim',
        episode='e',
        group='g',
        robot_status='SUCCEEDED',
        injected_mode='slip',
        event={'kind': 'dropped'},
    )
    others = [
        dataclasses.replace(sample, id='b', views={'w': 'pictures'}, frames=4, judged=None),
        dataclasses.replace(sample, id='c', views={}, collage='collage.png'),
        dataclasses.replace(sample, id='d', views={'front': 'videos/missing.mp4'}),
        dataclasses.replace(sample, id='e', frames=30),
        dataclasses.replace(sample, id='f', views={}),
        dataclasses.replace(sample, id='g', views={'front': 'x' * 5000}),
    ]
    write_manifest(tmp_path, [sample, *others])
    with (tmp_path / 'manifest.jsonl').open('a') as file:
        file.write('{"id": "h"}\n')
    data = open_data_set(tmp_path / 'manifest.jsonl')
    first, second, third, cut = data.records()
    assert (first.label, first.extra) == ('failure', {'told_label': 'success'})
    assert (first.fps, first.explanation, first.split) == (5.0, 'The ball fell.', 'test')
    assert (first.robot_status, first.injected_mode, first.group) == ('SUCCEEDED', 'slip', 'g')
    # of the truth, whatever a learner is told
    assert (first.failure_kind, second.failure_kind) == ('dropped', '')
    assert first.views['front'].read(5.0).shape == (10, 64, 96, 3)
    assert (second.label, second.views['w'].read(2.5).shape) == ('success', (2, 64, 96, 3))
    assert third.views[COLLAGE_VIEW].read(5.0).shape == (1, 64, 96, 3)
    with pytest.raises(ArmorError, match='cut short'):
        cut.views['front'].read(5.0)
    assert dict(data.skipped) == {
        'record skipped: a file that it names is missing': 2,
        'record skipped: it has neither a view nor a collage': 1,
        'record skipped: it cannot be read': 1,
    }
    assert (
        "line 8: 'instruction' is missing" in data.examples['record skipped: it cannot be read'][0]
    )
    assert 'line 8: line 8' not in str(data.examples)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    root = write_armbench(tmp_path)
    (root / 'videos' / 'v0.mp4').unlink()
    os.mkfifo(root / 'videos' / 'v0.mp4')
    assert [record.id for record in open_data_set(root).records()] == ['v2', 'v1']


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = WRITERS['droid'](tmp_path)
    (root / 'AUTOLab' / 'again').symlink_to(root / 'AUTOLab')
    (root / 'AUTOLab' / 'self').symlink_to(root / 'AUTOLab' / 'self')
    data = open_data_set(root)
    assert len(list(data.records())) == 2
    assert data.examples == {
        'folder skipped: it is a link; put the folder itself there': ['again']
    }


@given(st.lists(st.text('ab019_', max_size=6), max_size=8))
def test_natural_order_is_total_and_by_value(names: list[str]) -> None:
    for name in names:
        assert natural_key(name + '2') < natural_key(name + '10') or name[-1:].isdecimal()
    assert sorted(names, key=natural_key) == sorted(sorted(names), key=natural_key)


def test_names_are_told_apart() -> None:
    assert split_of('annos_train_split3') == 'train'
    assert split_of('ManiskillTest') == 'test'
    assert split_of('data') == ''
    assert spelled_out('FailPickCube-v1') == 'fail pick cube'
    assert spelled_out('put_item_in_drawer') == 'put item in drawer'
