# SPDX-License-Identifier: Apache-2.0
"""
How long a training step takes, beside the naive loop that takes no shortcut.

Both learn from the same answers of the same policy; their losses and gradients must agree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from armor_ros.errors import ArmorError
from armor_ros.model.checkpoint import choose_device
from armor_ros.training.benchmark_measure import TrainingBenchmark
from armor_ros.training.benchmark_models import TRAINING_SIZES

NOTES = (
    'naive: each question a sequence of its own with the whole clip, through vision tower and all '
    "layers of transformers as it comes; texts from transformers' generate; sample by sample, all "
    'rounds, the last one answered too',
    'measured: the mean of two steps, one before the naive one and one after it',
    'whole online step: rollout, forward and backward, and AdamW (update_seconds)',
    'warm-up, embeddings kept: beside the same packed step in which the frozen tower runs again',
    "bytes: the step's peak less what was in use before it, the product's and the naive loop's",
    'apart: the larger difference of the two losses, relative above 1, and the largest of a '
    "weight's gradient, relative to it",
    'texts are kept from ending early, and steps have the learning rate 0',
    'times on one thread of a CPU are of that thread, not of the clock on the wall',
)


def run_training_benchmark(
    size_name: str, output: Path, device_name: str = 'auto'
) -> dict[str, Any]:
    """
    Measure one of ``TRAINING_SIZES``, write the figures as JSON and return them.

    Raises ArmorError when the size is unknown, does not fit, or the two ways do not agree.
    """
    if size_name not in TRAINING_SIZES:
        raise ArmorError(f'size is {size_name!r}; it must be one of {", ".join(TRAINING_SIZES)}')
    figures = TrainingBenchmark(TRAINING_SIZES[size_name], choose_device(device_name)).run()
    figures = {'size': size_name, **figures, 'notes': list(NOTES)}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')
    return figures


def training_table(figures: dict[str, Any]) -> Table:
    """Return the figures as a table; its caption says how far the two ways are apart."""
    settings = figures['settings']
    table = Table(
        title=f'{figures["device"]}, size {figures["size"]}, {settings["samples"]} samples '
        f'({settings["dense_samples"]} explained), {settings["rounds"]} rounds',
        caption=_caption(figures['apart']),
    )
    table.add_column('', no_wrap=True)
    for name in ('seconds', 'naive', 'ratio', 'GB', 'naive'):
        table.add_column(name, justify='right')
    for row in figures['rows']:
        memory = figures['bytes'].get(row['name'], [None, None])
        table.add_row(
            row['name'],
            f'{row["measured"]:.3f}',
            f'{row["naive"]:.3f}',
            f'{row["naive"] / row["measured"]:.2f}x',
            *('' if taken is None else f'{taken / 1e9:.2f}' for taken in memory),
        )
    return table


def _caption(apart: dict[str, dict[str, float]]) -> str:
    losses = max(each['losses'] for each in apart.values())
    gradients = max(each['gradients'] for each in apart.values())
    return f'losses at most {losses:.1e} apart, gradients {gradients:.1e} of their size'
