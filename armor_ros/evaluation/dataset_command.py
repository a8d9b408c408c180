# SPDX-License-Identifier: Apache-2.0
"""``armor dataset``: tables, progress bars and exit statuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from armor_ros.episodes.text import told
from armor_ros.errors import ArmorError
from armor_ros.evaluation.conversion import ConversionRequest, convert
from armor_ros.evaluation.description import SourceInfo, describe_source, find_faults
from armor_ros.evaluation.labels import LabelBook
from armor_ros.evaluation.opening import data_set_opener, open_sources
from armor_ros.evaluation.sources import SourceSettings

_MAX_LISTED = 8
_MAX_FAULTS = 200


def show_info(
    paths: Sequence[Path], data_format: str, data_options: Sequence[str], labels: Sequence[Path]
) -> None:
    """Print what is in each source; raises ArmorError at the end for those that are unreadable."""
    settings = SourceSettings(labels=LabelBook(labels))
    opener = data_set_opener(data_format, data_options)
    sources, failures = open_sources(paths, settings, opener)
    console = Console()
    for source in sources:
        try:
            console.print(_table(describe_source(source, settings)))
        except ArmorError as error:
            failures.append(str(error))
    if failures:
        raise ArmorError('\n'.join(failures))


def validate_sources(paths: Sequence[Path], data_format: str, data_options: Sequence[str]) -> None:
    """Read everything; raises ArmorError that lists what is wrong, if anything is."""
    opener = data_set_opener(data_format, data_options)
    sources, faults = open_sources(paths, SourceSettings(), opener)
    console = Console()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for source in sources:
            work = bar.add_task(escape(source.name), total=1.0)
            found = find_faults(source, partial(_move, bar, work))
            bar.remove_task(work)
            if not found:
                console.print(f'{escape(source.name)}: everything can be read', highlight=False)
            faults += [f'{source.name}: {fault}' for fault in found]
    if faults:
        more = len(faults) - _MAX_FAULTS
        listed = faults[:_MAX_FAULTS] + ([f'and {more} more'] if more > 0 else [])
        raise ArmorError('\n'.join(listed))


def _move(bar: Progress, work: TaskID, position: float) -> None:
    bar.update(work, completed=position)


def convert_sources(request: ConversionRequest) -> None:
    """Convert, and say what was left out; raises ArmorError for sources that failed."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        work = bar.add_task('converting', total=1.0)

        def show(position: float, written: int) -> None:
            bar.update(work, completed=position, description=f'{written} written')

        summary = convert(request, show)
    console = Console()
    for sentence, count in summary.left_out.items():
        console.print(escape(told(count, sentence)), highlight=False)
    what = 'samples' if request.target == 'manifest' else 'recordings'
    console.print(f'{summary.written} {what} in {escape(str(request.output))}', highlight=False)
    if summary.failures:
        raise ArmorError('\n'.join(summary.failures))


def parse_size(text: str) -> tuple[int, int] | None:
    """Return (height, width) of 'WIDTHxHEIGHT', None for ''; raises ArmorError."""
    if not text:
        return None
    width, separator, height = text.lower().partition('x')
    if not separator or not width.isdecimal() or not height.isdecimal():
        raise ArmorError(f'size is {text!r}; give WIDTHxHEIGHT, such as 320x240')
    return int(height), int(width)


def _table(info: SourceInfo) -> Table:
    table = Table(title=escape(info.name), show_header=False, title_justify='left')
    table.add_row('format', info.kind)
    table.add_row('tasks', str(info.tasks))
    for name, counts in (
        ('labels', info.labels),
        ('kinds of task', info.kinds),
        ('splits', info.splits),
        ('frames a second', info.rates),
    ):
        if counts:
            table.add_row(name, _listing(counts))
    table.add_row('explained', str(info.explained))
    for camera, text in info.cameras.items():
        table.add_row(f'camera {escape(camera)}', escape(text))
    for sentence in info.skipped:
        table.add_row('skipped', escape(sentence))
    return table


def _listing(counts: Counter[str]) -> str:
    rows = [f'{count} {escape(name)}' for name, count in counts.most_common(_MAX_LISTED)]
    more = len(counts) - len(rows)
    return ', '.join(rows) + (f' and {more} more' if more > 0 else '')
