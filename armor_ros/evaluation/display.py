# SPDX-License-Identifier: Apache-2.0
"""What ``armor evaluate`` shows on the terminal: a bar, each verdict, and a summary."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from armor_ros.evaluation.evaluate import EvaluationProgress, EvaluationSummary
from armor_ros.evaluation.prediction import Prediction


class Display:
    """Moves the progress bar, and prints each verdict above it; a context manager."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(console=console, transient=True, disable=console.quiet)
        self._work = self._bar.add_task('loading the model', total=None)

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, progress: EvaluationProgress) -> None:
        """Show one step of the evaluation."""
        self._bar.update(
            self._work,
            description=f'{progress.tasks} tasks',
            total=1.0,
            completed=progress.position,
        )
        if progress.prediction is not None:
            self._bar.console.print(describe(progress.prediction), highlight=False)


def describe(prediction: Prediction) -> str:
    """Return one line on a prediction, with rich's markup."""
    case = prediction.case
    task = case.episode.task
    name = f'{case.source}/{case.id.removeprefix("/")}'
    line = f'{escape(name)}  robot: {task.status.name}'
    if case.label.label is not None:
        line += f'  label: {case.label.label}'
    line += f'  [bold]{prediction.verdict.name}[/]'
    diagnosis = prediction.diagnosis
    if diagnosis is None:
        if prediction.answer is not None:
            return f'{line}  {escape(prediction.answer.explanation)}'
        return f'{line}  {prediction.status.name}: {escape(prediction.status_text)}'
    line += f'  p(failed) {diagnosis.failure_probability:.3f}'
    line += f'  entropy {diagnosis.combined_entropy:.3f}'
    return f'{line}  {prediction.timing.inference:.2f} s  {escape(diagnosis.explanation)}'


def print_summary(console: Console, summary: EvaluationSummary) -> None:
    """Print what was wrong with the sources, and the verdicts in numbers."""
    if summary.problems:
        table = Table('source', 'problem', 'times')
        for name, sentence, count in summary.problems:
            table.add_row(escape(name), escape(sentence), str(count))
        console.print(table)
    counts = ', '.join(f'{count} {name}' for name, count in summary.verdicts.items())
    labels = ', '.join(
        f'{count} by {name}' if name else f'{count} unlabelled'
        for name, count in summary.labels.items()
    )
    console.print(
        f'{summary.tasks} tasks: {counts}; {summary.disagreements} contradict the robot. '
        f'Labels: {labels}. {escape(str(summary.predictions))}',
        highlight=False,
    )
