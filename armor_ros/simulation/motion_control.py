# SPDX-License-Identifier: Apache-2.0
"""What the arm's motion alone gives away, beside figures of models that see pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from armor_ros.datasets.manifest import read_manifest
from armor_ros.errors import ArmorError
from armor_ros.simulation.audit import audit
from armor_ros.simulation.audit_features import extract

PROBE = 'trajectory'


def motion_only(root: Path, splits: Sequence[str]) -> dict[str, dict[str, Any]]:
    """
    Return what a classifier of the gripper's true path and opening reaches, by split.

    It learns from the split 'train' and is the better of two; see ``audit``. ``value``, ``low``
    and ``high`` are of its balanced accuracy, ``accuracy`` is the plain one. All are None with a
    ``reason`` where the data set does not tell. Raises ArmorError when it cannot be read.
    """
    # pictures are not looked at
    samples = [dataclasses.replace(sample, views={}) for sample in read_manifest(root)]
    try:
        findings = audit(extract(root, samples), probes=(PROBE,)).findings
    except ArmorError as error:
        return {split: _nothing(str(error)) for split in splits}
    found = {finding.split: finding for finding in findings if finding.accuracy is not None}
    lacking = '; '.join(finding.note for finding in findings if finding.note)
    return {
        split: {
            'value': found[split].accuracy,
            'low': found[split].low,
            'high': found[split].high,
            'n': found[split].samples,
            'interval': 'bootstrap',
            'accuracy': found[split].plain_accuracy,
            'classifier': found[split].classifier,
        }
        if split in found
        else _nothing(lacking or f'the data set has no split {split!r}')
        for split in splits
    }


def _nothing(reason: str) -> dict[str, Any]:
    numbers = dict.fromkeys(('value', 'low', 'high', 'accuracy'))
    return {**numbers, 'n': 0, 'interval': '', 'reason': reason}
