# SPDX-License-Identifier: Apache-2.0
"""The audit: each kind of leak is caught by its probe, and data without leaks passes."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from armor_ros.datasets.manifest import Sample, write_manifest
from armor_ros.datasets.video import write_video
from armor_ros.errors import ArmorError
from armor_ros.simulation import audit as audits
from armor_ros.simulation.audit import BARS_BROKEN, Audit, audit, run_audit, to_markdown
from armor_ros.simulation.audit_classifiers import score
from armor_ros.simulation.audit_features import (
    AuditData,
    extract,
    keyframe_times,
    picture_features,
    resampled,
)

COUNT = 400


def clean(seed: int = 0, count: int = COUNT) -> AuditData:
    """Return features that have nothing to do with the labels."""
    rng = np.random.default_rng(seed)
    words = np.array(['red', 'blue', 'can', 'box', 'left', 'right'])
    texts = [' '.join(rng.choice(words, 3)) for _ in range(count)]
    return AuditData(
        failed=rng.random(count) < 0.5,
        groups=np.arange(count),
        splits=np.full(count, 'train'),
        features={
            'metadata': rng.normal(size=(count, 4)),
            'first frame': rng.normal(size=(count, 60)),
            'trajectory': rng.normal(size=(count, 12)),
            'instruction': np.array(texts, dtype=object),
        },
        missing={},
    )


def leaking(probe: str, strength: float) -> AuditData:
    """Return data in which one probe's features tell the label."""
    data = clean()
    features = dict(data.features)
    if probe == 'instruction':
        texts = [
            f'{text} please' if failed and k % 3 else text
            for k, (text, failed) in enumerate(zip(features[probe], data.failed, strict=True))
        ]
        features[probe] = np.array(texts, dtype=object)
    else:
        features[probe] = features[probe] + strength * data.failed[:, None]
    return replace(data, features=features)


@pytest.fixture(scope='module')
def untouched() -> Audit:
    return audit(clean())


def test_data_without_leaks_passes(untouched):
    result = untouched
    assert result.holds
    assert [f.probe for f in result.findings] == list(audits.BARS)
    for finding in result.findings:
        assert abs(finding.accuracy - 0.5) < 0.09
        assert finding.low < finding.accuracy < finding.high
        assert 0.06 < finding.high - finding.low < 0.14  # 400 samples: plus or minus 5 points


@pytest.mark.parametrize(
    ('probe', 'strength'),
    [('metadata', 0.6), ('first frame', 0.4), ('trajectory', 1.2), ('instruction', 1.0)],
)
def test_a_leak_is_caught_by_its_probe(probe, strength):
    (finding,) = audit(leaking(probe, strength), probes=[probe]).findings
    assert not finding.holds
    assert finding.low > 0.55


def test_a_trajectory_may_tell_something_but_not_all():
    (finding,) = audit(leaking('trajectory', 0.25), probes=['trajectory']).findings
    assert 0.6 < finding.accuracy <= 0.75
    assert finding.holds


def test_a_leak_that_only_a_forest_sees_is_caught():
    data = clean()
    features = dict(data.features)
    first = np.abs(features['metadata'][:, 0])
    features['metadata'] = features['metadata'].copy()
    features['metadata'][:, 0] *= np.where((first > 0.67) == data.failed, 1.0, 0.02)
    (finding,) = audit(replace(data, features=features), probes=['metadata']).findings
    assert not finding.holds
    assert finding.classifier == 'random forest'


def test_twins_are_never_torn_apart():
    # Each recording has a fingerprint and one label: whoever has seen the twin knows the answer.
    rng = np.random.default_rng(0)
    half = clean(count=150)
    fingerprints = rng.normal(size=(150, 60)) * 5
    data = AuditData(
        failed=np.repeat(half.failed, 2),
        groups=np.repeat(half.groups, 2),
        splits=np.repeat(half.splits, 2),
        features={name: np.repeat(array, 2, axis=0) for name, array in half.features.items()}
        | {'first frame': np.repeat(fingerprints, 2, axis=0)},
        missing={},
    )
    torn = replace(data, groups=np.arange(300))
    (together,) = audit(data, probes=['first frame']).findings
    (apart,) = audit(torn, probes=['first frame']).findings
    assert together.accuracy < 0.6
    assert apart.accuracy > 0.8


def test_the_same_seed_gives_the_same_audit(untouched):
    (again,) = audit(clean(), probes=['first frame']).findings
    assert again in untouched.findings


def test_uneven_labels_do_not_move_chance():
    data = clean()
    rng = np.random.default_rng(5)
    uneven = replace(data, failed=rng.random(COUNT) < 0.85)
    for finding in audit(uneven, probes=['metadata', 'instruction']).findings:
        assert finding.majority > 0.8
        assert abs(finding.accuracy - 0.5) < 0.12


def test_scores_by_hand():
    failed = np.array([True, True, True, False])
    right = np.array([True, True, False, True])
    result = score('x', right, failed, np.arange(4), seed=0)
    assert result.accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert result.plain_accuracy == result.majority == 0.75
    assert result.low <= result.accuracy <= result.high


def test_twins_widen_the_interval():
    rng = np.random.default_rng(0)
    failed, right = rng.random(100) < 0.5, rng.random(100) < 0.7

    def width(groups) -> float:
        result = score('x', np.repeat(right, 4), np.repeat(failed, 4), groups, seed=0)
        return result.high - result.low

    assert width(np.repeat(np.arange(100), 4)) > 1.6 * width(np.arange(400))


def test_other_splits_are_guessed_by_what_was_learned_in_training():
    data = leaking('metadata', 1.0)
    splits = np.where(np.arange(COUNT) < 250, 'train', 'unseen_objects')
    splits[-20:] = 'unseen_failure'
    failed = data.failed.copy()
    failed[-20:] = True
    result = audit(replace(data, splits=splits, failed=failed), probes=['metadata'])
    rows = {f.split: f for f in result.findings}
    assert rows['5 folds'].samples == 250
    assert rows['unseen_objects'].samples == 130
    assert rows['unseen_objects'].accuracy > 0.8
    assert rows['unseen_objects'].bar is None
    assert 'one label' in rows['unseen_failure'].note
    assert not result.holds


def test_what_cannot_be_measured_does_not_hold():
    data = clean()
    result = audit(
        replace(data, features={}, missing={'trajectory': 'no state'}), probes=['trajectory']
    )
    (finding,) = result.findings
    assert not finding.holds
    assert 'not measured: no state' in to_markdown(result)


def test_too_few_recordings_are_refused():
    with pytest.raises(ArmorError, match=r'too few to audit.*at least 5 recordings'):
        audit(clean(count=6))


def test_features_by_hand():
    still = np.zeros((20, 4))
    still[5:, 0] += 1.0
    still[12:, 3] += 1.0
    times = keyframe_times(still, fps=5.0)
    assert times.shape == (8,)
    assert {0.0, 1.0, 2.4, 3.8} <= set(times.tolist())
    assert keyframe_times(np.zeros((2, 4)), 1.0).tolist() == [0.0] + [1.0] * 7
    assert resampled(np.array([[0.0], [1.0], [4.0]]), 5).tolist() == [0.0, 0.5, 1.0, 2.5, 4.0]
    grey = np.full((32, 32, 3), 100, np.uint8)
    striped = grey.copy()
    striped[:, ::8] = 200
    assert picture_features(grey).shape == picture_features(striped).shape
    assert np.isfinite(picture_features(grey)).all()
    edges = slice(16 * 16 * 3, 16 * 16 * 3 + 128)
    assert picture_features(grey)[edges].max() == 0.0
    assert picture_features(striped)[edges].max() > 0.0


def write_dataset(root, *, leak: bool, count: int = 40) -> None:
    rng = np.random.default_rng(1)
    samples = []
    for number in range(count):
        # twins: two samples share recording and files
        name = f'e{number // 2}'
        failed = bool(number % 2) if not leak else bool(number // 2 % 2)
        if number % 2 == 0:
            length = 6 + 4 * (failed if leak else int(rng.integers(2)))
            frames = rng.integers(0, 255, (length, 16, 16, 3)).astype(np.uint8)
            (root / 'videos' / name).mkdir(parents=True)
            write_video(root / 'videos' / name / 'front.mp4', frames, 5.0)
            (root / 'states').mkdir(exist_ok=True)
            np.savez(
                root / 'states' / f'{name}.npz',
                tcp=rng.normal(size=(length, 3)),
                width=rng.random(length),
            )
        samples.append(
            Sample(
                id=f's{number}',
                instruction='lift the can' if number % 4 else 'lift the box',
                views={'front': f'videos/{name}/front.mp4'},
                fps=5.0,
                frames=length,
                label='success'
                if failed and number % 5 == 0
                else 'failure'
                if failed
                else 'success',
                judged='failure' if failed else 'success',
                episode=name,
                state=f'states/{name}.npz',
            )
        )
    write_manifest(root, samples)


def test_a_dataset_is_audited_from_its_files(tmp_path, capsys):
    write_dataset(tmp_path, leak=True)
    assert run_audit(tmp_path, output=tmp_path / 'out') == BARS_BROKEN
    content = json.loads((tmp_path / 'out' / 'audit.json').read_text())
    assert content['samples'] == 40
    assert content['groups'] == 20
    assert content['failures'] == 20  # by what happened, not by noisy labels
    assert content['holds'] is False
    metadata = content['findings'][0]
    assert metadata['probe'] == 'metadata'
    assert metadata['accuracy'] == 1.0
    assert metadata['holds'] is False
    text = (tmp_path / 'out' / 'audit.md').read_text()
    assert '| metadata | 5 folds | 40 | 1.000 |' in text
    assert 'BROKEN' in text
    assert content['manifest_sha256'] in text
    printed = capsys.readouterr()
    assert 'trajectory' in printed.out
    assert 'metadata gives the outcome away' in printed.err.replace('\n', ' ')


def test_twins_of_opposite_labels_leave_nothing_to_guess(tmp_path):
    write_dataset(tmp_path, leak=False)
    run_audit(tmp_path)
    content = json.loads((tmp_path / 'audit.json').read_text())
    for finding in content['findings'][:3]:
        assert finding['accuracy'] <= 0.5


def test_views_of_any_sizes_are_audited(tmp_path):
    rng = np.random.default_rng(4)
    sizes = ((48, 64), (320, 240), (8, 10))
    samples = []
    for number in range(24):
        paths = {}
        for turn, view in enumerate(('front', 'wrist')):
            height, width = sizes[(number + turn) % 3]
            frame = rng.integers(0, 255, (1, height, width, 3)).astype(np.uint8)
            paths[view] = f'{view}{number}.mp4'
            write_video(tmp_path / paths[view], frame, 5.0)
        label = 'failure' if number % 2 else 'success'
        samples.append(Sample(f's{number}', 'lift it', paths, 5.0, 1, label))
    write_manifest(tmp_path, samples)
    pictures = extract(tmp_path, samples).features['first frame']
    assert pictures.shape == (24, 2 * (16 * 16 * 3 + 128 + 24))
    assert np.isfinite(pictures).all()
    assert run_audit(tmp_path) == BARS_BROKEN  # without states the motion cannot be measured
    findings = json.loads((tmp_path / 'audit.json').read_text())['findings']
    measured = {row['probe']: row['accuracy'] is not None for row in findings}
    assert measured == {
        'metadata': True,
        'first frame': True,
        'trajectory': False,
        'instruction': True,
    }


def test_ever_more_pairs_are_audited(tmp_path, monkeypatch):
    script = Path(__file__).parents[2] / 'benchmarks' / 'simulation_audit.py'
    spec = importlib.util.spec_from_file_location('simulation_audit', script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'LEAST', 20)
    data = leaking('metadata', 1.0)
    # two samples a pair; in the first half four, with nothing in them that tells
    groups = np.concatenate([np.arange(200) // 4, 50 + np.arange(200) // 2])
    metadata = data.features['metadata'].copy()
    metadata[:200] = 0.0
    data = replace(data, groups=groups, features={'metadata': metadata})
    monkeypatch.setattr(module, 'read_manifest', lambda *_: ())
    monkeypatch.setattr(module, 'extract', lambda *_: data)
    rows = module.curve(tmp_path, ['metadata'])
    assert [row['pairs'] for row in rows] == [20, 40, 80, 150, 100, 50]
    assert [row['part'] for row in rows[-3:]] == ['at random', 'without twins', 'with twins']
    assert [row['samples'] for row in rows[-3:]] == [400, 200, 200]
    told = [row['probes']['metadata']['accuracy'] for row in rows]
    assert told[4] > 0.85 > told[3] > 0.6 > told[5]


def test_samples_without_state_are_told(tmp_path):
    write_dataset(tmp_path, leak=True, count=12)
    from armor_ros.datasets.manifest import read_manifest

    samples = [replace(sample, state=None) for sample in read_manifest(tmp_path)]
    data = extract(tmp_path, samples)
    assert data.missing == {'trajectory': 'samples have no state'}
    assert data.features['metadata'].shape == (12, 3)


def test_a_state_without_the_path_is_named(tmp_path):
    write_dataset(tmp_path, leak=True, count=12)
    np.savez(tmp_path / 'states' / 'e0.npz', tcp=np.zeros((6, 3)))
    with pytest.raises(ArmorError, match=r"'s0' lacks width; it has: tcp"):
        run_audit(tmp_path)


def test_an_empty_dataset_is_named(tmp_path):
    write_manifest(tmp_path, [])
    with pytest.raises(ArmorError, match='no samples'):
        run_audit(tmp_path)
