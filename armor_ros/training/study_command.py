# SPDX-License-Identifier: Apache-2.0
"""``armor study``: progress on the terminal, and the main table at the end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from armor_ros.evaluation.evaluate import EvaluationProgress
from armor_ros.training.command import ProgressDisplay
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.run import Listener
from armor_ros.training.study_answers import Progress as Tell
from armor_ros.training.study_run import StudyRequest, run_study
from armor_ros.training.study_tables import PAGE_FILE
from armor_ros.training.trainer import Interrupted


def run_study_command(request: StudyRequest) -> int:
    """Run a study, showing progress; return the exit status, 130 when it was interrupted."""
    console = Console(stderr=True, highlight=False)

    @contextlib.contextmanager
    def watch(recipe: TrainingRecipe) -> Iterator[Listener]:
        console.print(f'{escape(recipe.name)}, seed {recipe.seed}')
        display = ProgressDisplay(recipe)
        with display.running():
            yield display

    @contextlib.contextmanager
    def tell(name: str) -> Iterator[Tell]:
        columns = (TextColumn('{task.description}'), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            work = bar.add_task(f'answers of {escape(name)}', total=1.0)

            def show(progress: EvaluationProgress) -> None:
                bar.update(work, completed=progress.position)

            yield show

    try:
        run_study(dataclasses.replace(request, watch=watch, tell=tell))
    except Interrupted:
        console.print(f'stopped; the same command goes on in {escape(str(request.output))}')
        return 130
    Console(highlight=False).print(
        escape((request.output / PAGE_FILE).read_text()), soft_wrap=True
    )
    console.print(escape(str(request.output / PAGE_FILE)))
    return 0
