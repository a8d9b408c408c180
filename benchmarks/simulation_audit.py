# SPDX-License-Identifier: Apache-2.0
"""
How far the audit's classifiers get with ever more training samples of a data set.

    .venv/bin/python benchmarks/simulation_audit.py out/benchmark --output out/audit-curve.json

A classifier that has seen more guesses better, so that an audit of few samples flatters. For each
number of pairs of episodes, the training split's pairs are cut down to so many at random, and
audited by cross-validation. The last rows are of the pairs without and with twins alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from armor_ros.datasets.manifest import read_manifest
from armor_ros.simulation.audit import BARS, audit
from armor_ros.simulation.audit_features import AuditData, extract

LEAST, SEED = 50, 0


def part(data: AuditData, groups: npt.NDArray[np.int64]) -> AuditData:
    """Return the samples of some groups."""
    kept = np.isin(data.groups, groups)
    return replace(
        data,
        failed=data.failed[kept],
        groups=data.groups[kept],
        splits=data.splits[kept],
        features={name: rows[kept] for name, rows in data.features.items()},
    )


def measure(name: str, data: AuditData, probes: Sequence[str]) -> dict[str, Any]:
    """Return the pairs, the samples, and what each probe reached, with its interval."""
    findings = audit(data, seed=SEED, probes=probes).findings
    return {
        'part': name,
        'pairs': len(np.unique(data.groups)),
        'samples': len(data.failed),
        'probes': {
            finding.probe: {
                'accuracy': finding.accuracy,
                'low': finding.low,
                'high': finding.high,
                'classifier': finding.classifier,
            }
            for finding in findings
        },
    }


def curve(folder: Path, probes: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each doubling of the pairs, for all, and for both kinds of pairs."""
    samples = read_manifest(folder, 'train')
    data = extract(folder, samples)
    groups, counts = np.unique(data.groups, return_counts=True)
    order = np.random.default_rng(SEED).permutation(groups)
    sizes, size = [len(groups)], LEAST
    while size < len(groups):
        sizes.insert(-1, size)
        size *= 2
    rows = []
    for size in sizes:
        rows.append(measure('at random', part(data, order[:size]), probes))
        show(rows[-1])
    for name, kept in (('without twins', counts <= 2), ('with twins', counts > 2)):
        if kept.any():
            rows.append(measure(name, part(data, groups[kept]), probes))
            show(rows[-1])
    return rows


def show(row: dict[str, Any]) -> None:
    """Print a row as one of a Markdown table."""
    cells = [
        f'{found["accuracy"]:.3f} ({found["low"]:.2f}-{found["high"]:.2f})'
        for found in row['probes'].values()
    ]
    print('|', ' | '.join([row['part'], str(row['pairs']), str(row['samples']), *cells]), '|')


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="The audit's figures by number of samples.")
    parser.add_argument('dataset', type=Path, help='folder of a data set with a training split')
    parser.add_argument('--output', type=Path, help='JSON file for the figures')
    options = parser.parse_args()
    print('|', ' | '.join(['pairs', 'number', 'samples', *BARS]), '|')
    rows = curve(options.dataset, tuple(BARS))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
