# SPDX-License-Identifier: Apache-2.0
"""``armor report`` and ``annotate``: what they write and print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from armor_ros.episodes.text import told
from armor_ros.evaluation.annotate import LAYOUT, annotate_run
from armor_ros.evaluation.report import write_report


def run_report(folder: Path) -> None:
    """Write report.html of a run folder and print its path; raises ArmorError."""
    path = write_report(folder)
    Console().print(escape(str(path)), highlight=False, soft_wrap=True)


def run_annotation(folder: Path, recordings: Sequence[Path] = ()) -> None:
    """
    Write the annotated recordings of a run folder, and print what was written and what was not.

    ``recordings`` are those of the run where they lie now; none takes the paths in run.json.
    Raises ArmorError when none could be written.
    """
    from armor_ros.evaluation.opening import unique_names

    named = dict(zip(unique_names(recordings), recordings, strict=True)) if recordings else None
    console = Console()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        work = bar.add_task('annotating', total=1.0)

        def show(name: str, position: float) -> None:
            bar.update(work, completed=position, description=escape(name))

        summary = annotate_run(folder, named, show)
    for sentence, count in summary.left_out.items():
        console.print(escape(told(count, sentence)), highlight=False, soft_wrap=True)
    for path in (*summary.files, folder / LAYOUT):
        console.print(escape(str(path)), highlight=False, soft_wrap=True)
