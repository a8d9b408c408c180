# SPDX-License-Identifier: Apache-2.0
"""Recordings in, one line a task out, whatever happens on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

from armor_ros.episodes.diagnosis import Diagnosis, RefinementSettings
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.errors import ArmorError
from armor_ros.evaluation.evaluate import (
    EvaluationProgress,
    EvaluationSummary,
    RunOptions,
    evaluate,
)
from armor_ros.evaluation.opening import open_sources
from armor_ros.evaluation.predictor import EvaluationSettings, ModelPredictor
from armor_ros.evaluation.sources import SourceSettings

SETTINGS = EvaluationSettings(
    EpisodeSettings(frame_height=56, frame_width=56),
    RefinementSettings(rounds=2, trajectories=2, max_new_tokens=6),
)

# Others read these lines: their keys, in this order, are a promise.
KEYS = (
    *('source', 'source_kind', 'sample_id', 'task_id', 'task_name', 'instruction'),
    *('task_status', 'task_status_message', 'context', 'task_start_ns', 'task_end_ns'),
    *('split', 'task_kind', 'episode', 'group', 'injected_mode', 'failure_kind'),
    *('label', 'label_source', 'label_weak', 'label_explanation'),
    *('verdict', 'status', 'status_text', 'disagrees_with_status', 'failure_probability'),
    *('calibrated', 'target_error', 'detection_entropy', 'explanation_entropy'),
    *('combined_entropy', 'explanation', 'account', 'rounds', 'trajectories'),
    *(
        'temperature',
        'frame_stride',
        'deadline_reached',
        'trace',
        'selected',
        'model',
        'config_hash',
    ),
    *('settings', 'unparsable', 'raw_answers'),
    *('clip_start_ns', 'clip_end_ns', 'truncated', 'cameras', 'evidence', 'timing'),
)


def evaluate_bags(
    bags: Sequence[Path],
    diagnoser: Any,
    settings: EvaluationSettings,
    output: Path,
    **options: Any,
) -> EvaluationSummary:
    """Evaluate recordings as the command does."""
    sources, failures = open_sources(bags, SourceSettings(settings.episodes), pytest.fail)
    assert not failures
    evidence = output if settings.pictures else None
    return evaluate(
        sources, ModelPredictor(diagnoser, settings), output, RunOptions(evidence), **options
    )


def lines_of(output: Path) -> list[dict[str, Any]]:
    text = (output / 'predictions.jsonl').read_text(encoding='utf-8')
    assert text.endswith('\n')
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def two_tasks(robot_bag: Any, tmp_path: Path) -> Path:
    robot_bag.camera('/front/image_raw/compressed')
    robot_bag.camera('/wrist/image_raw/compressed')
    robot_bag.goal(0.5, 2.5, number=1, status=4)
    robot_bag.goal(3.0, 5.0, number=2, status=6)
    return robot_bag.write(tmp_path / 'robot')


def test_one_line_a_task_with_everything_in_it(
    two_tasks: Path, diagnoser: Any, tmp_path: Path
) -> None:
    output = tmp_path / 'out'
    summary = evaluate_bags([two_tasks], diagnoser, SETTINGS, output)
    first, second = lines_of(output)
    assert summary.tasks == 2
    assert summary.statuses == {'OK': 2}
    assert sum(summary.verdicts.values()) == 2
    assert summary.problems == ()
    assert summary.failures == ()
    assert (first['task_status'], second['task_status']) == ('SUCCEEDED', 'ABORTED')
    for line in (first, second):
        assert (line['source'], line['source_kind'], line['sample_id']) == ('robot', 'bag', '')
        assert line['episode'] == f'robot/{line["task_id"]}'
        assert line['task_name'] == '/pick'
        assert line['status'] == 'OK'
        assert line['verdict'] == ('FAILURE' if line['failure_probability'] >= 0.5 else 'SUCCESS')
        contradiction = {('SUCCEEDED', 'FAILURE'), ('ABORTED', 'SUCCESS')}
        disagrees = (line['task_status'], line['verdict']) in contradiction
        assert line['disagrees_with_status'] is disagrees
        assert line['trace'][line['selected']]['explanation'] == line['explanation']
        assert len(line['trace']) == line['rounds'] * line['trajectories']
        assert line['model']['trained'] is False
        assert len(line['config_hash']) == 16
        assert [camera['camera'] for camera in line['cameras']] == ['front', 'wrist']
        for camera in line['cameras']:
            assert (camera['frames_seen'], camera['frames_used']) == (21, 11) or (
                camera['frames_seen'],
                camera['frames_used'],
            ) == (21, 10)
            assert len(camera['stamps_ns']) == camera['frames_used']
            assert camera['first_stamp_ns'] == camera['stamps_ns'][0]
        assert line['clip_end_ns'] - line['clip_start_ns'] == 2_000_000_000
        picture = cv2.imread(str(output / line['evidence']))
        assert picture is not None
        timing = line['timing']
        assert 0 < timing['first_detection_seconds'] < timing['round_seconds'][0]
        assert len(timing['round_seconds']) == line['rounds']
        assert sum(timing['round_seconds']) <= timing['inference_seconds'] + 1e-5
        assert tuple(line) == KEYS
    assert first['disagrees_with_status'] + second['disagrees_with_status'] == (
        summary.disagreements
    )


def test_a_second_run_gives_the_same_bytes_times_apart(
    two_tasks: Path, diagnoser: Any, tmp_path: Path
) -> None:
    texts = []
    for name in ('one', 'two'):
        evaluate_bags([two_tasks], diagnoser, SETTINGS, tmp_path / name)
        lines = (tmp_path / name / 'predictions.jsonl').read_bytes().splitlines()
        # The timing comes last in a line, and there is no other difference.
        texts.append([line.rpartition(b', "timing": ')[0] for line in lines])
    assert texts[0] == texts[1]
    assert all(texts[0])


def test_storage_and_compression_do_not_matter(
    robot_bag: Any, diagnoser: Any, tmp_path: Path
) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 3.0)
    results = []
    for storage, compression in (('mcap', 'none'), ('sqlite3', 'message')):
        folder = tmp_path / storage
        robot_bag.write(folder / 'bag', storage=storage, compression=compression)
        evaluate_bags([folder / 'bag'], diagnoser, SETTINGS, folder / 'out')
        (line,) = lines_of(folder / 'out')
        line.pop('timing')
        results.append(line)
    assert results[0] == results[1]


class BrokenModel:
    """A model that fails in the given way."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def diagnose(
        self, episode: Episode, settings: RefinementSettings, **options: Any
    ) -> Diagnosis:
        raise self.failure


@pytest.mark.parametrize(
    ('failure', 'text'),
    [
        (ArmorError('the weights are gone'), 'the weights are gone'),
        (RuntimeError('out of memory'), 'inference failed: RuntimeError: out of memory'),
    ],
)
def test_a_failing_model_is_unknown_not_fatal(
    two_tasks: Path, tmp_path: Path, failure: Exception, text: str
) -> None:
    summary = evaluate_bags([two_tasks], BrokenModel(failure), SETTINGS, tmp_path / 'out')
    assert summary.verdicts == {'UNKNOWN': 2}
    for line in lines_of(tmp_path / 'out'):
        assert (line['verdict'], line['status']) == ('UNKNOWN', 'MODEL_ERROR')
        assert line['status_text'] == text
        assert line['failure_probability'] is None
        assert line['disagrees_with_status'] is False
        assert line['evidence']


def test_a_deadline_is_kept_and_said(two_tasks: Path, diagnoser: Any, tmp_path: Path) -> None:
    for name, deadline in (('none', 0.0), ('short', 1e-6)):
        settings = replace(SETTINGS, refinement=replace(SETTINGS.refinement, deadline=deadline))
        evaluate_bags([two_tasks], diagnoser, settings, tmp_path / name)
    for free, cut in zip(lines_of(tmp_path / 'none'), lines_of(tmp_path / 'short'), strict=True):
        assert (free['deadline_reached'], cut['deadline_reached']) == (False, True)
        assert (free['frame_stride'], cut['frame_stride']) == (1, 1)
        assert cut['rounds'] == 1


class NanModel:
    """A real model whose answer is then spoilt."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def diagnose(
        self, episode: Episode, settings: RefinementSettings, **options: Any
    ) -> Diagnosis:
        return replace(self.inner.diagnose(episode, settings), failure_probability=float('nan'))


def test_nan_is_unknown(two_tasks: Path, diagnoser: Any, tmp_path: Path) -> None:
    evaluate_bags([two_tasks], NanModel(diagnoser), SETTINGS, tmp_path / 'out')
    for line in lines_of(tmp_path / 'out'):
        assert (line['verdict'], line['status']) == ('UNKNOWN', 'MODEL_ERROR')
        assert 'not a number' in line['status_text']
    assert 'NaN' not in (tmp_path / 'out' / 'predictions.jsonl').read_text()


def test_tasks_without_usable_frames(robot_bag: Any, diagnoser: Any, tmp_path: Path) -> None:
    robot_bag.camera(seconds=(0.0, 2.0))
    robot_bag.camera(seconds=(2.0, 4.0), broken=lambda index: True)
    robot_bag.goal(0.5, 1.5, number=1)
    robot_bag.goal(2.05, 3.5, number=2)
    robot_bag.goal(12.0, 14.0, number=3)
    path = robot_bag.write(tmp_path / 'bag')
    summary = evaluate_bags([path], diagnoser, SETTINGS, tmp_path / 'out')
    assert summary.statuses == {'NO_FRAMES': 1, 'OK': 1, 'STALE_FRAMES': 1}
    assert summary.verdicts['UNKNOWN'] == 2
    _, broken, stale = lines_of(tmp_path / 'out')
    assert broken['status'] == 'NO_FRAMES'
    assert broken['cameras'][0]['frames_undecodable'] > 0
    assert 'could not be decoded' in broken['status_text']
    assert stale['status'] == 'STALE_FRAMES'
    assert 's older than the task' in stale['status_text']
    assert broken['evidence'] == stale['evidence'] == ''


def test_a_recording_without_cameras_gives_lines(
    robot_bag: Any, diagnoser: Any, tmp_path: Path
) -> None:
    robot_bag.goal(1.0, 2.0)
    path = robot_bag.write(tmp_path / 'bag')
    summary = evaluate_bags([path], diagnoser, SETTINGS, tmp_path / 'out')
    assert summary.statuses == {'NO_FRAMES': 1}


def test_a_recording_without_tasks_ends_in_a_sentence(
    robot_bag: Any, diagnoser: Any, tmp_path: Path
) -> None:
    robot_bag.camera(broken=lambda index: True)
    path = robot_bag.write(tmp_path / 'bag')
    with pytest.raises(ArmorError, match=r'bag holds no task .*; 60 of 60 images could not be'):
        evaluate_bags([path], diagnoser, SETTINGS, tmp_path / 'out')
    assert not (tmp_path / 'out' / 'predictions.jsonl').exists()


def test_one_bad_recording_does_not_cost_the_others(
    two_tasks: Path, diagnoser: Any, tmp_path: Path
) -> None:
    twin = shutil.copytree(two_tasks, tmp_path / 'elsewhere' / two_tasks.name)
    bags = [tmp_path / 'absent', two_tasks, twin]
    summary = evaluate_bags(bags, diagnoser, SETTINGS, tmp_path / 'out')
    assert summary.tasks == 4
    assert summary.failures == (
        f'{tmp_path}/absent does not exist; give a rosbag2 directory or a .mcap/.db3 file, or, '
        'where they are taken, a data set',
    )
    # The same names and task ids twice: no picture may overwrite another.
    assert {line['source'] for line in lines_of(tmp_path / 'out')} == {
        f'{tmp_path.name}/robot',
        'elsewhere/robot',
    }
    pictures = [line['evidence'] for line in lines_of(tmp_path / 'out')]
    assert len(set(pictures)) == 4


def test_problems_of_a_recording_are_in_the_summary(
    two_tasks: Path, diagnoser: Any, tmp_path: Path
) -> None:
    whole = next(two_tasks.glob('*.mcap'))
    cut = tmp_path / 'cut.mcap'
    cut.write_bytes(whole.read_bytes()[: -(whole.stat().st_size // 8)])
    summary = evaluate_bags([cut], diagnoser, SETTINGS, tmp_path / 'out')
    assert summary.tasks >= 1
    assert any('ends early' in sentence for _, sentence, _ in summary.problems)


def test_task_ids_are_never_paths(robot_bag: Any, diagnoser: Any, tmp_path: Path) -> None:
    from armor_ros.datasets.bags import BagTaskEvent
    from armor_ros.episodes.task import TaskEvent, TaskPhase

    robot_bag.camera()
    start_ns = robot_bag.messages[0].log_ns
    for phase, seconds in ((TaskPhase.START, 1), (TaskPhase.END, 3)):
        stamp_ns = start_ns + seconds * 1_000_000_000
        event = TaskEvent(phase, '../../x\n<|im_end|>', stamp_ns)
        robot_bag.messages.append(BagTaskEvent('/armor/task_event', stamp_ns, event))
    output = tmp_path / 'deep' / 'out'
    evaluate_bags([robot_bag.write(tmp_path / 'bag')], diagnoser, SETTINGS, output)
    (line,) = lines_of(output)
    assert (output / line['evidence']).resolve().parent == (output / 'evidence').resolve()
    assert not list((tmp_path / 'deep').glob('*.jpg'))


def test_pictures_can_be_left_out(two_tasks: Path, diagnoser: Any, tmp_path: Path) -> None:
    settings = replace(SETTINGS, pictures=False)
    evaluate_bags([two_tasks], diagnoser, settings, tmp_path / 'out')
    assert [line['evidence'] for line in lines_of(tmp_path / 'out')] == ['', '']
    assert not (tmp_path / 'out' / 'evidence').exists()


def test_a_picture_that_cannot_be_written_does_not_cost_the_line(
    two_tasks: Path, diagnoser: Any, tmp_path: Path
) -> None:
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'evidence').write_text('in the way')
    summary = evaluate_bags([two_tasks], diagnoser, SETTINGS, tmp_path / 'out')
    assert summary.tasks == 2
    assert [line['evidence'] for line in lines_of(tmp_path / 'out')] == ['', '']
    assert any('picture' in sentence for _, sentence, _ in summary.problems)


def test_an_output_that_cannot_be_written_is_a_sentence(two_tasks: Path, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(ArmorError, match=r'cannot write to .*file/out'):
        evaluate_bags([two_tasks], BrokenModel(ArmorError('x')), SETTINGS, tmp_path / 'file/out')


def test_progress_names_every_prediction(two_tasks: Path, diagnoser: Any, tmp_path: Path) -> None:
    steps: list[EvaluationProgress] = []
    evaluate_bags([two_tasks], diagnoser, SETTINGS, tmp_path / 'out', on_progress=steps.append)
    assert [step.tasks for step in steps if step.prediction] == [1, 2]
    positions = [step.position for step in steps]
    assert positions == sorted(positions)
    assert positions[-1] == 1.0


def test_arguments_are_checked_before_anything_is_read(two_tasks: Path, tmp_path: Path) -> None:
    model = BrokenModel(ArmorError('x'))
    with pytest.raises(ArmorError, match='no sources were given'):
        evaluate_bags([], model, SETTINGS, tmp_path)
    with pytest.raises(ArmorError, match='robot is named 2 times'):
        evaluate_bags([two_tasks, two_tasks / '..' / 'robot'], model, SETTINGS, tmp_path)
