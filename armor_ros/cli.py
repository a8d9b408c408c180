# SPDX-License-Identifier: Apache-2.0
"""The ``armor`` command: one subcommand a job, each imported when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from armor_ros import __version__
from armor_ros.errors import ArmorError

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


@app.command(
    context_settings={'allow_extra_args': True, 'ignore_unknown_options': True},
    epilog='Example: armor monitor --ros-args --params-file config/monitor.yaml '
    '-p checkpoint:=/models/armor -p "cameras:=\\[front=/front/image_raw/compressed]"',
)
def monitor(
    context: typer.Context,
    print_params: Annotated[
        bool,
        typer.Option(
            '--print-params', help='Print a parameters file with every default, and end.'
        ),
    ] = False,
) -> None:
    """Run the monitor node; what follows --ros-args goes to ROS, as with ros2 run."""
    if print_params:
        from armor_ros.parameters import parameters_yaml

        typer.echo(parameters_yaml(), nl=False)
        return
    from armor_ros.node.main import main as run_monitor

    raise typer.Exit(run_monitor(['armor_monitor', *context.args]))


@app.command(epilog='Example: armor replay out/demo/bag --rate 2 --loop')
def replay(
    bag: Annotated[Path, typer.Argument(help='A rosbag2 folder or file.')],
    rate: Annotated[float, typer.Option(help='Speed: 2 is twice as fast as recorded.')] = 1.0,
    loop: Annotated[bool, typer.Option('--loop', help='Begin again at the end.')] = False,
    topics: Annotated[
        list[str] | None, typer.Option('--topic', help='Only this topic; may be repeated.')
    ] = None,
    wait_for: Annotated[
        list[str] | None,
        typer.Option('--wait-for', help='Begin when this topic has a subscriber.'),
    ] = None,
) -> None:
    """Publish a bag live on real topics, with /clock, where there is no ros2 bag play."""
    from armor_ros.node.replay import replay_bag

    replay_bag(bag, rate=rate, loop=loop, topics=topics, wait_for=wait_for or ())


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


simulation = typer.Typer(
    invoke_without_command=True,
    epilog='Example: armor simulate --output out/bag --seed 3.  Example: armor simulate '
    '--recipe smoke --output out/smoke --gallery',
)
app.add_typer(simulation, name='simulate')


@simulation.callback()
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
            help='manifest, collage, mcap or sqlite3, instead of what the recipe says; may be '
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


@simulation.command(epilog='Example: armor simulate audit out/benchmark')
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


@app.command(epilog='Example: armor demo --output out/demo')
def demo(
    output: Annotated[Path, typer.Option(help='Folder of the demo.')] = Path('out/demo'),
    rate: Annotated[float, typer.Option(help='Speed of the replay.')] = 1.0,
    seed: Annotated[int, typer.Option(help='Seed of the simulated cell.')] = 0,
    checkpoint: Annotated[
        str, typer.Option(help='Model to ask. Default: a small untrained one, made here.')
    ] = '',
) -> None:
    """Simulate a robot that fails, replay it live, and print what the monitor reports."""
    from armor_ros.node.demo import run_demo

    raise typer.Exit(run_demo(output, rate=rate, seed=seed, checkpoint=checkpoint))


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


def main() -> None:
    """Run the command; a user's mistake is one sentence on stderr and exit status 1."""
    try:
        app()
    except ArmorError as error:
        print(f'armor: {error}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == '__main__':
    main()
