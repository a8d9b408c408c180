# SPDX-License-Identifier: Apache-2.0
"""Annotated recordings: what is in them, when, and that others can read it."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from some_lines import a_line, a_round, unknown, write_lines
from typer.testing import CliRunner

from armor_ros.cli import app
from armor_ros.datasets.bag_reader import BagReader
from armor_ros.datasets.bag_writer import write_bag
from armor_ros.datasets.bags import BagClock, BagImage, BagTaskEvent
from armor_ros.datasets.typestore import armor_types
from armor_ros.episodes.decoding import RawImage
from armor_ros.episodes.task import TaskEvent, TaskPhase
from armor_ros.errors import ArmorError
from armor_ros.evaluation.annotate import annotate_recording, annotate_run
from armor_ros.evaluation.foxglove import foxglove_layout
from armor_ros.evaluation.report_message import REPORT_TYPE, failure_report, sentence

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
REPORT, VERDICT = '/armor/failure_report', '/armor/verdict'
EVIDENCE = '/armor/evidence/compressed'
FRONT, WRIST = '/front/image_raw/compressed', '/wrist/image_raw/compressed'


def bag_line(number: int, end_s: float, start_ns: int = START, **changes: Any) -> dict[str, Any]:
    """Return the line of a task in a recording that ended so long after its beginning."""
    end_ns = start_ns + round(end_s * SECOND)
    camera = {'frames_seen': 20, 'frames_used': 10, 'frames_undecodable': 1}
    camera |= {'first_stamp_ns': end_ns - SECOND, 'last_stamp_ns': end_ns, 'largest_gap_ns': 5}
    values = {
        'source': 'robot',
        'source_kind': 'bag',
        'sample_id': '',
        'task_start_ns': end_ns - 2 * SECOND,
        'task_end_ns': end_ns,
        'clip_start_ns': end_ns - 3 * SECOND,
        'clip_end_ns': end_ns,
        'cameras': [
            {'camera': 'front', 'topic': FRONT, **camera},
            {'camera': 'wrist', 'topic': WRIST, **camera},
        ],
    }
    return a_line(number, **{**values, **changes})


def contents(path: Path) -> list[tuple[str, int, Any]]:
    """Return topic, log time and message of all that is in a file, by the types that it names."""
    with AnyReader([path]) as reader:
        return [
            (connection.topic, log_ns, reader.deserialize(data, connection.msgtype))
            for connection, log_ns, data in reader.messages()
        ]


def of_topic(found: list[tuple[str, int, Any]], topic: str) -> list[tuple[int, Any]]:
    return [(log_ns, message) for name, log_ns, message in found if name == topic]


def seconds(log_ns: int, start_ns: int = START) -> float:
    return (log_ns - start_ns) / SECOND


@pytest.fixture
def bag(robot_bag: Any, tmp_path: Path) -> Path:
    robot_bag.camera(FRONT)
    robot_bag.camera(WRIST)
    robot_bag.camera('/side/image_raw/compressed')
    robot_bag.goal(0.5, 2.5, number=1)
    return Path(robot_bag.write(tmp_path / 'robot'))


def annotate(bag: Path, lines: list[dict[str, Any]], folder: Path) -> list[tuple[str, int, Any]]:
    write_lines(folder, lines)
    summary = annotate_run(folder, {'robot': bag})
    assert summary.files == [folder / 'annotated' / 'robot.mcap']
    assert [path.name for path in (folder / 'annotated').iterdir()] == ['robot.mcap']
    return contents(summary.files[0])


def test_reports_stand_beside_the_cameras_as_they_were(bag: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    picture = np.full((60, 90, 3), (10, 200, 30), np.uint8)
    (folder / 'evidence').mkdir(parents=True)
    assert cv2.imwrite(str(folder / 'evidence' / 'a.jpg'), picture)
    lines = [bag_line(1, 2.53, evidence='evidence/a.jpg'), unknown(2, None, **times_at(4.0))]
    found = annotate(bag, lines, folder)
    # the messages of the cameras that were looked at, byte by byte
    with BagReader(bag) as reader:
        before = [(m.topic, m.log_ns, bytes(m.data)) for m in reader.messages({FRONT, WRIST})]
    with BagReader(folder / 'annotated' / 'robot.mcap') as reader:
        after = [(m.topic, m.log_ns, bytes(m.data)) for m in reader.messages({FRONT, WRIST})]
        names = {topic.name for topic in reader.topics}
        assert not reader.problems
    assert after == before
    assert names == {FRONT, WRIST, REPORT, VERDICT, EVIDENCE}
    reports = of_topic(found, REPORT)
    assert [seconds(log_ns) for log_ns, _ in reports] == [2.53, 4.0]
    assert [report.task.task_id for _, report in reports] == ['t1', 't2']
    ((log_ns, evidence),) = of_topic(found, EVIDENCE)
    assert (seconds(log_ns), evidence.format) == (2.53, 'jpeg')
    assert cv2.imdecode(evidence.data, cv2.IMREAD_COLOR).shape == (60, 90, 3)
    times = [log_ns for _, log_ns, _ in found]
    assert times == sorted(times)


def times_at(end_s: float) -> dict[str, Any]:
    line = bag_line(0, end_s)
    keys = ('source', 'source_kind', 'sample_id', 'task_start_ns', 'task_end_ns', 'cameras')
    return {key: line[key] for key in keys}


def test_logs_say_in_a_sentence_how_it_went(bag: Path, tmp_path: Path) -> None:
    lines = [
        bag_line(1, 1.0),
        bag_line(2, 2.0, probability=0.1, label=None),
        bag_line(3, 3.0, verdict='ABSTAIN'),
    ]
    logs = [message for _, message in of_topic(annotate(bag, lines, tmp_path / 'run'), VERDICT)]
    assert [message.level for message in logs] == [40, 20, 30]
    assert logs[0].msg == (
        'FAILURE: move the can (probability of failure 0.90, the robot said SUCCEEDED, the label '
        'says failure). the can slipped'
    )
    assert logs[0].name == 'transport'
    assert logs[1].msg.startswith('SUCCESS: move the can')
    words = unknown(0, None, status_text='no frames')
    assert sentence(words) == 'UNKNOWN: move the can (the robot said SUCCEEDED). no frames'


def test_a_report_has_all_that_its_line_has() -> None:
    trace = [a_round(0, 0.7, best=False), a_round(0, 0.8, trajectory=1), a_round(1, 0.9)]
    line = bag_line(
        7,
        9.25,
        trace=trace,
        task_status='ABORTED',
        task_status_message='joint 3',
        context={'robot': 'left'},
        calibrated=True,
        target_error=0.1,
        temperature=0.7,
        truncated=True,
        evidence='evidence/a.jpg',
        label_explanation='it slipped',
        disagrees_with_status=True,
        trajectories=2,
    )
    report = armor_types().deserialize_cdr(failure_report(line), REPORT_TYPE)
    task = report.task
    assert (task.task_id, task.task_name, task.instruction) == ('t7', 'transport', 'move the can')
    assert (task.phase, task.status, task.status_message) == (2, 6, 'joint 3')
    assert [(pair.key, pair.value) for pair in task.context] == [('robot', 'left')]
    for stamp, name in (
        (report.header.stamp, 'task_end_ns'),
        (task.header.stamp, 'task_end_ns'),
        (report.task_start, 'task_start_ns'),
        (report.clip_start, 'clip_start_ns'),
        (report.clip_end, 'clip_end_ns'),
    ):
        assert stamp.sec * SECOND + stamp.nanosec == line[name]
    assert (report.verdict, report.status, report.provisional) == (2, 0, False)
    assert (report.calibrated, report.truncated, report.disagrees_with_status) == (True,) * 3
    assert report.explanation == 'the can slipped'
    for name in ('failure_probability', 'target_error', 'temperature', 'detection_entropy'):
        assert getattr(report, name) == pytest.approx(line[name])
    for name in ('explanation_entropy', 'combined_entropy'):
        assert getattr(report, name) == pytest.approx(line[name])
    assert (report.rounds, report.trajectories, report.selected) == (2, 2, 2)
    assert [(r.round, r.trajectory, r.best) for r in report.trace] == [
        (0, 0, False),
        (0, 1, True),
        (1, 0, True),
    ]
    assert [camera.topic for camera in report.cameras] == [FRONT, WRIST]
    assert report.cameras[0].frames_used == 10
    assert report.cameras[0].largest_gap.nanosec == 5
    assert (report.model_id, report.weights_hash, report.quantization) == ('m', 'weights', 'none')
    assert report.config_hash == 'c' * 16
    assert report.evidence_uri == 'evidence/a.jpg'
    assert report.inference_time.sec == 1
    assert {pair.key: pair.value for pair in report.extra} == {
        'model_trained': 'true',
        'label': 'failure',
        'label_source': 'dataset',
        'label_explanation': 'it slipped',
    }


def test_a_report_without_an_answer_has_no_numbers() -> None:
    changes = {'status_text': 'no frame', 'failure_probability': 0.9, 'timing': None}
    line = unknown(1, None, **changes)
    report = armor_types().deserialize_cdr(failure_report(line), REPORT_TYPE)
    assert (report.verdict, report.status, report.status_text) == (0, 1, 'no frame')
    assert report.failure_probability == 0.5
    assert report.detection_entropy == report.combined_entropy == -1.0
    assert len(report.trace) == len(report.extra) == 0


def test_hostile_texts_and_numbers_fit_into_messages(bag: Path, tmp_path: Path) -> None:
    line = bag_line(
        1,
        2.0,
        instruction='<script>\0' + 'x' * 100_000,
        explanation='half cut-off 🦾',
        context={'k\0': 'v' * 9000},
        evidence='../../../etc/passwd',
        clip_start_ns=-5,
        clip_end_ns=2**63,
    )
    line['cameras'][0]['frames_seen'] = 2**40
    path = write_lines(tmp_path / 'run', [line]) / 'predictions.jsonl'
    path.write_text(path.read_text(encoding='utf-8').replace('cut-off', r'\ud83d'), 'utf-8')
    annotate_run(tmp_path / 'run', {'robot': bag})
    found = contents(tmp_path / 'run' / 'annotated' / 'robot.mcap')
    ((_, report),) = of_topic(found, REPORT)
    assert len(report.task.instruction) == 2000
    assert report.explanation == 'half ? 🦾'
    assert report.clip_start.sec == 0
    assert report.clip_end.sec == 2**31 - 1
    assert report.cameras[0].frames_seen == 2**32 - 1
    assert not of_topic(found, EVIDENCE)


def test_ends_are_told_on_the_clock_of_the_simulation(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera(FRONT)
    sim = 100 * SECOND
    messages = []
    for message in robot_bag.messages:
        # recorded at half the speed of the simulation, whose clock began at 100 s
        after = message.log_ns - START
        stamp = sim + after
        log_ns = START + 2 * after
        messages.append(BagClock(log_ns, stamp))
        messages.append(replace(message, stamp_ns=stamp, log_ns=log_ns))
    write_bag(tmp_path / 'robot', messages)
    lines = [bag_line(1, 1.0, sim), bag_line(2, 3.0, sim)]
    reports = of_topic(annotate(tmp_path / 'robot', lines, tmp_path / 'run'), REPORT)
    assert [seconds(log_ns) for log_ns, _ in reports] == [2.0, 6.0]


def test_ends_are_told_on_the_clock_of_the_cameras(robot_bag: Any, tmp_path: Path) -> None:
    # played and recorded again a day later: only the stamps are as they were
    robot_bag.offset = 86400 * SECOND
    robot_bag.camera(FRONT)
    event = TaskEvent(TaskPhase.END, 't1', START + 2 * SECOND, 'pick')
    at = START + robot_bag.offset + 2 * SECOND
    robot_bag.messages.append(BagTaskEvent('/armor/task_event', at, event))
    bag = robot_bag.write(tmp_path / 'robot')
    reports = of_topic(annotate(bag, [bag_line(1, 2.0)], tmp_path / 'run'), REPORT)
    assert [seconds(log_ns, START + robot_bag.offset) for log_ns, _ in reports] == [2.0]


@pytest.mark.parametrize(
    ('tasks', 'logged'),
    [
        # the same goal in each repetition
        ([('a', 3.0), ('a', 3.0), ('a', 3.0)], [3.0, 7.0, 11.0]),
        # a simulation that is reset, with goals of its own each time
        ([('a', 1.0), ('b', 3.0), ('c', 1.5), ('d', 2.0)], [1.0, 3.0, 5.5, 6.0]),
        # a task that had ended before the clock was seen to pass its end
        ([('a', 3.99), ('a', 1.0)], [4.0, 5.0]),
    ],
)
def test_a_recording_that_starts_over_has_each_report_in_its_turn(
    robot_bag: Any, tmp_path: Path, tasks: list[tuple[str, float]], logged: list[float]
) -> None:
    robot_bag.camera(FRONT, (0.0, 4.0))
    once = robot_bag.messages
    loops = [
        message
        for turn in range(3)
        for each in once
        for message in (
            BagClock(each.log_ns + 4 * turn * SECOND, each.stamp_ns - START + 50 * SECOND),
            replace(
                each,
                log_ns=each.log_ns + 4 * turn * SECOND,
                stamp_ns=each.stamp_ns - START + 50 * SECOND,
            ),
        )
    ]
    write_bag(tmp_path / 'robot', loops)
    lines = [
        bag_line(turn, end_s, 50 * SECOND, task_id=name)
        for turn, (name, end_s) in enumerate(tasks)
    ]
    reports = of_topic(annotate(tmp_path / 'robot', lines, tmp_path / 'run'), REPORT)
    assert [seconds(log_ns) for log_ns, _ in reports] == logged
    assert [report.task.task_id for _, report in reports] == [name for name, _ in tasks]


def test_tasks_that_end_with_the_recording_are_reported(bag: Path, tmp_path: Path) -> None:
    lines = [bag_line(1, 6.5), bag_line(2, 10_000.0)]
    reports = of_topic(annotate(bag, lines, tmp_path / 'run'), REPORT)
    assert [seconds(log_ns) for log_ns, _ in reports] == [6.5, 6.5]


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, 400 * 400 * 3, dtype=np.uint8).tobytes()
    image = RawImage('rgb8', 400, 400, 1200, False, pixels)
    times = (START + index * SECOND // 10 for index in range(90))
    write_bag(tmp_path / 'robot', (BagImage('/front/image_raw', t, t, image) for t in times))
    line = bag_line(1, 5.0, cameras=[{'camera': 'front', 'topic': '/front/image_raw'}])
    output = tmp_path / 'out.mcap'
    tracemalloc.start()
    try:
        annotate_recording(tmp_path / 'robot', [line], output, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert output.stat().st_size > 40_000_000
    assert peak < 15_000_000


def test_what_cannot_be_annotated_is_told(bag: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    lines = [bag_line(1, 2.0), bag_line(2, 2.0, source='gone'), a_line(3), a_line(4)]
    write_lines(folder, lines)
    with pytest.raises(ArmorError, match=r'nothing|no recording was annotated: .*in run\.json'):
        annotate_run(folder)
    (tmp_path / 'empty').mkdir()
    summary = annotate_run(folder, {'robot': bag, 'gone': tmp_path / 'empty'})
    assert [path.name for path in summary.files] == ['robot.mcap']
    left_out = dict(summary.left_out)
    assert left_out.pop('tasks of data sets: there is no recording to annotate') == 2
    assert [sentence.startswith('gone: ') for sentence in left_out] == [True]


def test_recordings_of_one_name_get_files_of_their_own(bag: Path, tmp_path: Path) -> None:
    names = ['a/robot', 'b/robot', 'robot.mcap', 'robot', '../robot']
    lines = [bag_line(number, 2.0, source=name) for number, name in enumerate(names)]
    write_lines(tmp_path / 'run', lines)
    summary = annotate_run(tmp_path / 'run', dict.fromkeys(names, bag))
    assert len(set(summary.files)) == 5
    assert {path.parent for path in summary.files} == {tmp_path / 'run' / 'annotated'}
    for number, path in enumerate(summary.files):
        ((_, report),) = of_topic(contents(path), REPORT)
        assert report.task.task_id == f't{number}'


def panels_of(layout: Any) -> list[str]:
    if isinstance(layout, str):
        return [layout]
    assert layout['direction'] in ('row', 'column')
    assert 0 < layout['splitPercentage'] < 100
    return panels_of(layout['first']) + panels_of(layout['second'])


@pytest.mark.parametrize('count', [0, 1, 2, 3, 4, 5, 6, 9])
def test_a_layout_shows_each_of_its_panels_once(count: int) -> None:
    topics = [f'/camera{number}/image_raw' for number in range(count)]
    layout = foxglove_layout(topics)
    assert sorted(panels_of(layout['layout'])) == sorted(layout['configById'])
    shown = [
        panel['imageMode']['imageTopic']
        for name, panel in layout['configById'].items()
        if name.startswith('Image!camera')
    ]
    assert shown == topics[:6]


def test_the_layout_names_topics_that_are_in_the_file(bag: Path, tmp_path: Path) -> None:
    (tmp_path / 'run' / 'evidence').mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'run' / 'evidence' / 'a.jpg'), np.zeros((8, 8, 3), np.uint8))
    found = annotate(bag, [bag_line(1, 2.0, evidence='evidence/a.jpg')], tmp_path / 'run')
    panels = json.loads((tmp_path / 'run' / 'foxglove_layout.json').read_text())['configById']
    topics = {
        panel['imageMode']['imageTopic'] for panel in panels.values() if 'imageMode' in panel
    }
    topics |= {
        panels['RosOut!verdict']['topicToRender'],
        panels['RawMessages!report']['topicPath'],
    }
    topics |= {path['value'].split('.')[0] for path in panels['StateTransitions!verdict']['paths']}
    assert topics == {topic for topic, _, _ in found}


def test_the_commands_from_a_recording_to_foxglove(bag: Path, tmp_path: Path) -> None:
    run = tmp_path / 'run'
    arguments = ['evaluate', str(bag), '--output', str(run), '--baseline', 'status']
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, ['annotate', str(run)])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [
        str(run / 'annotated' / 'robot.mcap'),
        str(run / 'foxglove_layout.json'),
    ]
    found = contents(run / 'annotated' / 'robot.mcap')
    ((log_ns, report),) = of_topic(found, REPORT)
    assert (seconds(log_ns), report.verdict) == (2.5, 1)
    assert report.task.task_name == '/pick'
    assert len(of_topic(found, EVIDENCE)) == 1
    # moved since
    bag.rename(tmp_path / 'elsewhere')
    result = CliRunner().invoke(app, ['annotate', str(run)])
    assert isinstance(result.exception, ArmorError)
    assert 'give its path' in str(result.exception)
    (tmp_path / 'disk').mkdir()
    moved = (tmp_path / 'elsewhere').rename(tmp_path / 'disk' / 'robot')
    result = CliRunner().invoke(app, ['annotate', str(run), str(moved)])
    assert result.exit_code == 0, result.output
