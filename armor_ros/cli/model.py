# SPDX-License-Identifier: Apache-2.0
"""``armor tiny-checkpoint`` and ``armor benchmark``: models and their speed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command('tiny-checkpoint', epilog='Example: armor tiny-checkpoint models/tiny')
def tiny_checkpoint(
    output: Annotated[Path, typer.Argument(help='Folder to write; must not exist.')],
    seed: Annotated[int, typer.Option(help='Seed of the random weights.')] = 0,
) -> None:
    """Make a small checkpoint from random weights, to try everything without a download."""
    from armor_ros.model.tiny import make_tiny_checkpoint

    make_tiny_checkpoint(output, seed=seed)
    typer.echo(f'{output}: a small model with random weights; its verdicts mean nothing')


benchmark = typer.Typer(no_args_is_help=True, help='Measure speed on this machine.')
app.add_typer(benchmark, name='benchmark')


@benchmark.callback()
def _benchmark_options() -> None:
    pass


@benchmark.command(
    'inference', epilog='Example: armor benchmark inference --size small --output out/small.json'
)
def benchmark_inference(
    output: Annotated[Path, typer.Option(help='JSON file to write the figures to.')],
    size: Annotated[str, typer.Option(help='small, bench, 3b or 7b.')] = 'small',
    device: Annotated[str, typer.Option(help='auto, cpu or cuda.')] = 'auto',
) -> None:
    """Time inference with random weights beside a naive reference and the device's limits."""
    from armor_ros.inference.benchmark import format_table, run_benchmark

    typer.echo(format_table(run_benchmark(size, output, device)))


@benchmark.command(
    'training', epilog='Example: armor benchmark training --size small --output out/training.json'
)
def benchmark_training(
    output: Annotated[Path, typer.Option(help='JSON file to write the figures to.')],
    size: Annotated[str, typer.Option(help='small, bench, 3b or 7b.')] = 'small',
    device: Annotated[str, typer.Option(help='auto, cpu or cuda.')] = 'auto',
) -> None:
    """Time training steps with random weights beside the naive loop; compare their gradients."""
    from rich.console import Console

    from armor_ros.training.benchmark import run_training_benchmark, training_table

    Console().print(training_table(run_training_benchmark(size, output, device)))
