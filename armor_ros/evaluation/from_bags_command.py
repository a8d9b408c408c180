# SPDX-License-Identifier: Apache-2.0
"""``armor dataset from-bags``: progress, what became of the tasks, and which to label first."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from armor_ros.episodes.text import clean_text, told
from armor_ros.errors import ArmorError
from armor_ros.evaluation.from_bags import (
    FromBagsRequest,
    FromBagsSummary,
    make_data_set,
)
from armor_ros.evaluation.to_label import TO_LABEL_FILE, VALIDATION_SPLIT, Question
from armor_ros.parameter_declaration import Value
from armor_ros.parameters import MonitorParameters
from armor_ros.parameters_file import read_parameters

_MAX_QUESTIONS = 20
_MAX_WORDS = 100
_MAX_UNKNOWN = 12


def monitor_parameters(
    params_file: Path | None, cameras: Sequence[str], instructions: Sequence[str]
) -> MonitorParameters:
    """Return the monitor's parameters from its file and the arguments, which win; ArmorError."""
    values: dict[str, Value] = read_parameters(params_file) if params_file else {}
    given: dict[str, Value] = {'cameras': list(cameras), 'instructions': list(instructions)}
    values.update({name: value for name, value in given.items() if value})
    return MonitorParameters(**values)  # type: ignore[arg-type]


def take_in_bags(request: FromBagsRequest) -> None:
    """Make the data set and say what came of it; raises ArmorError for recordings that failed."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        work = bar.add_task('reading recordings', total=1.0)
        summary = make_data_set(request, lambda position: bar.update(work, completed=position))
    console = Console()
    console.print(_samples_table(summary))
    for reason, count in sorted(summary.left_out.items()):
        console.print(f'{count} tasks left out: {escape(reason)}', highlight=False)
    for sentence, count in sorted(summary.notes.items()):
        console.print(escape(told(count, sentence)), highlight=False)
    if request.validation and not any(key[0] == VALIDATION_SPLIT for key in summary.samples):
        console.print(f'No recording fell into {VALIDATION_SPLIT}: raise --validation')
    if summary.unknown:
        listed = ', '.join(summary.unknown[:_MAX_UNKNOWN])
        console.print(
            f'{len(summary.unknown)} labels are of no task here, such as {escape(listed)}',
            highlight=False,
        )
    _print_questions(console, request.output / TO_LABEL_FILE, summary.questions)
    if summary.failures:
        raise ArmorError('\n'.join(summary.failures))


def _samples_table(summary: FromBagsSummary) -> Table:
    table = Table('split', 'label', 'sparse', 'dense', title=f'{summary.samples.total()} samples')
    rows = sorted({key[:2] for key in summary.samples})
    for split, label in rows:
        counts = (summary.samples[split, label, kind] for kind in ('sparse', 'dense'))
        table.add_row(escape(split), label, *map(str, counts))
    return table


def _print_questions(console: Console, path: Path, questions: Sequence[Question]) -> None:
    if not questions:
        return
    reasons = Counter(each.reason for each in questions)
    counts = ', '.join(f'{count} {reason}' for reason, count in reasons.items())
    table = Table(title=f'to label first, of {len(questions)} ({counts})', show_lines=True)
    for heading in (
        'recording, task, and why',
        'robot',
        'cameras',
        'what the monitor says, what to watch',
    ):
        table.add_column(heading, overflow='fold')
    for each in questions[:_MAX_QUESTIONS]:
        probability = each.failure_probability
        cameras = [each.verdict or '-', '' if probability is None else f'p {probability:.2f}']
        words = textwrap.shorten(each.report, _MAX_WORDS, placeholder='…')
        # a path as it is may hold what a terminal obeys
        evidence = clean_text(each.evidence or next(iter(each.views.values()), ''))
        table.add_row(
            f'{escape(clean_text(each.source))}\n{escape(each.task_id)}\n{each.reason}',
            each.status,
            ' '.join(filter(None, cameras)),
            escape('\n'.join(filter(None, (words, evidence)))),
        )
    console.print(table)
    console.print(f'All of them: {escape(str(path))}', highlight=False)
