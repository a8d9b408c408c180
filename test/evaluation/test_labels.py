# SPDX-License-Identifier: Apache-2.0
"""Labels from wherever they are, and whose word counts."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from armor_ros.datasets.bag_writer import BagWriter
from armor_ros.datasets.bags import LABEL_TYPE, Bag, BagTaskEvent
from armor_ros.datasets.typestore import armor_types
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus
from armor_ros.errors import ArmorError
from armor_ros.evaluation.case import Case, TaskLabel
from armor_ros.evaluation.label_files import FileLabel, read_label_file
from armor_ros.evaluation.labels import LabelBook, beside, choose_label, status_label
from armor_ros.evaluation.sources import BagSource, PartLog, SourceSettings

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
PICK = f'/pick/{1:032x}'
TOPIC = '/armor/label_task/_service_event'


def cases_of(path: Path, labels: LabelBook | None = None) -> tuple[list[Case], PartLog]:
    log = PartLog()
    settings = SourceSettings(labels=labels or LabelBook())
    return list(BagSource(path, path.name, settings).cases(0, log)), log


def label_event(task_id: str, label: int, explanation: str = '', kind: int = 1) -> bytes:
    """A call of LabelTask as service introspection records it."""
    types = armor_types()
    request = types.types['armor_msgs/srv/LabelTask_Request'](task_id, label, explanation, 'ann')
    stamp = types.types['builtin_interfaces/msg/Time'](0, 0)
    info = types.types['service_msgs/msg/ServiceEventInfo'](
        event_type=kind, stamp=stamp, client_gid=np.zeros(16, np.uint8), sequence_number=1
    )
    return bytes(types.serialize_cdr(types.types[LABEL_TYPE](info, [request], []), LABEL_TYPE))


def write_label_events(writer: BagWriter, *events: tuple[int, bytes]) -> None:
    """Write events; the bag's writer cannot describe the types of services by itself."""
    writer._connections[TOPIC] = writer._writer.add_connection(
        TOPIC, LABEL_TYPE, msgdef='uint8 unused', rihs01='RIHS01_'
    )
    for log_ns, data in events:
        writer.write_raw(TOPIC, LABEL_TYPE, log_ns, data)


@pytest.mark.parametrize(
    ('status', 'label'),
    [(4, 'success'), (6, 'failure'), (5, None)],
)
def test_the_status_of_an_action_is_a_weak_label(
    robot_bag: Any, tmp_path: Path, status: int, label: str | None
) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 3.0, status=status)
    ((case,), _) = cases_of(robot_bag.write(tmp_path / 'bag'))
    assert case.label == TaskLabel(label, 'status' if label else '', weak=label is not None)


def test_the_status_of_a_task_event_is_a_weak_label(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    for phase, seconds in ((TaskPhase.START, 1), (TaskPhase.END, 3)):
        stamp_ns = START + seconds * SECOND
        event = TaskEvent(phase, 't', stamp_ns, status=TaskStatus.ABORTED)
        robot_bag.messages.append(BagTaskEvent('/armor/task_event', stamp_ns, event))
    ((case,), _) = cases_of(robot_bag.write(tmp_path / 'bag'))
    assert case.label == TaskLabel('failure', 'event', weak=True)


def test_what_was_aborted_before_anything_moved_has_no_label(
    robot_bag: Any, tmp_path: Path
) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 2.0, status=6, number=1)
    robot_bag.goal(3.0, 5.0, status=6, number=2)
    # the camera shows one still picture until the second goal starts
    still = robot_bag.messages[0].image
    robot_bag.messages = [
        type(message)(message.topic, message.log_ns, message.stamp_ns, still)
        if hasattr(message, 'image') and message.log_ns < START + 3 * SECOND
        else message
        for message in robot_bag.messages
    ]
    (first, second), log = cases_of(robot_bag.write(tmp_path / 'bag'))
    assert first.label == TaskLabel()
    assert second.label.label == 'failure'
    assert log.problems == {'tasks aborted before anything moved, without label': 1}


def test_an_operator_beats_the_status_and_a_given_file_beats_the_operator(
    robot_bag: Any, tmp_path: Path
) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 3.0)
    path = robot_bag.write(tmp_path / 'bag')
    row = {'task_id': PICK, 'label': 'failure', 'explanation': 'it slipped', 'labelled_at_ns': 1}
    (tmp_path / 'labels.jsonl').write_text(json.dumps(row) + '\n')
    ((case,), _) = cases_of(path)
    assert case.label == TaskLabel('failure', 'label_task', False, 'it slipped')
    given = tmp_path / 'given.csv'
    given.write_text(f'task_id,label,explanation\n{PICK},success,\n')
    ((case,), _) = cases_of(path, LabelBook([given]))
    # the operator's explanation is of a failure, and says nothing about a success
    assert case.label == TaskLabel('success', 'sidecar', False, None)


def test_labels_in_the_recordings_folder_count_before_those_beside_it(
    robot_bag: Any, tmp_path: Path
) -> None:
    robot_bag.goal(1.0, 3.0)
    path = robot_bag.write(tmp_path / 'bag')
    (tmp_path / 'labels.jsonl').write_text(json.dumps({'task_id': PICK, 'label': 'failure'}))
    assert beside(path).find('bag', PICK) == [TaskLabel('failure', 'sidecar')]
    (path / 'labels.jsonl').write_text(json.dumps({'task_id': PICK, 'outcome': 'success'}))
    for place in (path, next(path.glob('*.mcap'))):
        assert beside(place).find('bag', PICK) == [TaskLabel('success', 'sidecar')]


def test_broken_labels_beside_a_recording_cost_the_labels_only(
    robot_bag: Any, tmp_path: Path
) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 3.0)
    path = robot_bag.write(tmp_path / 'bag')
    (path / 'labels.jsonl').write_text('{')
    ((case,), log) = cases_of(path)
    assert case.label.source == 'status'
    assert 'line 1 is not valid JSON' in next(iter(log.problems))


def test_recorded_calls_of_label_task(tmp_path: Path) -> None:
    calls = [(2, 0), (1, 1), (7, 1)]
    events = [
        (START + number, label_event(PICK, label, f'text {number}', kind))
        for number, (label, kind) in enumerate(calls)
    ]
    with BagWriter(tmp_path / 'bag') as writer:
        write_label_events(writer, *events, (START + 9, b'\0\1\0\0garbage'))
    with Bag(tmp_path / 'bag') as bag:
        labels = list(bag.labels())
        assert [(each.task_id, each.label, each.explanation) for each in labels] == [
            (PICK, 'failure', 'text 0'),
            (PICK, 'success', 'text 1'),
        ]
        assert sum(bag.problems.values()) == 1


def test_a_recorded_call_of_label_task_labels_its_task(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 3.0)
    with BagWriter(tmp_path / 'bag') as writer:
        for message in sorted(robot_bag.messages, key=lambda each: each.log_ns):
            writer.write(message)
        write_label_events(writer, (START + 9 * SECOND, label_event(PICK, 2, 'it fell')))
    ((case,), _) = cases_of(tmp_path / 'bag')
    assert case.label == TaskLabel('failure', 'label_task', False, 'it fell')


def test_rows_of_files(tmp_path: Path) -> None:
    sheet = tmp_path / 'labels.csv'
    sheet.write_text(
        '\ufeffsample_id, label ,explanation\n7,Failed,"it fell, then rolled"\n8,,x\n'
    )
    assert read_label_file(sheet) == (
        FileLabel('7', 'failure', 'it fell, then rolled'),
        FileLabel('8', None, 'x'),
    )
    lines = tmp_path / 'labels.jsonl'
    rows = [
        {'id': 3, 'label': 'SUCCESS', 'source': 'monday'},
        {'task_id': 'a\nb', 'outcome': 'failure', 'labelled_at_ns': 5},
    ]
    lines.write_text('\n\n'.join(map(json.dumps, rows)))
    assert read_label_file(lines) == (
        FileLabel('3', 'success', None, 'monday'),
        FileLabel('a b', 'failure', None, by_service=True),
    )


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('a.csv', 'task,label\nx,success\n', 'begins with the columns task, label; its first'),
        ('a.csv', 'id,label\nx,maybe\n', r"line 2: the label is 'maybe'; it must be success or"),
        ('a.csv', 'id,label\n,success\n', 'line 2 names no task'),
        ('a.csv', 'id,label\nx,\n', 'line 2 has neither a label nor an explanation'),
        ('a.jsonl', '{"id": 1}', 'line 1 has neither'),
        ('a.jsonl', '[1]', 'line 1 is no object'),
        ('a.jsonl', 'x', 'line 1 is not valid JSON'),
        ('a.jsonl', '{"id": 1, "label": "success", "explanation": 3}', 'must be a text'),
        ('a.jsonl', '\udcff', 'cannot read the labels'),
    ],
)
def test_broken_files_are_named_with_their_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    file = tmp_path / name
    file.write_bytes(text.encode('utf-8', 'surrogateescape'))
    with pytest.raises(ArmorError, match=message):
        read_label_file(file)
    with pytest.raises(ArmorError, match='cannot read the labels'):
        read_label_file(tmp_path / 'absent.csv')


def test_a_row_about_one_recording_counts_before_one_about_any(tmp_path: Path) -> None:
    file = tmp_path / 'labels.csv'
    file.write_text('source,task_id,label\n,t,success\nmonday,t,failure\n')
    book = LabelBook([file])
    assert choose_label(book.find('monday', 't')).label == 'failure'
    assert choose_label(book.find('tuesday', 't')).label == 'success'
    assert book.unknown(['x']) == ['t']
    assert book.unknown(['t']) == []
    assert book.digest() != LabelBook().digest()


def test_of_two_files_the_first_counts_and_of_two_rows_the_later(tmp_path: Path) -> None:
    files = [tmp_path / 'one.csv', tmp_path / 'two.csv']
    files[0].write_text('id,label\nt,success\nt,failure\n')
    files[1].write_text('id,label\nt,success\n')
    assert choose_label(LabelBook(files).find('', 't')).label == 'failure'


def test_an_explanation_comes_from_whoever_agrees() -> None:
    weak = status_label(TaskStatus.ABORTED, 'status')
    words = TaskLabel(None, 'sidecar', False, 'it fell')
    assert choose_label([weak, words]) == TaskLabel('failure', 'status', True, 'it fell')
    assert choose_label([]) == TaskLabel()
    other = TaskLabel('success', 'dataset', False, 'all is well')
    assert choose_label([other, TaskLabel('failure', 'sidecar')]) == TaskLabel(
        'failure', 'sidecar'
    )


@given(name=st.sampled_from(['a.csv', 'a.jsonl']), data=st.binary(max_size=200))
@example(name='a.csv', data=b'id,label\n"x\0,success')
@example(name='a.jsonl', data=b'{"id": ' + b'[' * 3000)
@example(name='a.jsonl', data=b'{"id": 1, "label": ["success"]}')
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_it_is_read_or_refused(
    tmp_path: Path, name: str, data: bytes
) -> None:
    head = b'id,label,explanation\n' if name.endswith('.csv') else b''
    (tmp_path / name).write_bytes(head + data)
    rows: tuple[FileLabel, ...] = ()
    with contextlib.suppress(ArmorError):
        rows = read_label_file(tmp_path / name)
    assert all(row.id and (row.label or row.explanation) for row in rows)
