# SPDX-License-Identifier: Apache-2.0
"""
How long inference takes, beside the naive reference and the least that the device allows.

The naive reference encodes the whole clip again for each answer and uses transformers' own
``generate``. It is timed for one detection and one explanation of a later round, and multiplied
by the number of calls; both must give the engine's own answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from armor_ros.errors import ArmorError
from armor_ros.inference.benchmark_measure import Benchmark
from armor_ros.inference.benchmark_models import SIZES
from armor_ros.model.checkpoint import choose_device

NOTES = (
    'naive: one detection and one explanation of round 1 timed, times rounds and trajectories',
    'first_detection: beside one naive detection; all else beside all naive calls',
    'whole: the cold prefix and the rounds were timed one after the other',
    'drafted: weights that make every round repeat the last one; prefix computed anew',
    'sixty_seconds: two rounds behind the prefix repeated six times, over two rounds behind it',
    'memory: keys and values of three trajectories less those of one, over those of the prefix '
    '(that of two frames, repeated to the length of the clip)',
    'times on one thread of a CPU are of that thread, not of the clock on the wall',
    'refinement is kept from stopping early, and texts from ending early',
)


def run_benchmark(size_name: str, output: Path, device_name: str = 'auto') -> dict[str, Any]:
    """
    Measure one of ``SIZES``, write the figures as JSON and return them.

    Raises ArmorError when the size is unknown, does not fit, or an answer differs.
    """
    if size_name not in SIZES:
        raise ArmorError(f'size is {size_name!r}; it must be one of {", ".join(SIZES)}')
    figures = Benchmark(SIZES[size_name], choose_device(device_name)).run()
    figures = {'size': size_name, **figures, 'notes': list(NOTES)}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')
    return figures


def format_table(figures: dict[str, Any]) -> str:
    """Return the rows as aligned text."""
    head = f'{"":32}{"measured":>11}{"naive":>11}{"ratio":>9}{"limit":>11}{"of limit":>10}'
    lines = [f'{figures["device"]}, size {figures["size"]}, seconds', head]
    for row in figures['rows']:
        naive, limit = row['naive'], row['limit']
        lines.append(
            f'{row["name"]:32}{row["measured"]:11.3f}'
            + (f'{naive:11.2f}{naive / row["measured"]:8.1f}x' if naive else ' ' * 20)
            + (f'{limit:11.3f}{row["measured"] / limit:10.2f}' if limit else '')
        )
    lines += _rounds(figures)
    ratios = figures['ratios']
    lines.append(f'60 s clip over 10 s clip, after task end: {ratios["sixty_seconds"]:.2f}')
    lines.append(f'memory of three trajectories over one:    {ratios["memory"]:.1%} of the prefix')
    return '\n'.join(lines)


def _rounds(figures: dict[str, Any]) -> list[str]:
    """Return the lines that stand beside Table 4 of the paper: a round, its seconds, memory."""
    lines = [f'{"by the end of":32}{"streamed":>11}{"cold":>11}{"GB":>9}']
    for index, seconds in enumerate(figures['round_seconds']):
        line = f'round {index:<26}{figures["waited_seconds"] + seconds:11.3f}'
        line += f'{figures["prefix_seconds_cold"] + seconds:11.3f}'
        if figures['round_bytes']:
            line += f'{figures["round_bytes"][index] / 1e9:9.2f}'
        lines.append(line)
    return lines
