# SPDX-License-Identifier: Apache-2.0
"""``armor simulate``: recordings and data sets of a simulated robot cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from armor_ros.errors import ArmorError

app = typer.Typer(
    invoke_without_command=True,
    epilog='Example: armor simulate --output out/bag --seed 3.  Example: armor simulate '
    '--recipe smoke --output out/smoke --gallery',
)


@app.callback()
def simulate(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option(help='Folder to write. A bag must not exist; a data set is continued.'),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help='Make a data set: a YAML file, or smoke, benchmark ... by name.'),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of scene, motion and failures. [0, the recipe's]")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Pixels a side of the pictures. [320, the recipe's]")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Frames a second of a bag. [15, the recipe's]")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            '--format',
            help='manifest, audit, collage, mcap or sqlite3, not what the recipe says; may be '
            'repeated.',
        ),
    ] = None,
    shard: Annotated[
        str, typer.Option(help='Make only part i of n of a data set: i/n, from 1/n to n/n.')
    ] = '1/1',
    workers: Annotated[
        int | None, typer.Option(help='Processes that make a data set. [one a processor]', min=1)
    ] = None,
    gallery: Annotated[
        bool, typer.Option('--gallery', help='Write gallery.html, to look at a data set.')
    ] = False,
) -> None:
    """
    Record a bag of a simulated robot cell in which tasks succeed and fail, or a data set.

    Without --recipe it is the bag of the demo. With it, finished episodes are kept, so that the
    same command continues an interrupted run.
    """
    if context.invoked_subcommand is not None:
        return
    if output is None:
        raise ArmorError('armor simulate needs --output, the folder to write')
    from armor_ros.simulation.command import Overrides, run_recipe, run_simulation

    overrides = Overrides(seed, size, rate, tuple(formats or ()))
    if recipe is None:
        run_simulation(output, overrides)
    else:
        raise typer.Exit(
            run_recipe(output, recipe, overrides, shard=shard, workers=workers, gallery=gallery)
        )


@app.command(epilog='Example: armor simulate audit out/benchmark')
def audit(
    data_set: Annotated[Path, typer.Argument(help='Folder of a manifest data set.')],
    output: Annotated[
        Path | None, typer.Option(help='Folder of audit.md and audit.json. [the data set]')
    ] = None,
    seed: Annotated[int, typer.Option(help='Seed of the classifiers.')] = 0,
) -> None:
    """Tell how far metadata, first frame, motion or instruction alone give the label away."""
    from armor_ros.simulation.audit import run_audit

    raise typer.Exit(run_audit(data_set, output=output, seed=seed))
