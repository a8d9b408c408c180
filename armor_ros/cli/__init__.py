# SPDX-License-Identifier: Apache-2.0
"""The ``armor`` command: one subcommand a job, each imported when it is called."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from armor_ros import __version__
from armor_ros.cli import dataset, evaluation, model, robot, scoring, simulation, training
from armor_ros.errors import ArmorError

# Whatever was being written: this is not a defect of the program.
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

app = typer.Typer(
    name='armor',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Watch a robot's cameras and say what really happened.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f'armor {__version__}')
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option('--version', callback=_show_version, is_eager=True, help='Version.')
    ] = False,
) -> None:
    pass


for _jobs in (robot.app, evaluation.app, scoring.app, training.app, model.app):
    app.add_typer(_jobs)
app.add_typer(simulation.app, name='simulate')
app.add_typer(dataset.app, name='dataset')


def main() -> None:
    """Run the command; a user's mistake is one sentence on stderr and exit status 1."""
    try:
        app()
    except ArmorError as error:
        print(f'armor: {error}', file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        where = f'{error.filename}: ' if error.filename else ''
        print(f'armor: {where}{error.strerror}; make room, or write elsewhere', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
