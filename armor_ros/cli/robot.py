# SPDX-License-Identifier: Apache-2.0
"""``armor monitor``, ``armor replay`` and ``armor demo``: the node and live recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


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
        from armor_ros.parameters_file import parameters_yaml

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


@app.command(epilog='Example: armor demo --output out/demo')
def demo(
    output: Annotated[Path, typer.Option(help='Folder of the demo.')] = Path('out/demo'),
    rate: Annotated[float, typer.Option(help='Speed of the replay.')] = 1.0,
    seed: Annotated[int, typer.Option(help='Seed of the simulated cell.')] = 0,
    checkpoint: Annotated[
        str, typer.Option(help='Model to ask. Default: the one of the package.')
    ] = '',
) -> None:
    """Simulate a robot that fails, replay it live, and print what the monitor reports."""
    from armor_ros.node.demo import run_demo

    raise typer.Exit(run_demo(output, rate=rate, seed=seed, checkpoint=checkpoint))
