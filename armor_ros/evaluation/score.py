# SPDX-License-Identifier: Apache-2.0
"""metrics.json of a run folder: written from its lines, and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from armor_ros.errors import ArmorError
from armor_ros.evaluation.judgements import read_judgements
from armor_ros.evaluation.lines import read_lines
from armor_ros.evaluation.metrics import SCHEMA, Metrics, score

METRICS = 'metrics.json'


def write_metrics(folder: Path) -> Metrics:
    """
    Score a run folder, or a baseline's folder in it, and write its metrics.json.

    Needs predictions.jsonl alone, and what judges said if it is there. The same lines give the
    same bytes. Raises ArmorError.
    """
    metrics = score(read_lines(folder), read_judgements(folder))
    write_json(folder / METRICS, metrics)
    return metrics


def read_metrics(folder: Path) -> Metrics:
    """Read a run folder's metrics.json; raises ArmorError that says how to have it made."""
    file = folder / METRICS
    try:
        metrics = json.loads(file.read_text(encoding='utf-8'))
    except OSError as error:
        raise ArmorError(
            f'cannot read {file}: {error.strerror or error}; armor score {folder} writes it'
        ) from error
    except ValueError as error:
        raise ArmorError(
            f'{file} is not valid JSON ({error}); armor score {folder} writes it anew'
        ) from error
    if not isinstance(metrics, dict) or metrics.get('schema') != SCHEMA:
        raise ArmorError(f'{file} is of another version; armor score {folder} writes it anew')
    return metrics


def write_json(path: Path, value: Any) -> None:
    """Write JSON in whole or not at all; raises ArmorError when it cannot be written."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + '\n'
    partial = path.with_name(f'.{path.name}.part')
    try:
        partial.write_text(text, encoding='utf-8', errors='backslashreplace')
        partial.replace(path)
    except OSError as error:
        raise ArmorError(
            f'cannot write {path}: {error.strerror or error}; choose another place or make room'
        ) from error
