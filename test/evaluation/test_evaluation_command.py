# SPDX-License-Identifier: Apache-2.0
"""``armor evaluate`` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from armor_ros.cli import app
from armor_ros.errors import ArmorError
from armor_ros.evaluation.command import (
    EvaluationRequest,
    evaluation_parameters,
    run_evaluation,
)
from armor_ros.evaluation.outcome import OutcomeOptions
from armor_ros.parameters import BUNDLED

PARAMETERS = """
/**:
  ros__parameters:
    frame_height: 56
    frame_width: 56
    rounds: 1
    trajectories: 1
    max_new_tokens: 4
    checkpoint: {checkpoint}
"""


def test_the_command_writes_predictions(
    robot_bag: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 3.0)
    bag = robot_bag.write(tmp_path / 'bag')
    parameters = tmp_path / 'monitor.yaml'
    parameters.write_text(PARAMETERS.format(checkpoint=tiny_checkpoint))
    arguments = ['evaluate', str(bag), '--output', str(tmp_path / 'out')]
    arguments += ['--params-file', str(parameters), '--camera', 'eye=/front/image_raw/compressed']
    arguments += ['--instruction', '/pick=pick up the [red] can', '--device', 'cpu']
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert '1 tasks: 1 ' in result.stderr
    assert 'never trained' in result.stderr
    (text,) = (tmp_path / 'out' / 'predictions.jsonl').read_text().splitlines()
    line = json.loads(text)
    assert line['instruction'] == 'pick up the [red] can'
    assert [camera['camera'] for camera in line['cameras']] == ['eye']


def test_a_recording_without_tasks_fails_the_command(
    robot_bag: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    robot_bag.camera(seconds=(0.0, 0.5))
    bag = robot_bag.write(tmp_path / 'bag')
    arguments = ['evaluate', str(bag), '--output', str(tmp_path / 'out')]
    result = CliRunner().invoke(app, [*arguments, '--checkpoint', str(tiny_checkpoint)])
    assert result.exit_code == 1
    assert isinstance(result.exception, ArmorError)
    assert 'holds no task' in str(result.exception)


def test_arguments_win_over_the_parameters_file(tmp_path: Path) -> None:
    file = tmp_path / 'monitor.yaml'
    file.write_text(PARAMETERS.format(checkpoint='of/the/file'))
    request = EvaluationRequest([], tmp_path, params_file=file)
    assert evaluation_parameters(request).checkpoint == 'of/the/file'
    merged = evaluation_parameters(replace(request, checkpoint='mine', quantization='8bit'))
    assert (merged.checkpoint, merged.quantization, merged.rounds) == ('mine', '8bit', 1)


def test_without_a_checkpoint_the_model_of_the_package_is_asked(tmp_path: Path) -> None:
    assert evaluation_parameters(EvaluationRequest([], tmp_path)).checkpoint == BUNDLED
    baselines = EvaluationRequest([], tmp_path, baselines=('majority',))
    assert evaluation_parameters(baselines).checkpoint == ''


def test_a_file_that_names_no_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / 'monitor.yaml'
    file.write_text(PARAMETERS.format(checkpoint="''"))
    with pytest.raises(ArmorError, match='no model: give --checkpoint'):
        evaluation_parameters(EvaluationRequest([], tmp_path, params_file=file))


@pytest.fixture
def request_for(robot_bag: Any, tmp_path: Path) -> Callable[..., EvaluationRequest]:
    """A request on a recording of two tasks, without a model."""
    robot_bag.camera()
    robot_bag.goal(0.5, 2.0, number=1)
    robot_bag.goal(3.0, 5.0, number=2, status=6)
    bag = robot_bag.write(tmp_path / 'bag')

    def make(**options: Any) -> EvaluationRequest:
        options.setdefault('baselines', ['status'])
        return EvaluationRequest([bag], tmp_path / 'out', **options)

    return make


def test_without_a_model_the_first_baseline_takes_its_place(
    request_for: Callable[..., EvaluationRequest], tmp_path: Path
) -> None:
    outcome = OutcomeOptions(annotate=True)
    run_evaluation(request_for(baselines=['status', 'always-failure'], outcome=outcome))
    output = tmp_path / 'out'
    own, other = (
        [json.loads(line) for line in (path / 'predictions.jsonl').read_text().splitlines()]
        for path in (output, output / 'baselines' / 'always-failure')
    )
    assert [line['verdict'] for line in own] == ['SUCCESS', 'FAILURE']
    assert [line['verdict'] for line in other] == ['FAILURE', 'FAILURE']
    assert {line['model']['model_id'] for line in own} == {'status'}
    assert [line['disagrees_with_status'] for line in other] == [True, False]
    for line in (*own, *other):
        assert (line['failure_probability'], line['trace'], line['rounds']) == (None, [], 0)
        assert (output / line['evidence']).is_file()
    metrics = json.loads((output / 'metrics.json').read_text())
    assert metrics['counts']['tasks'] == 2
    assert (output / 'baselines' / 'always-failure' / 'metrics.json').is_file()
    assert (output / 'report.html').is_file()
    assert list((output / 'annotated').glob('*.mcap'))
    told = json.loads((output / 'run.json').read_text())
    assert told['answered_by'] == 'status'
    assert told['sources'] == [{'name': 'bag', 'kind': 'bag', 'path': str(tmp_path / 'bag')}]


def test_a_run_that_answered_nothing_does_not_take_the_folder(
    request_for: Callable[..., EvaluationRequest], robot_bag: Any, tmp_path: Path
) -> None:
    request = request_for()
    robot_bag.messages.clear()
    robot_bag.camera(seconds=(0.0, 0.5))
    nothing = robot_bag.write(tmp_path / 'nothing')
    with pytest.raises(ArmorError, match='holds no task'):
        run_evaluation(replace(request, sources=[nothing]))
    picture = tmp_path / 'out' / 'evidence' / 'of-the-other.jpg'
    picture.parent.mkdir(exist_ok=True)
    picture.touch()
    run_evaluation(replace(request, baselines=['always-success']))
    told = json.loads((tmp_path / 'out' / 'run.json').read_text())
    assert told['answered_by'] == 'always-success'
    assert not picture.exists()


def test_finished_parts_are_not_lost_to_another_run(
    request_for: Callable[..., EvaluationRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        # all parts are finished, and not yet put together
        patched.setattr('armor_ros.evaluation.evaluate._merge', interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_evaluation(request)
    assert not (tmp_path / 'out' / 'predictions.jsonl').exists()
    with pytest.raises(ArmorError, match='holds another run: other model'):
        run_evaluation(replace(request, baselines=['always-success']))
    run_evaluation(request)


def test_a_data_set_is_no_folder_for_a_run(
    request_for: Callable[..., EvaluationRequest], tmp_path: Path
) -> None:
    request = request_for()
    for place in (tmp_path / 'bag', tmp_path / 'data'):
        place.mkdir(exist_ok=True)
        if place.name == 'data':
            (place / 'manifest.jsonl').touch()
        before = sorted(place.iterdir())
        with pytest.raises(ArmorError, match='holds a data set or a recording; give the run a f'):
            run_evaluation(replace(request, output=place, overwrite=True))
        assert sorted(place.iterdir()) == before


def test_another_run_does_not_overwrite_one_unasked(
    request_for: Callable[..., EvaluationRequest], tmp_path: Path
) -> None:
    run_evaluation(request_for())
    stale = tmp_path / 'out' / 'baselines' / 'x'
    stale.mkdir(parents=True)
    notes = tmp_path / 'out' / 'notes.txt'
    notes.write_text('mine')
    run_evaluation(request_for())
    with pytest.raises(
        ArmorError, match=r'other model \(model.model_id was .status., and is .*--overwrite'
    ):
        run_evaluation(request_for(baselines=['always-success']))
    with pytest.raises(
        ArmorError, match=r'run: other settings \(settings.cameras had 0 entries, and has 1\)'
    ):
        run_evaluation(request_for(cameras=['eye=/front/image_raw/compressed']))
    run_evaluation(request_for(baselines=['always-success'], overwrite=True))
    assert not stale.exists()
    assert notes.read_text() == 'mine'


def test_labels_of_unknown_tasks_are_named(
    request_for: Callable[..., EvaluationRequest],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sheet = tmp_path / 'sheet.csv'
    sheet.write_text(f'task_id,label\n/pick/{1:032x},failure\n/pick/typo,success\n')
    run_evaluation(request_for(labels=[sheet]))
    assert '1 labels are of no task here: /pick/typo' in capsys.readouterr().err
    lines = (tmp_path / 'out' / 'predictions.jsonl').read_text().splitlines()
    labels = [(json.loads(line)['label'], json.loads(line)['label_source']) for line in lines]
    assert labels == [('failure', 'sidecar'), ('failure', 'status')]


def test_a_broken_limit_fails_the_command_after_everything_is_written(
    request_for: Callable[..., EvaluationRequest], tmp_path: Path
) -> None:
    limits = tmp_path / 'limits.yaml'
    limits.write_text('counts.tasks: {min: 3}\n')
    with pytest.raises(ArmorError, match=r'counts\.tasks is 2; it must be at least 3'):
        run_evaluation(request_for(outcome=OutcomeOptions(limits=limits, aha=True)))
    rows = (tmp_path / 'out' / 'aha_predictions.jsonl').read_text().splitlines()
    assert [json.loads(row) for row in rows] == [
        {'question_id': f'/pick/{1:032x}', 'text': 'Yes, the robot succeed at the sub-task.'},
        {'question_id': f'/pick/{2:032x}', 'text': 'No'},
    ]
    assert not (tmp_path / 'out' / 'parts').exists()


def test_what_is_wrong_with_files_is_told_before_the_model_is_loaded(
    request_for: Callable[..., EvaluationRequest], tmp_path: Path
) -> None:
    for options, message in (
        ({'labels': [tmp_path / 'absent.csv']}, 'cannot read the labels'),
        ({'outcome': OutcomeOptions(limits=tmp_path / 'absent.yaml')}, 'absent.yaml'),
        ({'outcome': OutcomeOptions(judges=['oracle'])}, "judge 'oracle' is not known"),
        ({'baselines': ['coin']}, "baseline 'coin' is not known"),
    ):
        with pytest.raises(ArmorError, match=message):
            run_evaluation(request_for(**options))
        assert not (tmp_path / 'out' / 'predictions.jsonl').exists()
