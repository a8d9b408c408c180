# SPDX-License-Identifier: Apache-2.0
"""``armor dataset``: what recordings and data sets hold, whether they are whole, converting."""

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

app = typer.Typer(
    no_args_is_help=True, help='Look into recordings and data sets, check and convert them.'
)


@app.command(epilog='Example: armor dataset info bags/* data/aha.json')
def info(
    sources: Sources,
    data_format: Format = 'auto',
    data_options: Options = None,
    labels: Labels = None,
) -> None:
    """Say what is in recordings and data sets: tasks, labels, cameras, splits, what is skipped."""
    from armor_ros.evaluation.dataset_command import show_info

    show_info(sources, data_format, data_options or (), labels or ())


@app.command(epilog='Example: armor dataset validate data/robot')
def validate(sources: Sources, data_format: Format = 'auto', data_options: Options = None) -> None:
    """Read and decode everything; exit status 1 with the list of what is wrong."""
    from armor_ros.evaluation.dataset_command import validate_sources

    validate_sources(sources, data_format, data_options or ())


@app.command(epilog='Example: armor dataset convert bags/* --output data/robot')
def convert(
    sources: Sources,
    output: Annotated[Path, typer.Option(help='Folder to write; a new one.')],
    target: Annotated[
        str,
        typer.Option('--to', help='manifest (mp4), or a recording a task: mcap or sqlite3.'),
    ] = 'manifest',
    fps: Annotated[
        float, typer.Option(help='Pictures a second; 0: 5 in a manifest, 10 in recordings.')
    ] = 0.0,
    size: Annotated[str, typer.Option(help='WIDTHxHEIGHT; default: as recorded.')] = '',
    data_format: Format = 'auto',
    data_options: Options = None,
    splits: Splits = None,
    labels: Labels = None,
) -> None:
    """Convert to a manifest, or to recordings; repeated, it goes on where it was interrupted."""
    from armor_ros.evaluation.conversion import ConversionRequest
    from armor_ros.evaluation.dataset_command import convert_sources, parse_size

    convert_sources(
        ConversionRequest(
            sources=sources,
            output=output,
            target=target,
            fps=fps,
            size=parse_size(size),
            data_format=data_format,
            data_options=data_options or (),
            splits=splits or (),
            labels=labels or (),
        )
    )


@app.command('from-bags', epilog='Example: armor dataset from-bags bags/* --output data/robot')
def from_bags(
    bags: Annotated[list[Path], typer.Argument(help='rosbag2 folders or files, folders of them.')],
    output: Annotated[Path, typer.Option(help='Folder of the data set; it may be continued.')],
    params_file: Annotated[
        Path | None,
        typer.Option(help="The monitor's parameters file: its cameras, actions, instructions."),
    ] = None,
    cameras: Cameras = None,
    instructions: Instructions = None,
    labels: Labels = None,
    reports: Annotated[
        list[Path] | None,
        typer.Option(help='Folder that armor evaluate wrote from these bags; may be repeated.'),
    ] = None,
    size: Annotated[str, typer.Option(help='WIDTHxHEIGHT; default: as recorded.')] = '',
    split: Annotated[str, typer.Option(help='Split of the samples.')] = 'train',
    validation: Annotated[
        float, typer.Option(help='Share of the recordings that get the split "validation".')
    ] = 0.0,
) -> None:
    """
    Make samples of what a robot recorded at work, and say which of its tasks to label first.

    How the robot's stack says a task ended is a sparse label; labels of people, with an
    explanation, are dense ones. Repeat the command with new recordings, labels and reports:
    only what is new is read.
    """
    from armor_ros.evaluation.dataset_command import parse_size
    from armor_ros.evaluation.from_bags import FromBagsRequest
    from armor_ros.evaluation.from_bags_command import monitor_parameters, take_in_bags

    take_in_bags(
        FromBagsRequest(
            bags=bags,
            output=output,
            parameters=monitor_parameters(params_file, cameras or (), instructions or ()),
            size=parse_size(size),
            labels=labels or (),
            reports=reports or (),
            split=split,
            validation=validation,
        )
    )
