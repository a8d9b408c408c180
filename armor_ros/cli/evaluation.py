# SPDX-License-Identifier: Apache-2.0
"""``armor evaluate``: recordings and data sets through a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from armor_ros.cli.options import (
    Cameras,
    Format,
    Instructions,
    Labels,
    Options,
    Sources,
    Splits,
)

app = typer.Typer()


@app.command(epilog='Example: armor evaluate bags/* --checkpoint models/armor --output out/run')
def evaluate(
    sources: Sources,
    output: Annotated[Path, typer.Option(help='Folder for predictions, figures and report.')],
    checkpoint: Annotated[
        str,
        typer.Option(
            help='Checkpoint folder, or a Qwen2.5-VL model; else the one of file or package.'
        ),
    ] = '',
    params_file: Annotated[
        Path | None,
        typer.Option(help="The monitor's parameters file: the verdict that robot would give."),
    ] = None,
    cameras: Cameras = None,
    instructions: Instructions = None,
    quantization: Annotated[str, typer.Option(help='none, 8bit or 4bit.')] = '',
    device: Annotated[str, typer.Option(help='auto, cpu or cuda.')] = '',
    data_format: Format = 'auto',
    data_options: Options = None,
    splits: Splits = None,
    labels: Labels = None,
    baselines: Annotated[
        list[str] | None,
        typer.Option(
            '--baseline',
            help='always-success, always-failure, status, hf:MODEL, anthropic:MODEL, '
            'openai:MODEL@URL; may be repeated.',
        ),
    ] = None,
    examples: Annotated[
        list[Path] | None,
        typer.Option(help='Source of labelled examples for anthropic: and openai: baselines.'),
    ] = None,
    example_splits: Annotated[
        list[str] | None,
        typer.Option('--example-split', help='Split of the examples; may be repeated.'),
    ] = None,
    shots: Annotated[int, typer.Option(help='How many examples are shown.')] = 4,
    judges: Annotated[
        list[str] | None,
        typer.Option(
            '--judge',
            help='Grades explanations: hf:MODEL, anthropic:MODEL, openai:MODEL@URL; may be '
            'repeated.',
        ),
    ] = None,
    limits: Annotated[
        Path | None,
        typer.Option(help='YAML file of bounds on metrics; exit status 1 where one is broken.'),
    ] = None,
    report: Annotated[bool, typer.Option(help='Write report.html.')] = True,
    aha: Annotated[bool, typer.Option('--aha', help="Write AHA's prediction format too.")] = False,
    annotate: Annotated[
        bool, typer.Option('--annotate', help='Write recordings with the verdicts in them.')
    ] = False,
    pictures: Annotated[bool, typer.Option(help='Keep pictures of the evidence.')] = True,
    workers: Annotated[int, typer.Option(help='Threads that read ahead; 0: as many as fit.')] = 0,
    overwrite: Annotated[
        bool, typer.Option('--overwrite', help='Replace the run that the folder holds.')
    ] = False,
) -> None:
    """
    Give each task of recordings and data sets a verdict, and say how far to trust the verdicts.

    Of a recording it is the verdict that the robot would have given. An interrupted run goes on
    where it stopped when the command is repeated.
    """
    from armor_ros.evaluation.command import EvaluationRequest, run_evaluation
    from armor_ros.evaluation.outcome import OutcomeOptions

    run_evaluation(
        EvaluationRequest(
            sources=sources,
            output=output,
            checkpoint=checkpoint,
            params_file=params_file,
            cameras=cameras or (),
            instructions=instructions or (),
            quantization=quantization,
            device=device,
            data_format=data_format,
            data_options=data_options or (),
            splits=splits or (),
            labels=labels or (),
            baselines=baselines or (),
            examples=examples or (),
            example_splits=example_splits or (),
            shots=shots,
            pictures=pictures,
            workers=workers,
            overwrite=overwrite,
            outcome=OutcomeOptions(
                judges=judges or (),
                limits=limits,
                report=report,
                aha=aha,
                annotate=annotate,
                device=device or 'auto',
            ),
        )
    )
