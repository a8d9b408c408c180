# SPDX-License-Identifier: Apache-2.0
"""What a report is made of: the lines, figures and settings in a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armor_ros.errors import ArmorError
from armor_ros.evaluation.lines import PREDICTIONS, Line, read_lines, run_folders
from armor_ros.evaluation.metrics import Metrics
from armor_ros.evaluation.run_folder import RunFolder
from armor_ros.evaluation.score import METRICS, read_metrics, write_metrics

_MAX_NAME = 80


@dataclass(frozen=True)
class Run:
    """
    A run folder, read.

    ``table`` has the metrics of the run first and of its baselines after it, by a name for
    people; ``settings`` is run.json, empty where there is none.
    """

    folder: Path
    lines: list[Line]
    table: dict[str, Metrics]
    settings: dict[str, Any]

    @property
    def metrics(self) -> Metrics:
        """The run's own metrics."""
        return next(iter(self.table.values()))


def read_run(folder: Path) -> Run:
    """
    Read a run folder; figures that are missing, or older than the predictions, are made.

    Raises ArmorError when there are no predictions, or a file is broken.
    """
    lines = read_lines(folder)
    table: dict[str, Metrics] = {}
    for path in run_folders(folder):
        metrics = _metrics(path)
        table[_unused(_name(path, metrics), table)] = metrics
    return Run(folder, lines, table, RunFolder(folder).read())


def _metrics(folder: Path) -> Metrics:
    made, predictions = folder / METRICS, folder / PREDICTIONS
    if made.is_file() and made.stat().st_mtime_ns >= predictions.stat().st_mtime_ns:
        try:
            return read_metrics(folder)
        except ArmorError:
            pass
    return write_metrics(folder)


def _name(folder: Path, metrics: Metrics) -> str:
    """Return the model's name as it is known; without one, or with several, the folder's."""
    model = metrics['run']['model']
    name = str(model['model_id']) if isinstance(model, dict) and 'model_id' in model else ''
    # of a model on this disk, the folder says enough
    name = name.rstrip('/').rsplit('/', 1)[-1] if name.startswith('/') else name
    name = name or folder.resolve().name
    return name if len(name) <= _MAX_NAME else f'{name[: _MAX_NAME - 1]}…'


def _unused(name: str, taken: dict[str, Metrics]) -> str:
    number = 2
    unique = name
    while unique in taken:
        unique = f'{name} ({number})'
        number += 1
    return unique
