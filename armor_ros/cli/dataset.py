# SPDX-License-Identifier: Apache-2.0
"""``armor dataset``: what recordings and data sets hold, whether they are whole, converting."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help='Look into recordings and data sets, check and convert them.'
)

Sources = Annotated[list[Path], typer.Argument(help='rosbag2 folders or files, and data sets.')]
Format = Annotated[str, typer.Option('--format', help='Format of data sets; auto: by layout.')]
Options = Annotated[
    list[str] | None,
    typer.Option('--option', help='"name=value" for the reader of data sets; repeatable.'),
]
Labels = Annotated[
    list[Path] | None,
    typer.Option(help='CSV or JSON lines: task_id or sample_id, label, explanation.'),
]


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
    splits: Annotated[
        list[str] | None,
        typer.Option('--split', help='Split of data sets; may be repeated. Default: all.'),
    ] = None,
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
