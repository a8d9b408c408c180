# SPDX-License-Identifier: Apache-2.0
"""AHA's conversations: answers, sub-tasks, and images whose paths are another machine's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from foreign_data import PROMPT, conversation, dump, greys, plain, write_aha

from armor_ros.datasets.aha import parse_answer, parse_sub_task
from armor_ros.datasets.detect import open_data_set
from armor_ros.datasets.record import COLLAGE_VIEW
from armor_ros.episodes.picture import save_picture
from armor_ros.errors import ArmorError


def test_a_conversation_is_a_record(tmp_path: Path) -> None:
    success, failure = open_data_set(write_aha(tmp_path) / 'test.json').records()
    assert (success.id, failure.id) == ('1', '2')
    assert success.instruction == 'pick up the cup'
    assert (success.label, success.explanation) == ('success', 'the robot succeed at it.')
    assert (failure.label, failure.explanation) == ('failure', 'the gripper did not close.')
    assert success.task == 'basketball in hoop'
    assert success.injected_mode == 'grasp'
    assert success.episode == failure.episode == 'basketball_in_hoop_grasp_wp1_episode0'
    assert (success.split, success.fps, success.weak) == ('test', 0.0, False)
    assert failure.extra == {'question_id': '2'}
    assert greys(success.views[COLLAGE_VIEW].read(5.0)) == [50]
    assert greys(failure.views[COLLAGE_VIEW].read(5.0)) == [150]


@pytest.mark.parametrize(
    ('answer', 'label', 'explanation'),
    [
        (
            'Yes, the robot succeed at the sub-task.',
            'success',
            'the robot succeed at the sub-task.',
        ),
        ('yes', 'success', ''),
        ('"Yes."', 'success', '"'),
        ('Yes the robot did', 'success', 'the robot did'),
        ('No, The robot slip the object.', 'failure', 'The robot slip the object.'),
        ('NO', 'failure', ''),
        ('No. It fell', 'failure', 'It fell'),
        # bare reasons
        ('The gripper failed to close.', 'failure', 'The gripper failed to close.'),
        ('No rotation was applied.', 'failure', 'No rotation was applied.'),
        ('Yesterday it worked', 'failure', 'Yesterday it worked'),
        ('Nobody moved', 'failure', 'Nobody moved'),
    ],
)
def test_answers(answer: str, label: str, explanation: str) -> None:
    assert parse_answer(answer) == (label, explanation)


@pytest.mark.parametrize(
    ('question', 'sub_task'),
    [
        (PROMPT.format('pick up the bowl and flip it'), 'pick up the bowl and flip it'),
        ('the robot arm performing lift the 2.5 kg box. Each', 'lift the 2.5 kg box'),
        ('the arm performing stack\n  the cups.', 'stack the cups'),
        ('depicting the robot arm pick up the knife.     Each frame', 'pick up the knife'),
        ('depicting the robot arm performing . The frames of the robot arm are', ''),
        ('the arm performing nothing that ends', ''),
        ('What happened?', ''),
        ('', ''),
    ],
)
def test_sub_tasks(question: str, sub_task: str) -> None:
    assert parse_sub_task(question) == sub_task


def test_an_image_is_found_by_the_end_of_its_path(tmp_path: Path) -> None:
    save_picture(tmp_path / 'b' / '0.png', plain(10))
    save_picture(tmp_path / '0.png', plain(200))
    rows = [
        conversation(1, '/home/x/a/b/0.png', 'Yes, it did.'),
        conversation(2, 'C:\\data\\b\\0.png', 'Yes, it did.'),
        conversation(3, '/home/x/c/0.png', 'Yes, it did.'),
        conversation(4, '/home/x/d/0.png', 'Yes, it did.'),
    ]
    dump(tmp_path / 'train.json', rows)
    data = open_data_set(tmp_path)
    found = {record.id: greys(record.views[COLLAGE_VIEW].read(5.0)) for record in data.records()}
    # 2 and 4 would show the picture of another entry
    assert found == {'1': [10], '3': [200]}
    assert dict(data.skipped) == {
        'entry skipped: its image is not there, only another of the same name': 2
    }


def test_the_pictures_may_lie_elsewhere(tmp_path: Path) -> None:
    save_picture(tmp_path / 'pictures' / 'x.jpg', plain(10))
    file = dump(tmp_path / 'json' / 'a.json', [conversation(1, 'x.jpg', 'Yes, it did.')])
    assert not list(open_data_set(file).records())
    (record,) = open_data_set(file, images=str(tmp_path / 'pictures')).records()
    assert record.views[COLLAGE_VIEW].read(5.0).shape == (1, 64, 96, 3)


def test_the_pictures_may_lie_one_folder_below(tmp_path: Path) -> None:
    for folder in ('a', 'b'):
        save_picture(tmp_path / folder / 'both.png', plain(10))
    save_picture(tmp_path / 'a' / 'x.png', plain(10))
    rows = [conversation(n, f'./{n}.png', 'Yes, it did.') for n in ('x', 'both')]
    dump(tmp_path / 'test.json', rows)
    data = open_data_set(tmp_path)
    assert [record.id for record in data.records()] == ['x']
    assert dict(data.skipped) == {'entry skipped: several folders have an image of its name': 1}


def test_one_image_may_have_several_questions(tmp_path: Path) -> None:
    save_picture(tmp_path / 'x.jpg', plain(10))
    rows = [conversation(n, 'x.jpg', 'Yes, it did.') for n in range(3)]
    dump(tmp_path / 'a.json', rows)
    assert len(list(open_data_set(tmp_path).records())) == 3


def test_odd_entries_are_counted_or_kept(tmp_path: Path) -> None:
    save_picture(tmp_path / 'x.jpg', plain(10))
    good = conversation(7, 'x.jpg', 'No, it fell.')
    rows = [
        good | {'image': ['x.jpg']},
        good | {'conversations': [{'from': 'gpt', 'value': 'No, it fell.'}]},
        {key: value for key, value in good.items() if key != 'id'},
        'text',
        good | {'image': None},
        good | {'image': ['x.jpg', 'x.jpg']},
        good | {'image': 'missing.jpg'},
        good | {'image': '.'},
        good | {'image': '//'},
        good | {'conversations': [{'from': 'human', 'value': 'and?'}]},
        good | {'conversations': [{'from': 'gpt', 'value': 5}]},
        good | {'conversations': 'none'},
        conversation(8, 'x.jpg', '  '),
    ]
    dump(tmp_path / 'a.json', rows)
    data = open_data_set(tmp_path)
    assert [(record.id, record.instruction) for record in data.records()] == [
        ('7', 'pick up the cup'),
        ('7#2', ''),
        ('a_2', 'pick up the cup'),
    ]
    assert dict(data.skipped) == {
        'entry kept: its question names no sub-task, so it has no instruction': 1,
        'record kept: its id was taken, so that it got a number': 1,
        'entry skipped: it is not an object': 1,
        'entry skipped: it names no image, or more than one': 2,
        'entry skipped: its image is not below the folder of pictures': 3,
        'entry skipped: its conversation has no answer': 4,
    }
    assert data.examples['entry skipped: it is not an object'] == ['a.json, entry 3']


@pytest.mark.parametrize(
    'text', ['[{"conversations": NaN}]', '[{"conversations": ', '["conversations"' + '[' * 200_000]
)
def test_broken_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises(ArmorError, match=r'a\.json is not valid JSON'):
        list(open_data_set(tmp_path).records())


def test_other_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    write_aha(tmp_path)
    (tmp_path / 'other.json').write_text('{"conversations": 1}')
    (tmp_path / 'binary.json').write_bytes(bytes(range(256)))
    (tmp_path / 'bom.json').write_text(
        '\ufeff' + json.dumps([conversation(9, 'x.png', 'Yes, it did.')]), encoding='utf-8'
    )
    data = open_data_set(tmp_path)
    assert [record.id for record in data.records()] == ['1', '2']
    assert sum(data.skipped.values()) == 1
