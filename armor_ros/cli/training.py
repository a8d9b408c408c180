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


@app.command(
    epilog='Example: armor study smoke --data out/smoke --output out/study --seeds 2',
)
def study(
    study: Annotated[str, typer.Argument(help='YAML file, or ablations, ratios, smoke by name.')],
    data: Annotated[
        Path, typer.Option(help='Manifest data set, as armor simulate and dataset convert write.')
    ],
    output: Annotated[Path, typer.Option(help='Folder of the study; one is gone on with.')],
    start: Annotated[
        str, typer.Option(help="Checkpoint that all recipes train, instead of the study's own.")
    ] = '',
    seeds: Annotated[int, typer.Option(help='Runs of each recipe, seeds 0, 1 ...', min=1)] = 3,
    only: Annotated[
        list[str] | None, typer.Option(help='Train this recipe now; may be given several times.')
    ] = None,
    shard: Annotated[
        str, typer.Option(help='Only every n-th seed, from the i-th on: i/n, such as 1/2 and 2/2.')
    ] = '1/1',
    dtype: Annotated[
        str, typer.Option(help="The checkpoints' weights: float32 or bf16.")
    ] = 'float32',
    cache: Annotated[
        Path | None,
        typer.Option(help='Folder for decoded pictures; saves reading videos each epoch.'),
    ] = None,
    control: Annotated[
        bool, typer.Option(help="Measure what the arm's motion alone gives away.")
    ] = True,
) -> None:
    """
    Train recipes over seeds, evaluate them in several ways, and write one table (study.md).

    The tables are written after each model and have all that is ready. Ctrl-C keeps everything,
    and the same command goes on; with --shard and --only several processes share the work in one
    folder.
    """
    from armor_ros.simulation.command import parse_shard
    from armor_ros.simulation.motion_control import motion_only
    from armor_ros.training.study import read_study
    from armor_ros.training.study_command import run_study_command
    from armor_ros.training.study_run import StudyRequest

    chosen, recipes = read_study(study, start)
    raise typer.Exit(
        run_study_command(
            StudyRequest(
                study=chosen,
                recipes=recipes,
                data=data,
                output=output,
                seeds=seeds,
                only=tuple(only or ()),
                shard=parse_shard(shard),
                dtype=dtype,
                cache=cache,
                control=motion_only if control else None,
            )
        )
    )
