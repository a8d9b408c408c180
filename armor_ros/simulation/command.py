# SPDX-License-Identifier: Apache-2.0
"""``armor simulate``: record the demo cell, with a progress bar and a table of what happened."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from armor_ros.simulation.demo import generate_demo_bag


def run_simulation(output: Path, *, seed: int, size: int, rate: float) -> None:
    """Record a bag; raises ArmorError when the output exists or nothing can be drawn."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        work = bar.add_task('simulating')

        def show(done: int, total: int, what: str) -> None:
            bar.update(work, completed=done, total=total, description=what)

        summary = generate_demo_bag(output, seed=seed, size=size, rate=rate, progress=show)
    table = Table('task', 'injected', 'what really happened', 'what the robot said')
    for number, label in enumerate(summary.labels, 1):
        happened = f'{label.outcome}: {label.explanation}'
        table.add_row(str(number), label.injected_mode, happened, label.robot_status)
    console.print(table)
    console.print(f'{output}: {summary.duration_s:.1f} s, {summary.size_bytes / 1e6:.1f} MB')
