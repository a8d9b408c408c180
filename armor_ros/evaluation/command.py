# SPDX-License-Identifier: Apache-2.0
"""``armor evaluate``: recordings through the model, with a progress bar and a summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from armor_ros.episodes.diagnosis import ModelInfo
from armor_ros.errors import ArmorError
from armor_ros.evaluation.evaluate import (
    EvaluationProgress,
    EvaluationSettings,
    EvaluationSummary,
    evaluate_bags,
)
from armor_ros.evaluation.prediction import Prediction
from armor_ros.parameters import MonitorParameters, Value, read_parameters


def run_evaluation(
    bags: Sequence[Path],
    *,
    output: Path,
    checkpoint: str = '',
    params_file: Path | None = None,
    cameras: Sequence[str] = (),
    instructions: Sequence[str] = (),
    quantization: str = '',
    device: str = '',
) -> None:
    """
    Evaluate recordings with the settings of a monitor, and print what came out.

    Arguments that are not empty win over the parameters file. Raises ArmorError for bad settings,
    and at the end when a recording gave no task.
    """
    parameters = evaluation_parameters(
        params_file,
        checkpoint=checkpoint,
        cameras=cameras,
        instructions=instructions,
        quantization=quantization,
        device=device,
    )
    # Torch is imported only when there is something to do for it.
    from armor_ros.inference.diagnoser import Diagnoser
    from armor_ros.model.checkpoint import load_checkpoint

    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        work = bar.add_task('loading the model', total=None)
        model = load_checkpoint(
            parameters.checkpoint,
            quantization=parameters.quantization,
            device=parameters.device,
        )
        summary = evaluate_bags(
            bags,
            Diagnoser(model, usual_explanations=parameters.explanations()),
            EvaluationSettings(parameters.episode_settings(), parameters.refinement_settings()),
            output,
            cameras=parameters.camera_configs() or None,
            on_progress=_Display(bar, work),
        )
    _print_summary(console, summary, model.info)
    if summary.failures:
        raise ArmorError('\n'.join(summary.failures))


def evaluation_parameters(
    params_file: Path | None,
    *,
    checkpoint: str = '',
    cameras: Sequence[str] = (),
    instructions: Sequence[str] = (),
    quantization: str = '',
    device: str = '',
) -> MonitorParameters:
    """Return the monitor's parameters from its file and the arguments; ArmorError if bad."""
    values: dict[str, Value] = read_parameters(params_file) if params_file else {}
    given: dict[str, Value] = {
        'checkpoint': checkpoint,
        'cameras': list(cameras),
        'instructions': list(instructions),
        'quantization': quantization,
        'device': device,
    }
    values.update({name: value for name, value in given.items() if value})
    parameters = MonitorParameters(**values)  # type: ignore[arg-type]
    if not parameters.checkpoint:
        raise ArmorError(
            'no model: give --checkpoint, a checkpoint folder or a Qwen2.5-VL model, or a '
            'parameters file that names one'
        )
    return parameters


class _Display:
    """Moves the progress bar, and prints each verdict above it."""

    def __init__(self, bar: Progress, work: TaskID) -> None:
        self._bar = bar
        self._work = work

    def __call__(self, progress: EvaluationProgress) -> None:
        """Show one step of the evaluation."""
        description = f'{escape(progress.bag.name)}: {progress.tasks} tasks'
        self._bar.update(
            self._work,
            description=description,
            total=1.0,
            completed=progress.position,
        )
        if progress.prediction is not None:
            self._bar.console.print(_describe(progress.prediction), highlight=False)


def _describe(prediction: Prediction) -> str:
    task = prediction.case.episode.task
    line = f'{escape(task.task_id)}  robot: {task.status.name}  [bold]{prediction.verdict.name}[/]'
    diagnosis = prediction.diagnosis
    if diagnosis is None:
        return f'{line}  {prediction.status.name}: {escape(prediction.status_text)}'
    line += f'  p(failed) {diagnosis.failure_probability:.3f}'
    line += f'  entropy {diagnosis.combined_entropy:.3f}'
    return f'{line}  {prediction.timing.inference:.2f} s  {escape(diagnosis.explanation)}'


def _print_summary(console: Console, summary: EvaluationSummary, model: ModelInfo) -> None:
    if summary.problems:
        table = Table('recording', 'problem', 'times')
        for path, sentence, count in summary.problems:
            table.add_row(escape(path.name), escape(sentence), str(count))
        console.print(table)
    counts = ', '.join(f'{count} {name}' for name, count in summary.verdicts.items())
    console.print(
        f'{summary.tasks} tasks: {counts}; {summary.disagreements} contradict the robot. '
        f'{escape(str(summary.predictions))}',
        highlight=False,
    )
    if not model.trained:
        console.print('[bold]This model was never trained: its verdicts mean nothing.[/]')
