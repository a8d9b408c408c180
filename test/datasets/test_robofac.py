# SPDX-License-Identifier: Apache-2.0
"""RoboFAC's questions and answers: what of them becomes a record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from foreign_data import dump, film, write_robofac

from armor_ros.datasets.detect import open_data_set
from armor_ros.errors import ArmorError

SIM = 'test_qa_sim/annos_per_video_split0.json'


def test_a_video_is_a_record(tmp_path: Path) -> None:
    records = {record.id: record for record in open_data_set(write_robofac(tmp_path)).records()}
    assert list(records) == ['r1', 'v1', 'v2']
    failure, success = records['v1'], records['v2']
    assert (failure.label, success.label) == ('failure', 'success')
    assert failure.instruction == 'Stack the cup on the cube.'
    assert failure.explanation == 'The gripper stopped left of the cup.'
    assert failure.injected_mode == 'Position deviation.'
    assert (failure.task, failure.split, failure.fps) == ('SpinStack', 'test', 15.0)
    # without an answer that names the task, its name is spelled out
    assert (success.instruction, success.explanation) == ('stack cube', None)
    assert list(records['r1'].views) == ['above']
    assert records['r1'].episode == 'realworld_data/so100_insert/videos/episode_000001'


def test_two_cameras_of_one_attempt_are_one_episode(tmp_path: Path) -> None:
    root = write_robofac(tmp_path)
    videos = [
        f'so100/videos/observation.images.{c}/episode_000001.mp4' for c in ('above', 'right')
    ]
    for video in videos:
        film(root / 'realworld_data' / video, 15)
    entries = {
        f'x{n}': {'video': video, 'task': 'Push', 'annos': {}} for n, video in enumerate(videos)
    }
    dump(root / SIM, entries)
    data = open_data_set(root / SIM)
    records = list(data.records())
    assert records[0].episode == records[1].episode
    assert [record.label for record in records] == [None, None]
    assert data.skipped == {
        'entry kept without label: no answer tells whether the task was done': 2
    }


@pytest.mark.parametrize(
    ('annos', 'label'),
    [
        ({'Failure detection': 'Yes, it was.'}, 'success'),
        ({'Failure detection': ' no.'}, 'failure'),
        ({'Failure detection': 'Perhaps'}, None),
        ({'Failure explanation': 'It fell.'}, 'failure'),
        ({}, None),
    ],
)
def test_labels(tmp_path: Path, annos: dict[str, str], label: str | None) -> None:
    root = write_robofac(tmp_path)
    film(root / 'simulation_data' / 'x.mp4', 15)
    turns = {kind: [{'value': '?'}, {'value': answer}] for kind, answer in annos.items()}
    dump(root / SIM, {'x': {'video': 'x.mp4', 'task': 'Push', 'annos': turns}})
    record = next(r for r in open_data_set(root).records() if r.id == 'x')
    assert record.label == label


def test_videos_may_lie_elsewhere(tmp_path: Path) -> None:
    root = write_robofac(tmp_path / 'a')
    (root / 'test_qa_sim').rename(tmp_path / 'questions')
    (record, _) = open_data_set(tmp_path / 'questions', videos=str(root)).records()
    assert record.id == 'v1'


def test_odd_entries_are_counted(tmp_path: Path) -> None:
    root = write_robofac(tmp_path)
    good = json.loads((root / SIM).read_text())['v1']
    (root / 'simulation_data' / 'broken.mp4').write_bytes(b'nothing')
    entries = {
        'a': 5,
        'b': good | {'annos': []},
        'c': good | {'video': None},
        'd': good | {'video': 'missing.mp4'},
        'e': good | {'video': 'broken.mp4'},
        'f': good | {'annos': {'Failure detection': [{'value': 'only a question'}], 'x': 3}},
        'g': good | {'task': None, 'annos': good['annos'] | {'Task identification': 'text'}},
    }
    dump(root / SIM, entries)
    data = open_data_set(root)
    assert [record.id for record in data.records()] == ['r1', 'f', 'g']
    assert dict(data.skipped) == {
        'entry skipped: it has no questions and answers': 2,
        'entry skipped: its video is not below the folder': 2,
        'record skipped: it cannot be read': 1,
        'entry kept without label: no answer tells whether the task was done': 1,
    }


def test_broken_json_is_named(tmp_path: Path) -> None:
    root = write_robofac(tmp_path)
    (root / SIM).write_text('{"v": {"video": "a", "annos": {}')
    with pytest.raises(ArmorError, match=r'split0\.json is not valid JSON'):
        list(open_data_set(root).records())
