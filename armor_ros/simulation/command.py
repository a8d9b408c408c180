# SPDX-License-Identifier: Apache-2.0
"""``armor simulate``: the demo's bag or a data set, with a progress bar and a table."""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from armor_ros.configuration import config_from_dict
from armor_ros.errors import ArmorError
from armor_ros.simulation.demo import DEMO_SIZE, generate_demo_bag
from armor_ros.simulation.generate import Generated, generate
from armor_ros.simulation.recipe import Recipe, read_recipe
from armor_ros.simulation.summary import Summary

_DEMO_SEED, _DEMO_RATE = 0, 15.0
_ERRORS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says in place of a default, or of the recipe; None leaves it."""

    seed: int | None = None
    size: int | None = None
    rate: float | None = None
    formats: tuple[str, ...] = ()

    def apply(self, recipe: Recipe) -> Recipe:
        """Return the recipe with these values; raises ArmorError as recipes do."""
        changes: dict[str, Any] = {
            'seed': self.seed,
            'size': self.size,
            'bag_rate': self.rate,
            'formats': self.formats or None,
        }
        given = {key: value for key, value in changes.items() if value is not None}
        return config_from_dict(Recipe, dataclasses.asdict(recipe) | given)


def run_simulation(output: Path, overrides: Overrides) -> None:
    """Record a bag; raises ArmorError when the output exists or nothing can be drawn."""
    if overrides.formats:
        raise ArmorError('--format belongs to a data set: give --recipe too')
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        work = bar.add_task('simulating')

        def show(done: int, total: int, what: str) -> None:
            bar.update(work, completed=done, total=total, description=what)

        summary = generate_demo_bag(
            output,
            seed=_DEMO_SEED if overrides.seed is None else overrides.seed,
            size=DEMO_SIZE if overrides.size is None else overrides.size,
            rate=_DEMO_RATE if overrides.rate is None else overrides.rate,
            progress=show,
        )
    table = Table('task', 'injected', 'what really happened', 'what the robot said')
    for number, label in enumerate(summary.labels, 1):
        happened = f'{label.outcome}: {label.explanation}'
        table.add_row(str(number), label.injected_mode, happened, label.robot_status)
    console.print(table)
    console.print(f'{output}: {summary.duration_s:.1f} s, {summary.size_bytes / 1e6:.1f} MB')


def run_recipe(
    output: Path,
    name: str,
    overrides: Overrides,
    *,
    shard: str = '1/1',
    workers: int | None = None,
    gallery: bool = False,
) -> int:
    """
    Make or continue a data set and print what came of it; return the exit status.

    It is 1 when pairs of episodes could not be made, which the same command tries again.
    Raises ArmorError on mistakes in the recipe and options, and when nothing can be rendered.
    """
    recipe = overrides.apply(read_recipe(name))
    if gallery and 'audit' in recipe.formats:
        raise ArmorError('--gallery needs pictures, of which the format audit has the first alone')
    part = parse_shard(shard)
    crew = workers or len(os.sched_getaffinity(0))
    console = Console(stderr=True)
    columns = ('pairs of episodes', BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        work = bar.add_task('', total=None)

        def show(done: int, total: int) -> None:
            bar.update(work, completed=done, total=total)

        made = generate(recipe, output, shard=part, workers=crew, progress=show)
    console.print(splits_table(made.summary))
    console.print(outcomes_table(made.summary))
    if gallery and made.samples:
        from armor_ros.simulation.gallery import write_gallery

        console.print(f'to look at: {write_gallery(output)}', markup=False)
    console.print(_conclusion(made), markup=False)
    return 1 if made.failed else 0


def parse_shard(text: str) -> tuple[int, int]:
    """Return (index, count) of 'i/n'; raises ArmorError unless 1 <= i <= n."""
    match = re.fullmatch(r'(\d{1,6})/(\d{1,6})', text)
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= index <= count:
        raise ArmorError(f'shard is {text!r}; give i/n, such as 2/4 for the second of four parts')
    return index, count


def splits_table(summary: Summary) -> Table:
    """
    Return a row a split.

    'noisy' are samples with a wrong label, 'lucky' the perturbed episodes that succeeded all the
    same, 'unfilled' the pairs for which no scene gave both a success and a failure.
    """
    table = Table(
        'split', 'samples', 'success', 'failure', 'dense', 'twins', 'noisy', 'lucky', 'unfilled',
    )  # fmt: skip
    for name, split in summary.splits.items():
        counts = (
            split.samples, split.success, split.failure, split.dense, split.twins,
            split.wrong_labels, split.perturbed_successes, split.unfilled,
        )  # fmt: skip
        table.add_row(name, *map(str, counts))
    return table


def outcomes_table(summary: Summary) -> Table:
    """Return a row an injected mode: what all simulated episodes with it came to."""
    table = Table('injected', 'episodes', 'what really happened')
    for mode, outcomes in summary.outcomes.items():
        ordered = sorted(outcomes.items(), key=lambda item: (-item[1], item[0]))
        happened = ', '.join(f'{count} {outcome}' for outcome, count in ordered)
        table.add_row(mode, str(sum(outcomes.values())), happened)
    return table


def _conclusion(made: Generated) -> str:
    lines = [f'{made.output}: {len(made.samples)} samples']
    if made.missing:
        lines.append(f'{made.missing} pairs of episodes are still to be made')
    lines += [
        f'{outcome.job.name} could not be made: {outcome.error.strip()}'
        for outcome in made.failed[:_ERRORS_SHOWN]
    ]
    if len(made.failed) > _ERRORS_SHOWN:
        lines.append(f'... and {len(made.failed) - _ERRORS_SHOWN} more pairs')
    return '\n'.join(lines)
