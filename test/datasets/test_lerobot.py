# SPDX-License-Identifier: Apache-2.0
"""LeRobot's versions 2 and 3: episodes, their part of a video, and where success is told."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from foreign_data import (
    FEATURE_VIDEO,
    dump,
    encoded,
    greys,
    lerobot_frames,
    lerobot_info,
    write_lerobot_v2,
    write_lerobot_v3,
    write_table,
)

from armor_ros.datasets.detect import open_data_set
from armor_ros.datasets.lerobot_layout import expand
from armor_ros.errors import ArmorError

EPISODES = 'meta/episodes/chunk-000/file-000.parquet'
FRAMES = 'data/chunk-000/file-000.parquet'


def columns(path: Path) -> dict:
    return pq.read_table(path).to_pydict()


def labels(root: Path, **options: object) -> list[str | None]:
    return [record.label for record in open_data_set(root, 'lerobot', **options).records()]


def test_episodes_of_version_3_share_a_video(tmp_path: Path) -> None:
    first, second = open_data_set(write_lerobot_v3(tmp_path / 'cubes')).records()
    assert (first.id, second.id) == ('episode_000000', 'episode_000001')
    assert first.instruction == 'put the cube in the box'
    assert second.instruction == 'open the drawer; close it'
    assert (first.label, second.label) == ('failure', 'success')
    assert (first.split, second.split) == ('train', 'test')
    assert (first.fps, first.source, first.explanation) == (15.0, 'cubes', None)
    assert greys(first.views['front'].read(5.0)) == pytest.approx([0, 12, 24, 36, 48], abs=2)
    assert greys(second.views['front'].read(5.0)) == pytest.approx([60, 72, 84, 96, 108], abs=2)


def test_episodes_of_version_2_have_files_of_their_own(tmp_path: Path) -> None:
    first, second = open_data_set(write_lerobot_v2(tmp_path)).records()
    assert first.instruction == 'stack the blocks'
    assert (first.label, second.label) == ('failure', 'success')
    assert len(second.views['front'].read(5.0)) == 5


def test_success_is_found_under_its_name(tmp_path: Path) -> None:
    root = write_lerobot_v3(tmp_path)
    assert labels(root, success_field='next.success') == ['failure', 'success']
    assert labels(root, reward_threshold=0.93) == ['success', 'success']
    assert labels(root, reward_threshold=1.5) == ['failure', 'success']
    table = columns(root / EPISODES) | {'is_episode_successful': [[True], [False]]}
    write_table(root / EPISODES, table)
    assert labels(root, success_field='is_episode_successful') == ['success', 'failure']
    with pytest.raises(ArmorError, match=r"success_field is 'won'.*next\.reward, next\.success"):
        labels(root, success_field='won')
    with pytest.raises(ArmorError, match="reward_field is 'points'"):
        labels(root, reward_threshold=1.0, reward_field='points')


def test_success_may_be_told_in_the_list_of_version_2(tmp_path: Path) -> None:
    root = write_lerobot_v2(tmp_path)
    info = lerobot_info('v2.0')
    del info['features']['next.success']
    dump(root / 'meta' / 'info.json', info)
    file = root / 'meta' / 'episodes.jsonl'
    lines = [json.loads(line) | {'success': n == 0} for n, line in enumerate(file.open())]
    file.write_text('\n'.join(json.dumps(line) for line in lines))
    assert labels(root) == ['success', 'failure']


def test_without_a_success_field_nothing_is_labelled(tmp_path: Path) -> None:
    root = write_lerobot_v3(tmp_path)
    info = lerobot_info('v3.0')
    del info['features']['next.success']
    dump(root / 'meta' / 'info.json', info)
    data = open_data_set(root)
    assert [record.label for record in data.records()] == [None, None]
    assert [text for text in data.skipped if text.startswith('data set without labels')]


def test_cameras_may_be_pictures_in_the_table(tmp_path: Path) -> None:
    root = write_lerobot_v3(tmp_path)
    info = lerobot_info(
        'v3.0',
        **{
            'observation.images.wrist': {'dtype': 'image', 'shape': [64, 96, 3]},
            'observation.images.depth': FEATURE_VIDEO | {'info': {'video.is_depth_map': True}},
        },
    )
    dump(root / 'meta' / 'info.json', info)
    table = lerobot_frames([0, 1])
    pictures = [{'bytes': encoded(8 * n), 'path': f'{n}.png'} for n in range(30)]
    table['observation.images.wrist'] = pictures
    write_table(root / FRAMES, table)
    first, second = open_data_set(root).records()
    assert list(first.views) == ['front', 'wrist']
    assert greys(first.views['wrist'].read(5.0)) == [0, 24, 48, 72, 96]
    assert greys(second.views['wrist'].read(7.5)) == [120, 136, 152, 168, 184, 200, 216, 232]
    assert second.views['wrist'].read(30.0).shape[0] == 29
    pictures[3] = {'bytes': b'broken', 'path': ''}
    pictures[18] = {'bytes': None, 'path': '/etc/passwd'}
    write_table(root / FRAMES, table)
    for record, message in zip(
        open_data_set(root).records(),
        (r'row 3: .*neither JPEG nor PNG', "row 18: column 'obs.*' holds no picture"),
        strict=True,
    ):
        with pytest.raises(ArmorError, match=message):
            record.views['wrist'].read(5.0)


def test_odd_episodes_are_counted(tmp_path: Path) -> None:
    root = write_lerobot_v3(tmp_path)
    good = columns(root / EPISODES)
    key = 'videos/observation.images.front'
    changes = [
        {'episode_index': [None, 1]},
        {'length': [15, 0]},
        {f'{key}/to_timestamp': [1.0, 0.5]},
        {f'{key}/from_timestamp': [float('nan'), 1.0]},
        {f'{key}/file_index': [0, 7]},
        {'episode_index': [-1, 1]},
    ]
    for change in changes:
        write_table(root / EPISODES, good | change)
        data = open_data_set(root)
        assert len(list(data.records())) == 1, change
        assert [text for text in data.skipped if text.startswith('episode skipped')], change
    write_table(root / EPISODES, good | {'tasks': [[], None]})
    data = open_data_set(root)
    assert [record.instruction for record in data.records()] == ['', '']
    assert data.skipped['episode kept: it names no task, so it has no instruction'] == 2


def test_missing_and_broken_tables(tmp_path: Path) -> None:
    root = write_lerobot_v3(tmp_path)
    (root / FRAMES).write_bytes(b'PAR1 nothing PAR1')
    data = open_data_set(root)
    assert [record.label for record in data.records()] == [None, None]
    assert data.skipped['file without labels: it cannot be read'] == 1
    (root / FRAMES).unlink()
    assert [record.label for record in data.records()] == [None, None]
    assert data.skipped['episode kept without label: the file with its frames is missing'] == 2
    (root / EPISODES).write_bytes(b'nothing')
    with pytest.raises(ArmorError, match=r'cannot read .*file-000\.parquet'):
        list(open_data_set(root).records())
    (root / EPISODES).unlink()
    with pytest.raises(ArmorError, match=r'has no meta/episodes/\*\*\.parquet'):
        list(open_data_set(root).records())


def test_broken_lines_of_version_2_are_counted(tmp_path: Path) -> None:
    root = write_lerobot_v2(tmp_path)
    with (root / 'meta' / 'episodes.jsonl').open('ab') as file:
        file.write(b'{"episode_index": \n[1]\n\xff\xfe\n\n{"episode_index": 5, "length": 3}\n')
    data = open_data_set(root)
    assert len(list(data.records())) == 2
    assert data.skipped['episode skipped: its line is not a JSON object'] == 3
    assert data.skipped['view front skipped: its video is missing'] == 1
    (root / 'meta' / 'episodes.jsonl').unlink()
    with pytest.raises(ArmorError, match=r'cannot read .*episodes\.jsonl'):
        open_data_set(root)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'codebase_version': 'v1.6'}, 'versions 2.0, 2.1 and 3.x are read'),
        ({'codebase_version': None}, 'codebase_version is'),
        ({'fps': 0}, 'fps is 0'),
        ({'fps': 'fast'}, "fps is 'fast'"),
    ],
)
def test_descriptions_that_cannot_be_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    root = write_lerobot_v3(tmp_path)
    dump(root / 'meta' / 'info.json', lerobot_info('v3.0') | change)
    with pytest.raises(ArmorError, match=message):
        open_data_set(root)


def test_a_path_is_filled_in_and_nothing_else() -> None:
    values: dict[str, str | int] = {'video_key': 'front', 'chunk_index': 7}
    template = 'videos/{video_key}/chunk-{chunk_index:03d}/{chunk_index}'
    assert expand(template, values) == 'videos/front/chunk-007/7'
    assert expand('{video_key.__class__}{chunk_index:999999999d}', values) == (
        '{video_key.__class__}{chunk_index:999999999d}'
    )
    with pytest.raises(ArmorError, match="unknown placeholder 'secret'"):
        expand('{secret}', values)


def test_a_template_that_leads_out_is_refused(tmp_path: Path) -> None:
    root = write_lerobot_v3(tmp_path / 'set')
    info = lerobot_info('v3.0') | {'video_path': '../{video_key}.mp4'}
    dump(root / 'meta' / 'info.json', info)
    data = open_data_set(root)
    assert not list(data.records())
    assert 'leads out of' in data.examples['record skipped: it cannot be read'][0]
