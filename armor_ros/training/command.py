# SPDX-License-Identifier: Apache-2.0
"""``armor train``: progress on the terminal, and an interruption that loses nothing."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.run import TrainingRequest, train
from armor_ros.training.sampled import SamplingReport
from armor_ros.training.schedule import StepReport
from armor_ros.training.trainer import Interrupted
from armor_ros.training.validation import ShownAnswer, Trial

# Weight of what is new in the losses that the progress bar shows.
_SMOOTHING = 0.1


class ProgressDisplay:
    """Shows steps, losses and trials; SIGINT and SIGTERM ask the run to stop after its step."""

    def __init__(self, recipe: TrainingRecipe, *, shows: bool = True) -> None:
        self._names = [f'{i}. {phase.kind}' for i, phase in enumerate(recipe.phases, 1)]
        self.console = Console(stderr=True, quiet=not shows)
        self._bar = Progress(
            TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn('{task.fields[losses]}'),
            console=self.console, disable=not shows,
        )  # fmt: skip
        self._work = self._bar.add_task('checking the data', total=None, losses='', visible=False)
        self._offsets: list[int] = []
        self._smooth: dict[str, float] = {}
        self._phase = -1
        self._stops = False

    def plan(self, steps: list[int], done: int) -> None:
        """Show what is to be done."""
        self._offsets = [sum(steps[:index]) for index in range(len(steps))]
        self._bar.reset(
            self._work, total=sum(steps), completed=done, description='training', visible=True
        )

    def checking(self, done: int, total: int) -> None:
        """Show how far the data is checked."""
        self._bar.update(self._work, completed=done, total=total, visible=True)

    def caution(self, text: str) -> None:
        """Print what is allowed and hardly meant."""
        self._print(f'note: {text}')

    def step(self, report: StepReport) -> None:
        """Show a step."""
        if report.phase != self._phase:
            self._phase, self._smooth = report.phase, {}
        for name in ('detection', 'language', 'auxiliary', 'accuracy'):
            value = getattr(report, name)
            before = self._smooth.get(name, value)
            self._smooth[name] = before + _SMOOTHING * (value - before)
        shown = ' '.join(f'{name} {value:.3f}' for name, value in self._smooth.items() if value)
        self._bar.update(
            self._work,
            completed=self._offsets[report.phase] + report.step + 1,
            description=self._names[report.phase],
            losses=shown,
        )

    def trial(self, trial: Trial) -> None:
        """Print how the model does, and some of its answers."""
        found = [
            f'{name} {value:.3f}'
            for name in ('detection', 'accuracy', 'language', 'auxiliary')
            if (value := getattr(trial, name)) is not None
        ]
        self._print(
            f'{self._names[trial.phase]}, step {trial.step + 1}: {", ".join(found)} '
            f'on {trial.samples} validation samples'
        )
        for shown in trial.shown:
            self._show(shown)

    def sampled(self, report: SamplingReport) -> None:
        """Print what was sampled before a phase."""
        self._print(
            f'{self._names[report.phase]}: {report.kept} of {report.asked} samples answered '
            f'before it, in {report.seconds:.0f} s'
        )

    def _show(self, shown: ShownAnswer) -> None:
        truth = PreviousAnswer(shown.truth.failed, shown.truth.explanation)
        self._print(f'  {shown.sample}: {shown.instruction}')
        self._print(f'    truth    {_answer_text(truth)}')
        for account in dict.fromkeys(answer.account for answer in shown.answers if answer.account):
            self._print(f'    account  {account}')
        for index, answer in enumerate(shown.answers):
            self._print(f'    round {index}  {_answer_text(answer)}')

    def _print(self, line: str) -> None:
        self.console.print(escape(line), highlight=False)

    def should_stop(self) -> bool:
        """Tell whether a signal has come."""
        return self._stops

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show progress and listen to signals; the second one ends the process as ever."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, _: FrameType | None) -> None:
            self._stops = True
            self._print('stopping after this step; once more to stop at once')
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, stop)
        try:
            with self._bar:
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_training(request: TrainingRequest) -> int:
    """Train, showing progress; return the exit status, 130 when it was interrupted."""
    is_first = os.environ.get('RANK', '0') == '0'
    display = ProgressDisplay(request.recipe, shows=is_first)
    request = dataclasses.replace(request, listener=display)
    try:
        with display.running():
            checkpoint: Path = train(request)
    except Interrupted:
        display.console.print(
            f'stopped; the same command goes on from {escape(str(request.output))}/state'
        )
        return 130
    display.console.print(f'checkpoint: {escape(str(checkpoint))}', highlight=False)
    return 0


def _answer_text(answer: PreviousAnswer) -> str:
    word = {True: 'failure', False: 'success', None: 'no answer'}[answer.failed]
    return f'{word}: {answer.explanation or "-"}'
