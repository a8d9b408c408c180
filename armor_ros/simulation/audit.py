# SPDX-License-Identifier: Apache-2.0
"""
``armor simulate audit``: how much of the answer a dataset gives away without being watched.

Trivial classifiers guess the outcome from a sliver of each sample. What they reach is what a
model could reach by a shortcut, so the table stands beside every figure measured on the data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from armor_ros.datasets.manifest import MANIFEST_FILE, read_manifest, write_whole
from armor_ros.errors import ArmorError
from armor_ros.simulation.audit_features import AuditData, extract

if TYPE_CHECKING:
    from armor_ros.simulation.audit_classifiers import Score

TRAIN_SPLIT = 'train'
CROSS_VALIDATION = '5 folds'
CHANCE = 0.5
BARS = {'metadata': 0.55, 'first frame': 0.55, 'trajectory': 0.75, 'instruction': 0.55}
"""The most that a probe's best classifier may reach, as the mean of both labels' rates."""

LOOKS_AT = {
    'metadata': 'duration, frame count and rate, times of the keyframes',
    'first frame': "each view's first frame",
    'trajectory': "the fingertips' true path and the gripper's opening",
    'instruction': 'the words of the instruction',
}
_ONE_LABEL = 'not measured: all samples have one label'

BARS_BROKEN = 3
"""Exit status when a bar does not hold, or could not be measured."""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What a probe reached on one split.

    ``split`` '5 folds' means cross-validation on the training samples; any other was guessed
    by classifiers that learned from all training samples. ``accuracy``, ``low`` and ``high`` are
    None when it could not be measured; ``note`` tells why. ``bar`` is None where none applies.
    """

    probe: str
    split: str
    samples: int
    classifier: str = ''
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    plain_accuracy: float | None = None
    majority: float | None = None
    bar: float | None = None
    note: str = ''

    @property
    def holds(self) -> bool:
        """Tell whether the bar holds; a bar that could not be measured does not."""
        return self.bar is None or (self.accuracy is not None and self.accuracy <= self.bar)


@dataclass(frozen=True, slots=True)
class Audit:
    """All findings on a dataset, which ``manifest_sha256`` identifies."""

    manifest_sha256: str
    seed: int
    samples: int
    groups: int
    failures: int
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Tell whether every bar holds."""
        return all(finding.holds for finding in self.findings)


def audit(
    data: AuditData,
    *,
    seed: int = 0,
    manifest_sha256: str = '',
    probes: Sequence[str] = tuple(BARS),
) -> Audit:
    """
    Measure ``probes`` by grouped cross-validation of the training samples, and on other splits.

    Training samples are those of the split 'train', or all where there is none. The bars are for
    the cross-validation; the other splits stand beside what a model scores there. Raises
    ArmorError when scikit-learn is missing or a label has too few recordings.
    """
    try:
        from armor_ros.simulation import audit_classifiers as classifiers
    except ModuleNotFoundError as error:
        raise ArmorError(
            'the audit needs scikit-learn, which is not installed: '
            "pip install 'armor-ros[simulation]' (or scikit-learn)"
        ) from error
    train: npt.NDArray[np.bool_] = data.splits == TRAIN_SPLIT
    if not train.any():
        train = np.ones(len(data.failed), dtype=np.bool_)
    if not classifiers.folds_possible(data.failed[train], data.groups[train]):
        failures = int(data.failed[train].sum())
        raise ArmorError(
            f'{failures} failures and {int(train.sum()) - failures} successes are too few to '
            f'audit: each needs at least {classifiers.FOLDS} recordings; a hundred tell more'
        )
    findings: list[Finding] = []
    for probe in probes:
        if probe in data.missing:
            note = f'not measured: {data.missing[probe]}'
            count = int(train.sum())
            findings.append(Finding(probe, CROSS_VALIDATION, count, bar=BARS[probe], note=note))
            continue
        features = data.features[probe]
        scores = classifiers.cross_validate(
            probe, features[train], data.failed[train], data.groups[train], seed
        )
        findings.append(_finding(probe, CROSS_VALIDATION, scores, BARS[probe]))
        scored = classifiers.transfer(
            probe, features, data.failed, data.groups, train, _tests(data, train), seed
        )
        for split in sorted(set(data.splits[~train].tolist())):
            if split in scored:
                findings.append(_finding(probe, split, scored[split], None))
            else:
                count = int((data.splits == split).sum())
                findings.append(Finding(probe, split, count, note=_ONE_LABEL))
    return Audit(
        manifest_sha256=manifest_sha256,
        seed=seed,
        samples=len(data.failed),
        groups=len(np.unique(data.groups)),
        failures=int(data.failed.sum()),
        findings=tuple(findings),
    )


def _tests(data: AuditData, train: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which samples belong to each split that is not trained on and has both labels."""
    masks = {split: data.splits == split for split in set(data.splits[~train].tolist())}
    return {split: mask for split, mask in masks.items() if len(set(data.failed[mask])) == 2}


def _finding(probe: str, split: str, scores: Sequence[Score], bar: float | None) -> Finding:
    """Return the best of a probe's scores."""
    best = max(scores, key=lambda score: score.accuracy)
    return Finding(probe=probe, split=split, bar=bar, **dataclasses.asdict(best))


def run_audit(path: Path, *, output: Path | None = None, seed: int = 0) -> int:
    """
    Audit the manifest dataset in the folder ``path``; print the table, return the exit status.

    Writes ``audit.json`` and ``audit.md`` into ``output``, by default the dataset's own folder.
    The status is 0 when all bars hold, else ``BARS_BROKEN``. Raises ArmorError when the dataset
    cannot be read or is too small.
    """
    samples = read_manifest(path)
    if not samples:
        raise ArmorError(f'{path / MANIFEST_FILE} has no samples to audit')
    digest = hashlib.sha256((path / MANIFEST_FILE).read_bytes()).hexdigest()
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        work = bar.add_task('reading samples', total=len(samples))
        data = extract(
            path, samples, lambda done, total: bar.update(work, completed=done, total=total)
        )
        bar.update(work, description='classifying', total=None)
        result = audit(data, seed=seed, manifest_sha256=digest)
    folder = path if output is None else output
    write_whole(folder / 'audit.json', to_json(result))
    write_whole(folder / 'audit.md', to_markdown(result))
    Console().print(to_table(result))
    console.print(f'{folder / "audit.md"}, {folder / "audit.json"}', markup=False)
    broken = [finding for finding in result.findings if not finding.holds]
    for finding in broken:
        console.print(escape(_sentence(finding)))
    return BARS_BROKEN if broken else 0


def _sentence(finding: Finding) -> str:
    if finding.accuracy is None:
        return f'{finding.probe}: {finding.note}'
    return (
        f'{finding.probe} gives the outcome away: a {finding.classifier} that sees only '
        f'{LOOKS_AT[finding.probe]} reaches {finding.accuracy:.2f}, more than {finding.bar:.2f}'
    )


def to_json(result: Audit) -> str:
    """Return the audit as JSON, every finding with whether its bar holds."""
    content = dataclasses.asdict(result)
    content['holds'] = result.holds
    content['chance'] = CHANCE
    for row, finding in zip(content['findings'], result.findings, strict=True):
        row['holds'] = finding.holds
    return json.dumps(content, indent=1, allow_nan=False) + '\n'


COLUMNS = ('sees only', 'split', 'samples', 'accuracy', '95 %', 'chance', 'bar', '')


def _cells(finding: Finding) -> tuple[str, ...]:
    accuracy, interval = '-', '-'
    if finding.accuracy is not None:
        accuracy = f'{finding.accuracy:.3f}'
        interval = f'{finding.low:.2f}-{finding.high:.2f}'
    bar = '' if finding.bar is None else f'{finding.bar:.2f}'
    verdict = finding.note
    if not verdict and finding.bar is not None:
        verdict = 'holds' if finding.holds else 'BROKEN'
    return (
        finding.probe,
        finding.split,
        str(finding.samples),
        accuracy,
        interval,
        f'{CHANCE:.2f}',
        bar,
        verdict,
    )


def to_markdown(result: Audit) -> str:
    """Return the table that stands beside every figure measured on the dataset."""
    lines = [
        '# What gives the outcome away',
        '',
        f'{result.samples} samples of {result.groups} recordings, {result.failures} failures. '
        'Accuracy is the mean of the rates on successes and on failures, of the better of two '
        'trivial classifiers; the interval is a bootstrap over recordings. "5 folds" is '
        'cross-validation on the training samples that tears no recording apart; for the other '
        'splits the classifiers learned from all training samples.',
        '',
        '| ' + ' | '.join(COLUMNS) + ' |',
        '|' + '---|' * len(COLUMNS),
        *('| ' + ' | '.join(_cells(finding)) + ' |' for finding in result.findings),
        '',
        f'Manifest sha256 `{result.manifest_sha256}`, seed {result.seed}.',
        '',
    ]
    return '\n'.join(lines)


def to_table(result: Audit) -> Table:
    """Return the same table for a terminal."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for number, column in enumerate(COLUMNS):
        table.add_column(column, no_wrap=number in (0, 4))
    for finding in result.findings:
        style = 'red' if not finding.holds else ('green' if finding.bar is not None else None)
        table.add_row(*(escape(cell) for cell in _cells(finding)), style=style)
    return table
