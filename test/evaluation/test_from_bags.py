# SPDX-License-Identifier: Apache-2.0
"""What robots recorded at work becomes a data set, and their doubtful tasks a list to label."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_labels import label_event, write_label_events
from typer.testing import CliRunner

from armor_ros.cli import app
from armor_ros.datasets.bag_reports import REPORT_TYPE
from armor_ros.datasets.bag_writer import BagWriter
from armor_ros.datasets.bags import Bag, BagTaskEvent
from armor_ros.datasets.detect import open_data_set
from armor_ros.datasets.manifest import Sample, read_manifest, read_view
from armor_ros.datasets.typestore import armor_types
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus
from armor_ros.errors import ArmorError
from armor_ros.evaluation import taking_in
from armor_ros.evaluation.from_bags import FromBagsRequest, make_data_set
from armor_ros.evaluation.opinions import Opinion, find_opinion
from armor_ros.evaluation.report_message import failure_report
from armor_ros.parameters import MonitorParameters

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
SUCCEEDED, CANCELED, ABORTED = 4, 5, 6


def goal(number: int, action: str = '/pick') -> str:
    return f'{action}/{number:032x}'


def request_of(output: Path, *bags: Path, **options: Any) -> FromBagsRequest:
    parameters = MonitorParameters(instructions=['*=lift the can'])
    return FromBagsRequest(bags, output, **{'parameters': parameters, **options})


def questions_in(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / 'to_label.jsonl').read_text().splitlines()]


def content_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob('*')) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def by_id(output: Path) -> dict[str, Sample]:
    return {sample.id.partition('/')[2]: sample for sample in read_manifest(output)}


def report(number: int, end: float, verdict: str, probability: float | None, **told: Any) -> Any:
    """A line of a run about one goal, which serves as a recorded report, too."""
    return {
        'source': 'bag',
        'task_id': goal(number),
        'task_end_ns': START + round(end * SECOND),
        'verdict': verdict,
        'label': None,
        'failure_probability': probability,
        'explanation': 'the can slipped',
        'evidence': 'evidence/1.jpg',
        **told,
    }


def write_with_reports(
    robot_bag: Any,
    path: Path,
    lines: Sequence[Any],
    change: Callable[[Any], Any] = lambda message: message,
) -> Path:
    with BagWriter(path) as writer:
        for message in sorted(robot_bag.messages, key=lambda each: each.log_ns):
            writer.write(message)
        types = armor_types()
        for number, line in enumerate(lines):
            message = change(types.deserialize_cdr(failure_report(line), REPORT_TYPE))
            data = bytes(types.serialize_cdr(message, REPORT_TYPE))
            writer.write_raw(
                '/armor/failure_report', REPORT_TYPE, START + 9 * SECOND + number, data
            )
    return path


def two_goals(robot_bag: Any, path: Path) -> Path:
    """A recording of one goal that succeeded and one that was aborted."""
    robot_bag.messages.clear()
    robot_bag.camera()
    robot_bag.goal(1.0, 2.0, SUCCEEDED, number=1)
    robot_bag.goal(3.0, 4.0, ABORTED, number=2)
    return robot_bag.write(path)


def test_what_the_robot_says_becomes_sparse_samples(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    robot_bag.camera('/wrist/image_raw/compressed')
    for number, status in enumerate((SUCCEEDED, CANCELED, ABORTED), 1):
        robot_bag.goal(number, number + 0.8, status, number=number)
    for phase, seconds in ((TaskPhase.START, 4.2), (TaskPhase.END, 4.8)):
        stamp_ns = START + round(seconds * SECOND)
        event = TaskEvent(phase, 'order 7', stamp_ns, 'stack', 'stack the cups')
        if phase is TaskPhase.END:
            event = dataclasses.replace(event, status=TaskStatus.SUCCEEDED)
        robot_bag.messages.append(BagTaskEvent('/armor/task_event', stamp_ns, event))
    output = tmp_path / 'data'
    summary = make_data_set(request_of(output, robot_bag.write(tmp_path / 'bag')))
    assert summary.left_out == {'canceled': 1}
    assert dict(summary.samples) == {
        ('train', 'success', 'sparse'): 2,
        ('train', 'failure', 'sparse'): 1,
    }
    good, bad, event = read_manifest(output)
    assert (good.id, good.label, good.robot_status) == (f'bag/{goal(1)}', 'success', 'SUCCEEDED')
    assert (bad.id, bad.label, bad.robot_status) == (f'bag/{goal(3)}', 'failure', 'ABORTED')
    assert (event.id, event.instruction, event.task) == ('bag/order 7', 'stack the cups', 'stack')
    for sample in (good, bad, event):
        assert (sample.weak, sample.dense, sample.fps, sample.split) == (True, False, 5.0, 'train')
        assert (sample.source, sample.group) == ('bag', 'bag')
        for view in ('front', 'wrist'):
            assert read_view(output, sample, view).shape == (sample.frames, 24, 32, 3)
    assert (good.instruction, good.task, good.frames) == ('lift the can', 'pick', 5)
    assert [record.weak for record in open_data_set(output).records()] == [True] * 3
    # a canceled task may be told of later, a failure may be explained
    assert [(each['task_id'], each['reason']) for each in questions_in(output)] == [
        (goal(2), 'no label'),
        (goal(3), 'no explanation'),
    ]


def test_what_was_aborted_before_anything_moved_is_left_out(
    robot_bag: Any, tmp_path: Path
) -> None:
    bag = two_goals(robot_bag, tmp_path / 'moving')
    still = robot_bag.messages[0].image
    robot_bag.messages = [
        dataclasses.replace(each, image=still) if hasattr(each, 'image') else each
        for each in robot_bag.messages
    ]
    bag = robot_bag.write(tmp_path / 'bag')
    output = tmp_path / 'data'
    summary = make_data_set(request_of(output, bag))
    assert summary.left_out == {'aborted before anything moved': 1}
    assert list(by_id(output)) == [goal(1)]
    assert questions_in(output) == []
    # who was there knows better
    told = tmp_path / 'told.csv'
    told.write_text(f'task_id,label\n{goal(2)},failure\n')
    make_data_set(request_of(output, bag, labels=[told]))
    assert by_id(output)[goal(2)].label == 'failure'


def test_a_second_run_reads_nothing_and_changes_nothing(
    robot_bag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = [two_goals(robot_bag, tmp_path / 'monday')]
    robot_bag.goal(4.5, 5.0, number=3)
    bags.append(robot_bag.write(tmp_path / 'tuesday', storage='sqlite3'))
    positions: list[float] = []
    make_data_set(request_of(tmp_path / 'one', *bags), positions.append)
    assert 0 <= min(positions) < 0.1
    assert 0.9 < max(positions) <= 1
    make_data_set(request_of(tmp_path / 'two', *bags))
    assert content_of(tmp_path / 'one') == content_of(tmp_path / 'two')
    monkeypatch.delattr(taking_in, 'take_in')
    make_data_set(request_of(tmp_path / 'one', *bags))
    assert content_of(tmp_path / 'one') == content_of(tmp_path / 'two')
    # the same goals are in both recordings: they are learned once
    assert [sample.source for sample in read_manifest(tmp_path / 'one')] == [
        'monday',
        'monday',
        'tuesday',
    ]


def test_labels_given_later_are_merged_without_reading_again(
    robot_bag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = two_goals(robot_bag, tmp_path / 'bag')
    output = tmp_path / 'data'
    make_data_set(request_of(output, bag))
    clips = content_of(output / 'clips')
    monkeypatch.delattr(taking_in, 'take_in')
    # what the node wrote for a call of label_task
    row = {'task_id': goal(1), 'label': 'failure', 'explanation': 'it fell', 'labelled_at_ns': 1}
    (bag / 'labels.jsonl').write_text(json.dumps(row) + '\n')
    summary = make_data_set(request_of(output, bag))
    sample = by_id(output)[goal(1)]
    assert (sample.label, sample.explanation, sample.weak) == ('failure', 'it fell', False)
    assert sample.robot_status == 'SUCCEEDED'
    assert summary.samples['train', 'failure', 'dense'] == 1
    sheet = tmp_path / 'labels.csv'
    sheet.write_text(
        f'task_id,label,explanation\n{goal(1)},success,\n{goal(2)},failure,it slid\n'
        'other,success,\n'
    )
    summary = make_data_set(request_of(output, bag, labels=[sheet]))
    assert summary.unknown == ['other']
    samples = by_id(output)
    assert (samples[goal(1)].label, samples[goal(1)].explanation) == ('success', None)
    assert (samples[goal(2)].label, samples[goal(2)].explanation) == ('failure', 'it slid')
    assert questions_in(output) == []
    assert content_of(output / 'clips') == clips
    # broken labels beside a recording cost these labels only
    (bag / 'labels.jsonl').write_text('{')
    summary = make_data_set(request_of(output, bag))
    assert by_id(output)[goal(1)].weak
    assert any('line 1 is not valid JSON' in note for note in summary.notes)


def test_recorded_calls_of_label_task_become_dense_samples(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 3.0)
    with BagWriter(tmp_path / 'bag') as writer:
        for message in sorted(robot_bag.messages, key=lambda each: each.log_ns):
            writer.write(message)
        write_label_events(writer, (START + 9 * SECOND, label_event(goal(1), 2, 'it fell')))
    # also on the second run, which takes them from what is kept
    for _ in range(2):
        make_data_set(request_of(tmp_path / 'data', tmp_path / 'bag'))
        (sample,) = read_manifest(tmp_path / 'data')
        assert (sample.label, sample.explanation, sample.weak) == ('failure', 'it fell', False)


def test_disagreements_come_first_the_surest_before_the_others(
    robot_bag: Any, tmp_path: Path
) -> None:
    robot_bag.camera()
    statuses = (SUCCEEDED, SUCCEEDED, ABORTED, SUCCEEDED, SUCCEEDED, CANCELED, ABORTED)
    for number, status in enumerate(statuses, 1):
        robot_bag.goal(number * 0.7, number * 0.7 + 0.5, status, number=number)
    ends = {number: number * 0.7 + 0.5 for number in range(1, 8)}
    lines = [
        report(1, ends[1], 'SUCCESS', 0.1),
        report(2, ends[2], 'FAILURE', 0.75, explanation='it slid'),
        report(3, ends[3], 'SUCCESS', 0.04),
        # the last word counts
        report(4, ends[4], 'SUCCESS', 0.2),
        report(4, ends[4], 'FAILURE', 0.9),
        report(5, ends[5], 'ABSTAIN', 0.55),
        report(6, ends[6], 'FAILURE', 0.99),
        # of another run of a task of that name
        report(7, ends[7] + 3600, 'SUCCESS', 0.01),
    ]
    bag = write_with_reports(robot_bag, tmp_path / 'bag', lines)
    output = tmp_path / 'data'
    summary = make_data_set(request_of(output, bag))
    told = questions_in(output)
    assert [(each['task_id'], each['reason']) for each in told] == [
        (goal(3), 'disagreement'),
        (goal(4), 'disagreement'),
        (goal(2), 'disagreement'),
        (goal(5), 'abstention'),
        (goal(6), 'no label'),
        (goal(7), 'no explanation'),
    ]
    assert [dataclasses.asdict(each) for each in summary.questions] == told
    third = told[2]
    assert (third['status'], third['verdict']) == ('SUCCEEDED', 'FAILURE')
    assert third['failure_probability'] == pytest.approx(0.75)
    assert (third['report'], third['evidence']) == ('it slid', 'evidence/1.jpg')
    assert (output / third['views']['front']).is_file()
    assert told[5]['verdict'] == ''
    # the answer to one takes it from the list
    sheet = tmp_path / 'labels.csv'
    sheet.write_text(f'task_id,label,explanation\n{goal(4)},failure,it fell\n')
    make_data_set(request_of(output, bag, labels=[sheet]))
    assert [each['task_id'] for each in questions_in(output)[:2]] == [goal(3), goal(2)]
    assert by_id(output)[goal(4)].explanation == 'it fell'


@pytest.mark.parametrize(
    'change', [{'provisional': True}, {'failure_probability': float('nan')}, {'verdict': 9}]
)
def test_what_is_no_final_report_says_nothing(
    robot_bag: Any, tmp_path: Path, change: dict[str, Any]
) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 2.0)
    lines = [report(1, 2.0, 'FAILURE', 0.9)]
    kept = write_with_reports(robot_bag, tmp_path / 'kept', lines)
    changed = write_with_reports(
        robot_bag,
        tmp_path / 'changed',
        lines,
        lambda message: dataclasses.replace(message, **change),
    )
    with Bag(kept) as bag:
        assert [each.verdict.name for each in bag.reports()] == ['FAILURE']
    with Bag(changed) as bag:
        assert list(bag.reports()) == []
        assert sum(bag.problems.values()) == ('provisional' not in change)


def test_a_run_of_evaluate_counts_before_recorded_reports(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    for number in (1, 2):
        robot_bag.goal(number * 2.0, number * 2.0 + 1, number=number)
    lines = [report(number, number * 2.0 + 1, 'FAILURE', 0.6) for number in (1, 2)]
    bag = write_with_reports(robot_bag, tmp_path / 'bag', lines)
    run = tmp_path / 'run'
    run.mkdir()
    rows = [report(1, 3.0, 'SUCCESS', 0.1), report(2, 5.0, 'FAILURE', 0.8, source_kind='bag')]
    (run / 'predictions.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    make_data_set(request_of(tmp_path / 'data', bag, reports=[run]))
    (only,) = questions_in(tmp_path / 'data')
    assert (only['task_id'], only['failure_probability']) == (goal(2), 0.8)
    assert only['evidence'] == str(run / 'evidence/1.jpg')
    rows = [{**row, 'source_kind': 'manifest'} for row in rows]
    (run / 'predictions.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    with pytest.raises(ArmorError, match='made from data sets; give a run on recordings'):
        make_data_set(request_of(tmp_path / 'data', bag, reports=[run]))


def test_an_opinion_is_of_the_named_recording_first_then_of_the_nearest_end() -> None:
    there = Opinion('t', 100, 'SUCCESS', source='there')
    here = Opinion('t', 10**9, 'FAILURE', source='here')
    assert find_opinion([there, here], 'here', 't', 0) is here
    assert find_opinion([there, here], 'elsewhere', 't', 0) is there
    assert find_opinion([there, here], 'here', 'u', 0) is None
    assert find_opinion([here], 'here', 't', 10**10) is None


def test_no_recording_is_in_two_splits(robot_bag: Any, tmp_path: Path) -> None:
    bags = []
    for number in range(8):
        robot_bag.messages.clear()
        robot_bag.camera(seconds=(0.0, 2.0))
        for index in range(2):
            robot_bag.goal(0.2 + index, 0.8 + index, number=10 * number + index)
        bags.append(robot_bag.write(tmp_path / f'bag{number}'))
    output = tmp_path / 'data'
    make_data_set(request_of(output, *bags, validation=0.5, split='robot'))
    first = {sample.id: sample.split for sample in read_manifest(output)}
    assert len(first) == 16
    splits = {bag.name: {s for n, s in first.items() if n.startswith(bag.name)} for bag in bags}
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {'robot', 'validation'}
    # validated is with what people say, of all tasks alike
    asked = {(each['task_id'], each['reason'], each['split']) for each in questions_in(output)}
    assert asked == {
        (name.partition('/')[2], 'validation', split)
        for name, split in first.items()
        if split == 'validation'
    }
    make_data_set(request_of(output, *bags, split='test_robot'))
    assert {each['reason'] for each in questions_in(output)} == {'validation'}
    assert len(questions_in(output)) == 16
    # where it lies and what else there is does not matter
    moved = shutil.copytree(bags[3], tmp_path / 'moved')
    make_data_set(request_of(tmp_path / 'other', moved, validation=0.5, split='robot'))
    found = {sample.split for sample in read_manifest(tmp_path / 'other')}
    assert found == splits['bag3']


def test_an_interrupted_run_goes_on(
    robot_bag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = [two_goals(robot_bag, tmp_path / 'a')]
    robot_bag.goal(4.5, 5.0, number=3)
    bags.append(robot_bag.write(tmp_path / 'b'))
    make_data_set(request_of(tmp_path / 'whole', *bags))
    real = taking_in.take_in
    read: list[str] = []

    def interrupted(path: Path, *arguments: Any) -> Any:
        if path.name == 'b' and not read.count('b'):
            read.append('b')
            raise KeyboardInterrupt
        read.append(path.name)
        return real(path, *arguments)

    monkeypatch.setattr(taking_in, 'take_in', interrupted)
    monkeypatch.setattr(taking_in, '_WORKERS', 1)
    with pytest.raises(KeyboardInterrupt):
        make_data_set(request_of(tmp_path / 'data', *bags))
    assert not (tmp_path / 'data' / 'manifest.jsonl').exists()
    make_data_set(request_of(tmp_path / 'data', *bags))
    assert read == ['a', 'b', 'b']
    assert content_of(tmp_path / 'data') == content_of(tmp_path / 'whole')


def test_what_is_lost_is_made_again(robot_bag: Any, tmp_path: Path) -> None:
    bag = two_goals(robot_bag, tmp_path / 'bag')
    output = tmp_path / 'data'
    make_data_set(request_of(output, bag))
    whole = content_of(output)
    next((output / 'clips').rglob('*.mp4')).unlink()
    make_data_set(request_of(output, bag))
    assert content_of(output) == whole
    (known,) = (output / 'recordings').iterdir()
    for broken in ('', '{', '[]', '{"key": 3}', '[' * 100_000):
        known.write_text(broken)
        make_data_set(request_of(output, bag))
        assert content_of(output) == whole


def test_a_bad_recording_does_not_cost_the_others(robot_bag: Any, tmp_path: Path) -> None:
    good = two_goals(robot_bag, tmp_path / 'good')
    garbage = tmp_path / 'garbage.mcap'
    garbage.write_bytes(bytes(range(256)) * 9)
    robot_bag.messages.clear()
    robot_bag.camera()
    idle = robot_bag.write(tmp_path / 'idle')
    copy = shutil.copytree(good, tmp_path / 'copy')
    cut = tmp_path / 'cut.mcap'
    whole = next(good.glob('*.mcap')).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'folder').mkdir()
    output = tmp_path / 'data'
    bags = (good, garbage, idle, copy, cut, tmp_path / 'absent', tmp_path / 'folder')
    summary = make_data_set(request_of(output, *bags))
    assert [sample.source for sample in read_manifest(output)] == ['good', 'good']
    notes = ' | '.join(summary.notes)
    assert 'copy is left out: it is a copy of' in notes
    assert 'idle holds no task that ended' in notes
    assert summary.left_out == {'recorded in another of these recordings too': 1}
    failures = ' | '.join(summary.failures)
    for name in ('garbage.mcap', 'absent', 'folder is no recording'):
        assert name in failures, failures


def test_ids_are_never_paths(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    for name, start in (('../../../x', 1.0), ('/etc/x', 2.0), ('../../../x', 3.0)):
        for phase, seconds in ((TaskPhase.START, start), (TaskPhase.END, start + 0.6)):
            stamp_ns = START + round(seconds * SECOND)
            event = TaskEvent(phase, name, stamp_ns, status=TaskStatus.SUCCEEDED)
            robot_bag.messages.append(BagTaskEvent('/armor/task_event', stamp_ns, event))
    bag = robot_bag.write(tmp_path / 'deep' / 'bag')
    output = tmp_path / 'deep' / 'data'
    summary = make_data_set(request_of(output, bag, parameters=MonitorParameters()))
    samples = read_manifest(output)
    ids = ['bag/../../../x', 'bag//etc/x', 'bag/../../../x#2']
    assert [sample.id for sample in samples] == ids
    assert len({sample.views['front'] for sample in samples}) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ['deep']
    assert sorted(path.name for path in (tmp_path / 'deep').iterdir()) == ['bag', 'data']
    assert summary.notes['tasks without instruction: give --instruction, or send TaskEvents'] == 3


def test_mistakes_are_named(robot_bag: Any, tmp_path: Path) -> None:
    bag = two_goals(robot_bag, tmp_path / 'bag')
    output = tmp_path / 'data'
    make_data_set(request_of(output, bag))
    before = content_of(output)
    with pytest.raises(ArmorError, match=r'made with other settings .* choose another output'):
        make_data_set(request_of(output, bag, size=(20, 20)))
    with pytest.raises(ArmorError, match=r'validation is 1; .* less than 1'):
        make_data_set(request_of(output, bag, validation=1.0))
    with pytest.raises(ArmorError, match='named 2 times'):
        make_data_set(request_of(output, bag, bag))
    with pytest.raises(ArmorError, match='absent does not exist'):
        make_data_set(request_of(output, tmp_path / 'absent'))
    with pytest.raises(ArmorError, match=r'there is no .*no_run'):
        make_data_set(request_of(output, bag, reports=[tmp_path / 'no_run']))
    assert content_of(output) == before
    with pytest.raises(ArmorError, match='is not empty; choose another folder'):
        make_data_set(request_of(bag, bag))
    robot_bag.messages.clear()
    robot_bag.camera()
    robot_bag.goal(1.0, 2.0, CANCELED)
    with pytest.raises(ArmorError, match='no task has a label: canceled'):
        make_data_set(request_of(tmp_path / 'none', robot_bag.write(tmp_path / 'canceled')))


def test_the_command(robot_bag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('COLUMNS', '120')
    robot_bag.camera()
    robot_bag.goal(1.0, 2.0)
    bag = write_with_reports(robot_bag, tmp_path / 'bag', [report(1, 2.0, 'FAILURE', 0.93)])
    parameters = tmp_path / 'monitor.yaml'
    parameters.write_text('/**:\n  ros__parameters:\n    instructions: ["/pick=lift the can"]\n')
    arguments = ['dataset', 'from-bags', str(bag), '--output', str(tmp_path / 'data')]
    arguments += ['--params-file', str(parameters), '--size', '24x16', '--validation', '1e-9']
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for text in ('1 samples', 'SUCCEEDED', 'FAILURE p 0.93', 'the can slipped', 'disagreement'):
        assert text in result.output, result.output
    assert 'No recording fell into validation' in result.output
    (sample,) = read_manifest(tmp_path / 'data')
    assert sample.instruction == 'lift the can'
    assert read_view(tmp_path / 'data', sample, 'front').shape[1:] == (16, 24, 3)
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / 'absent.mcap')])
    assert result.exit_code == 1
    assert 'absent.mcap does not exist' in str(result.exception)
