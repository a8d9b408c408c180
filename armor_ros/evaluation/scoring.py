# SPDX-License-Identifier: Apache-2.0
"""``armor score``, ``compare`` and ``calibrate``: what they read, write and print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from armor_ros.errors import ArmorError
from armor_ros.evaluation.calibrate import (
    LARGEST_TEMPERATURE,
    CalibrationSummary,
    calibrate,
    check_free,
    identify_checkpoint,
)
from armor_ros.evaluation.compare import compare, read_runs
from armor_ros.evaluation.limits import check_limits, read_limits
from armor_ros.evaluation.lines import read_lines, run_folders
from armor_ros.evaluation.score import METRICS, write_json, write_metrics
from armor_ros.evaluation.tables import (
    choice_table,
    comparison_tables,
    metrics_table,
    round_table,
)
from armor_ros.model.calibration import threshold, write_calibration


def run_scoring(folder: Path, limits: Path | None = None) -> None:
    """
    Write metrics.json of a run folder and of its baselines, and print the main figures.

    ``limits`` are checked on the run itself. Raises ArmorError, for broken limits at the end.
    """
    bounds = read_limits(limits) if limits else ()
    metrics = {
        path.name if path == folder else f'baseline {path.name}': write_metrics(path)
        for path in run_folders(folder)
    }
    own = next(iter(metrics.values()))
    console = Console()
    console.print(metrics_table(metrics))
    if len(own['rounds']) > 1:
        console.print(round_table(own['rounds']))
    labels = own['run']['labels_used']
    if labels == 'weak':
        console.print("Labels are the robot's own word: this is agreement with it, not accuracy.")
    elif labels == 'none':
        console.print('No task has a label: there is nothing to be right or wrong about.')
    console.print(escape(str(folder / METRICS)), highlight=False)
    check_limits(own, bounds)


def run_comparison(folders: Sequence[Path], output: Path | None = None) -> None:
    """Compare runs, write the comparison as JSON and print it; raises ArmorError."""
    if output is not None and output.is_dir():
        raise ArmorError(f'{output} is a folder; give --output a file, such as compare.json')
    comparison = compare(read_runs(folders))
    if output is not None:
        write_json(output, comparison)
    console = Console()
    for table in comparison_tables(comparison):
        console.print(table)
    common = comparison['common']
    for run in comparison['runs']:
        if run['not_joined']:
            console.print(
                f'{escape(run["name"])}: {run["not_joined"]} of {run["tasks"]} tasks are not '
                f'compared ({run["repeated"]} of them have a name that is not theirs alone)',
                highlight=False,
            )
    if common['labelled_differently']:
        console.print(f'{common["labelled_differently"]} tasks are labelled differently')
    if output is not None:
        console.print(escape(str(output)), highlight=False)


def run_calibration(
    run: Path, checkpoint: Path, *, target_error: float, weak: bool, force: bool, rounds: int = 0
) -> None:
    """Calibrate a checkpoint on a run, keep it beside the weights, print it; raises ArmorError."""
    lines = read_lines(run)
    identity = identify_checkpoint(checkpoint)
    check_free(checkpoint, force=force)
    summary = calibrate(lines, identity, target_error=target_error, weak=weak, rounds=rounds)
    file = write_calibration(summary.calibration, checkpoint)
    console = Console(highlight=False)
    _print_calibration(console, summary)
    console.print(escape(str(file)))


def _print_calibration(console: Console, summary: CalibrationSummary) -> None:
    calibration = summary.calibration
    failures, successes = calibration.failure_scores, calibration.success_scores
    level = calibration.target_error
    console.print(
        f'{summary.failures} failed and {summary.successes} successful tasks, of which '
        f'{len(failures)} and {len(successes)} of different recordings decide on ABSTAIN'
    )
    for reason, count in summary.left_out.items():
        console.print(f'left out: {count} with {escape(reason)}')
    console.print(choice_table(summary.rounds.scores, calibration.rounds))
    console.print(_on_rounds(summary))
    console.print(
        f'trajectories: {calibration.trajectories}, as in the run; the parameter trajectories at '
        '0 takes as many'
    )
    console.print(
        f'temperature {calibration.temperature:.3f}: negative log-likelihood '
        f'{summary.nll[0]:.3f} -> {summary.nll[1]:.3f}, calibration error '
        f'{summary.ece[0]:.3f} -> {summary.ece[1]:.3f} (on these same tasks)'
    )
    if calibration.temperature >= LARGEST_TEMPERATURE:
        console.print(
            '[bold]The temperature is at its bound: these probabilities tell failures from '
            'successes no better than chance.[/]'
        )
    console.print(
        f'error level {level:g}: FAILURE needs a probability above '
        f'{max(0.5, threshold(successes, level)):.3f}, SUCCESS above '
        f'{max(0.5, threshold(failures, level)):.3f}; {summary.answered:.0%} of these tasks '
        'would get a verdict'
    )


def _on_rounds(summary: CalibrationSummary) -> str:
    """Return a sentence on the number of rounds."""
    asked, chosen = summary.calibration.rounds, summary.rounds.rounds
    if asked != chosen:
        return f'rounds: {asked}, as asked; the fewest within one standard error are {chosen}'
    if len(summary.rounds.scores) == 1:
        return (
            'rounds: 1; no task took more, so there was nothing to choose from: a run with the '
            'parameter rounds at 4 tries more'
        )
    return (
        f'rounds: {chosen}, the fewest whose score is within one standard error of the best. The '
        'parameter rounds at 0 takes as many; another number wins over it, and is not calibrated'
    )
