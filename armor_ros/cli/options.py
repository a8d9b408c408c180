# SPDX-License-Identifier: Apache-2.0
"""Options that several of armor's commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Sources = Annotated[list[Path], typer.Argument(help='rosbag2 folders or files, and data sets.')]
Format = Annotated[str, typer.Option('--format', help='Format of data sets; auto: by layout.')]
Options = Annotated[
    list[str] | None,
    typer.Option('--option', help='"name=value" for the reader of data sets; repeatable.'),
]
Splits = Annotated[
    list[str] | None,
    typer.Option('--split', help='Split of data sets; may be repeated. Default: all.'),
]
Labels = Annotated[
    list[Path] | None,
    typer.Option(help='CSV or JSON lines: task_id or sample_id, label, explanation.'),
]
Cameras = Annotated[
    list[str] | None,
    typer.Option('--camera', help='"name=topic"; may be repeated. Default: all in the bag.'),
]
Instructions = Annotated[
    list[str] | None,
    typer.Option('--instruction', help='"action glob=text"; may be repeated.'),
]
