# SPDX-License-Identifier: Apache-2.0
"""``armor evaluate``: recordings and data sets through a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(epilog='Example: armor evaluate bags/* --checkpoint models/armor --output out/run')
def evaluate(
    bags: Annotated[list[Path], typer.Argument(help='rosbag2 folders or files.')],
    output: Annotated[Path, typer.Option(help='Folder for predictions.jsonl and pictures.')],
    checkpoint: Annotated[
        str,
        typer.Option(help='Checkpoint folder, or a Qwen2.5-VL model; else the one of the file.'),
    ] = '',
    params_file: Annotated[
        Path | None,
        typer.Option(help="The monitor's parameters file: the verdict that robot would give."),
    ] = None,
    cameras: Annotated[
        list[str] | None,
        typer.Option('--camera', help='"name=topic"; may be repeated. Default: all in the bag.'),
    ] = None,
    instructions: Annotated[
        list[str] | None,
        typer.Option('--instruction', help='"action glob=text"; may be repeated.'),
    ] = None,
    quantization: Annotated[str, typer.Option(help='none, 8bit or 4bit.')] = '',
    device: Annotated[str, typer.Option(help='auto, cpu or cuda.')] = '',
) -> None:
    """Give each task of recorded bags the verdict that the robot would have given."""
    from armor_ros.evaluation.command import run_evaluation

    run_evaluation(
        bags,
        checkpoint=checkpoint,
        output=output,
        params_file=params_file,
        cameras=cameras or (),
        instructions=instructions or (),
        quantization=quantization,
        device=device,
    )
