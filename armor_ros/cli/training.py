# SPDX-License-Identifier: Apache-2.0
"""``armor train``: data and a recipe become a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(epilog='Example: armor train smoke --data out/smoke --output out/trained')
def train(
    recipe: Annotated[
        str, typer.Argument(help='YAML file, or smoke, small, paper, paper-lora ... by name.')
    ],
    data: Annotated[
        Path, typer.Option(help='Manifest data set, as armor simulate and dataset convert write.')
    ],
    output: Annotated[Path, typer.Option(help='Folder of the run; one is gone on with.')],
    dtype: Annotated[
        str, typer.Option(help="The checkpoint's weights: float32 or bf16.")
    ] = 'float32',
    cache: Annotated[
        Path | None,
        typer.Option(help='Folder for decoded pictures; saves reading videos each epoch.'),
    ] = None,
    check: Annotated[bool, typer.Option(help='Read every sample before the first step.')] = True,
    tracker: Annotated[
        str, typer.Option(help='tensorboard, wandb, mlflow ..., or none.')
    ] = 'tensorboard',
    seed: Annotated[int | None, typer.Option(help="Seed. [the recipe's]")] = None,
    save_seconds: Annotated[
        float, typer.Option(help='How often the state is kept, in seconds.', min=0.0)
    ] = 600.0,
) -> None:
    """
    Train a model by a recipe (Algorithm 1 of the paper, or a baseline).

    Ctrl-C keeps the state, and the same command goes on. For several processes: accelerate launch
    -m armor_ros.cli train ... with a config of accelerate.
    """
    import dataclasses

    from armor_ros.training.command import run_training
    from armor_ros.training.recipe_files import read_training_recipe
    from armor_ros.training.run import TrainingRequest

    chosen = read_training_recipe(recipe)
    if seed is not None:
        chosen = dataclasses.replace(chosen, seed=seed)
    raise typer.Exit(
        run_training(
            TrainingRequest(
                recipe=chosen,
                data=data,
                output=output,
                dtype=dtype,
                cache=cache,
                check=check,
                tracker=tracker,
                save_seconds=save_seconds,
            )
        )
    )
