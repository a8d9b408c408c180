# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from armor_ros.datasets.manifest import Sample, read_manifest, write_manifest
from armor_ros.simulation.audit import audit
from armor_ros.simulation.audit_features import extract
from armor_ros.simulation.motion_control import motion_only

FRAMES = 6


def write_paths(root: Path, count: int, *, gives_away: float) -> Path:
    """Write samples whose failures end this much higher than their successes; no pictures."""
    rng = np.random.default_rng(7)
    samples = []
    (root / 'states').mkdir(parents=True)
    for index in range(count):
        failed = bool(index % 2)
        tcp = rng.normal(size=(FRAMES, 3)) / 10
        tcp[-1, 2] += gives_away * failed
        np.savez(root / f'states/{index}.npz', tcp=tcp, width=rng.random(FRAMES))
        samples.append(
            Sample(
                f's{index}', 'tidy', {'front': 'missing.mp4'}, 5.0, FRAMES,
                'failure' if failed else 'success', state=f'states/{index}.npz',
                split='train' if index < count - 20 else 'test',
            )
        )  # fmt: skip
    write_manifest(root, samples)
    return root


def test_a_path_that_gives_the_outcome_away_is_told(tmp_path: Path) -> None:
    clear = motion_only(write_paths(tmp_path / 'a', 60, gives_away=2.0), ['test', 'elsewhere'])
    assert clear['test']['value'] >= 0.9
    assert clear['test']['low'] <= clear['test']['value'] <= clear['test']['high']
    assert clear['test']['n'] == 20
    assert clear['elsewhere']['value'] is None
    assert "no split 'elsewhere'" in clear['elsewhere']['reason']
    hidden = motion_only(write_paths(tmp_path / 'b', 60, gives_away=0.0), ['test'])
    assert hidden['test']['value'] < 0.8


def test_it_is_the_audits_figure(tmp_path: Path) -> None:
    root = write_paths(tmp_path / 'a', 60, gives_away=0.3)
    found = motion_only(root, ['test'])['test']
    samples = [_blind(sample) for sample in read_manifest(root)]
    whole = audit(extract(root, samples), probes=('trajectory',))
    expected = next(each for each in whole.findings if each.split == 'test')
    assert found['value'] == pytest.approx(expected.accuracy)
    assert found['accuracy'] == pytest.approx(expected.plain_accuracy)


def _blind(sample: Sample) -> Sample:
    sample.views.clear()
    return sample


def test_too_few_samples_are_no_control(tmp_path: Path) -> None:
    found = motion_only(write_paths(tmp_path / 'a', 24, gives_away=1.0), ['test'])
    assert found['test']['value'] is None
    assert 'too few to audit' in found['test']['reason']
