# SPDX-License-Identifier: Apache-2.0
"""``armor score``, ``report``, ``annotate``, ``compare``, ``calibrate``: all without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(epilog='Example: armor score out/run --limits limits.yaml')
def score(
    folder: Annotated[Path, typer.Argument(help='Folder that armor evaluate wrote.')],
    limits: Annotated[
        Path | None,
        typer.Option(help='YAML file of bounds, such as "detection.accuracy.low: {min: 0.85}".'),
    ] = None,
) -> None:
    """Compute a run's metrics from its predictions, and its baselines' too: metrics.json."""
    from armor_ros.evaluation.scoring import run_scoring

    run_scoring(folder, limits)


@app.command(epilog='Example: armor report out/run')
def report(
    folder: Annotated[Path, typer.Argument(help='Folder that armor evaluate wrote.')],
) -> None:
    """Write report.html anew: the run and its baselines on one page that opens offline."""
    from armor_ros.evaluation.rendering import run_report

    run_report(folder)


@app.command(epilog='Example: armor annotate out/run bags/monday')
def annotate(
    folder: Annotated[Path, typer.Argument(help='Folder that armor evaluate wrote.')],
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(
            help='Recordings of the run, where they were moved. Default: as they were.'
        ),
    ] = None,
) -> None:
    """
    Copy the recordings' cameras into MCAP files with the verdicts beside them, for Foxglove.

    They take about as much room as the cameras' messages do in the recordings. Open one in
    Foxglove, and import foxglove_layout.json there.
    """
    from armor_ros.evaluation.rendering import run_annotation

    run_annotation(folder, recordings or ())


@app.command(epilog='Example: armor compare out/old out/new')
def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(help='Run folders; the first is what the others are compared with.'),
    ],
    output: Annotated[
        Path | None, typer.Option(help='JSON file to write the comparison to.')
    ] = None,
) -> None:
    """Put runs side by side on their common tasks, with tests of their differences."""
    from armor_ros.evaluation.scoring import run_comparison

    run_comparison(folders, output)


@app.command(epilog='Example: armor calibrate out/run --checkpoint models/armor')
def calibrate(
    run: Annotated[
        Path,
        typer.Argument(help='Folder or predictions.jsonl of a run on labelled tasks.'),
    ],
    checkpoint: Annotated[Path, typer.Option(help='Folder of the checkpoint that answered.')],
    target_error: Annotated[
        float,
        typer.Option(help='Share of failures, and of successes, that may get the wrong verdict.'),
    ] = 0.1,
    weak: Annotated[
        bool, typer.Option('--weak', help="Take the robot's own word for the truth too.")
    ] = False,
    rounds: Annotated[
        int,
        typer.Option(
            min=0,
            help='Rounds of refinement to calibrate for. 0: the fewest whose accuracy and '
            'explanations are within one standard error of the best.',
        ),
    ] = 0,
    force: Annotated[
        bool, typer.Option('--force', help='Replace a calibration that is there.')
    ] = False,
) -> None:
    """Fit rounds, probabilities and ABSTAIN to labelled tasks; kept beside the checkpoint."""
    from armor_ros.evaluation.scoring import run_calibration

    run_calibration(
        run, checkpoint, target_error=target_error, weak=weak, force=force, rounds=rounds
    )
