# SPDX-License-Identifier: Apache-2.0
"""Any source becomes a manifest or recordings, and what comes out is what went in."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from armor_ros.cli import app
from armor_ros.datasets.bags import bag_info
from armor_ros.datasets.convert import EPOCH_NS
from armor_ros.datasets.manifest import Sample, read_manifest, read_view, write_manifest
from armor_ros.datasets.video import write_video
from armor_ros.errors import ArmorError
from armor_ros.evaluation.conversion import ConversionRequest, convert
from armor_ros.evaluation.dataset_command import parse_size
from armor_ros.evaluation.opening import data_set_opener, open_sources
from armor_ros.evaluation.sources import PartLog, SourceSettings

FRAMES = 8


def data_set(root: Path) -> Path:
    """Two samples of two cameras, and one that is a ready collage."""
    (root / 'clips').mkdir(parents=True)
    samples = []
    for number in range(2):
        views = {}
        for shade, name in enumerate(('wrist', 'front')):
            # a slow fade, which mp4 and JPEG keep
            levels = np.linspace(40 + 60 * shade, 90 + 60 * shade, FRAMES).astype(np.uint8)
            frames = np.broadcast_to(levels[:, None, None, None], (FRAMES, 48, 64, 3))
            views[name] = f'clips/{number}.{name}.mp4'
            write_video(root / views[name], np.ascontiguousarray(frames), 5.0)
        samples.append(
            Sample(
                id=f's/{number}',
                instruction='lift the can',
                views=views,
                fps=5.0,
                frames=FRAMES,
                label='failure' if number else 'success',
                task='lift',
                explanation='it fell' if number else None,
                split='test',
                robot_status='SUCCEEDED',
                group='g',
                episode=f'e{number}',
                injected_mode='slip' if number else '',
            )
        )
    cv2.imwrite(str(root / 'c.png'), np.full((32, 96, 3), 77, np.uint8))
    samples.append(Sample('c', 'lift the can', {}, 5.0, 1, 'success', collage='c.png'))
    write_manifest(root, samples)
    return root


def cases_of(path: Path) -> list[Any]:
    sources, failures = open_sources([path], SourceSettings(as_recorded=True), data_set_opener())
    assert not failures
    log = PartLog()
    cases = [
        c for source in sources for part in range(source.parts()) for c in source.cases(part, log)
    ]
    assert not log.failures
    return cases


@pytest.mark.parametrize('target', ['mcap', 'sqlite3'])
def test_a_data_set_becomes_recordings_that_say_the_same(tmp_path: Path, target: str) -> None:
    root = data_set(tmp_path / 'data')
    output = tmp_path / 'bags'
    summary = convert(ConversionRequest([root], output, target, fps=5.0))
    assert summary.written == 2
    (sentence,) = summary.left_out
    assert 'c has only a ready collage' in sentence
    assert not (output / '.parts').exists()
    for before, after in zip(cases_of(root)[:2], cases_of(output), strict=True):
        assert after.source_kind == 'bag'
        assert after.label.label == before.label.label
        assert after.label.explanation == before.label.explanation
        assert not after.label.weak
        one, two = before.episode, after.episode
        assert (two.task.task_id, two.task.instruction) == (one.task.task_id, 'lift the can')
        assert two.task.status.name == 'SUCCEEDED'
        assert two.end_ns - two.start_ns == one.end_ns - one.start_ns
        for clip, again in zip(one.clips, two.clips, strict=True):
            assert again.evidence.camera == clip.evidence.camera
            assert again.frames.shape == clip.frames.shape == (FRAMES, 48, 64, 3)
            assert np.abs(again.frames.astype(int) - clip.frames).max() <= 6
    (first, _) = sorted(output.iterdir())
    assert len(list(first.glob('*.mcap' if target == 'mcap' else '*.db3'))) == 1
    told = bag_info(first)
    assert [camera.name for camera in told.cameras] == ['front', 'wrist']
    # a data set has no clock: a robot's is never near zero, which ROS takes for no time at all
    assert EPOCH_NS <= told.start_ns < EPOCH_NS + 10**9


def test_a_data_set_becomes_a_manifest(tmp_path: Path) -> None:
    root = data_set(tmp_path / 'data')
    convert(ConversionRequest([root], tmp_path / 'out', size=(24, 32)))
    before, after = read_manifest(root), read_manifest(tmp_path / 'out')
    assert [sample.id for sample in after] == ['s/0', 's/1', 'c']
    for old, new in zip(before[:2], after, strict=False):
        for name in ('label', 'explanation', 'split', 'robot_status', 'task', 'frames', 'fps'):
            assert getattr(new, name) == getattr(old, name), name
        assert (new.group, new.episode, new.source) == ('g', old.episode, 'data')
        for view in ('front', 'wrist'):
            frames = read_view(tmp_path / 'out', new, view)
            assert frames.shape == (FRAMES, 24, 32, 3)
            original = read_view(root, old, view)[:, ::2, ::2]
            assert np.abs(frames.astype(int) - original).max() <= 4
    assert after[2].collage is not None
    assert cv2.imread(str(tmp_path / 'out' / after[2].collage)).shape == (32, 96, 3)


def test_a_recording_becomes_a_manifest(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera('/front/image_raw/compressed')
    # this camera starts late: the gap is filled with its first picture
    robot_bag.camera('/wrist/image_raw/compressed', seconds=(2.0, 6.0))
    robot_bag.goal(1.0, 3.0, number=1)
    robot_bag.goal(4.0, 5.0, number=2, status=5)
    robot_bag.goal(5.1, 5.6, number=3, status=6)
    summary = convert(ConversionRequest([robot_bag.write(tmp_path / 'bag')], tmp_path / 'out'))
    assert summary.written == 2
    (sentence,) = summary.left_out
    assert 'has no label' in sentence
    first, second = read_manifest(tmp_path / 'out')
    assert (first.label, first.robot_status, first.source) == ('success', 'SUCCEEDED', 'bag')
    assert (second.label, second.robot_status) == ('failure', 'ABORTED')
    assert (first.weak, second.weak) == (True, True)
    assert (first.frames, first.fps, first.task) == (11, 5.0, 'pick')
    assert list(first.views) == ['front', 'wrist']
    wrist = read_view(tmp_path / 'out', first, 'wrist')
    # as large as it was recorded
    assert wrist.shape == (11, 24, 32, 3)
    assert np.array_equal(wrist[0], wrist[4]) or np.abs(wrist[0].astype(int) - wrist[4]).mean() < 9


def test_an_interrupted_conversion_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = [data_set(tmp_path / name) for name in ('a', 'b')]
    request = ConversionRequest(roots, tmp_path / 'out')
    whole = tmp_path / 'whole'
    convert(ConversionRequest(roots, whole))
    from armor_ros.evaluation import conversion

    real, calls = conversion.write_sample, []

    def interrupted(root: Path, episode: Any, note: Any) -> Sample:
        calls.append(note.id)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(root, episode, note)

    monkeypatch.setattr(conversion, 'write_sample', interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(request)
    assert not (tmp_path / 'out' / 'manifest.jsonl').exists()
    calls[:] = [''] * 9
    assert convert(request).written == 6
    assert len(calls) - 9 in (3, 6)
    assert (tmp_path / 'out' / 'manifest.jsonl').read_bytes() == (
        whole / 'manifest.jsonl'
    ).read_bytes()
    names = [sample.id for sample in read_manifest(whole)]
    assert names == [f'{name}/{sample}' for name in 'ab' for sample in ('s/0', 's/1', 'c')]


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    root = data_set(tmp_path / 'data')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'mine').touch()
    with pytest.raises(ArmorError, match='is not empty; choose another folder'):
        convert(ConversionRequest([root], tmp_path / 'out'))
    with pytest.raises(ArmorError, match="target is 'avi'; it must be one of manifest, mcap"):
        convert(ConversionRequest([root], tmp_path / 'new', 'avi'))


def test_ids_are_never_paths(tmp_path: Path) -> None:
    root = tmp_path / 'data'
    root.mkdir()
    write_video(root / 'a.mp4', np.zeros((3, 16, 16, 3), np.uint8), 5.0)
    write_manifest(root, [Sample('../../x', 'lift', {'../c': 'a.mp4'}, 5.0, 3, 'success')])
    for target in ('manifest', 'mcap'):
        output = tmp_path / 'deep' / 'er' / target
        assert convert(ConversionRequest([root], output, target)).written == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ['data', 'deep']
    assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['er']
    assert len(read_manifest(tmp_path / 'deep' / 'er' / 'manifest')) == 1


@pytest.mark.parametrize('text', ['320', 'x', '3x', 'ax4', '-3x4'])
def test_sizes(text: str) -> None:
    assert parse_size('320x240') == (240, 320)
    assert parse_size('') is None
    with pytest.raises(ArmorError, match='give WIDTHxHEIGHT'):
        parse_size(text)


def test_the_command_tells_what_is_in_sources(
    robot_bag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('COLUMNS', '120')
    root = data_set(tmp_path / 'data')
    robot_bag.camera()
    robot_bag.goal(1.0, 3.0)
    bag = robot_bag.write(tmp_path / 'bag')
    (bag / 'labels.jsonl').write_text(json.dumps({'task_id': 'x', 'label': 'success'}))
    result = CliRunner().invoke(app, ['dataset', 'info', str(root), str(bag)])
    assert result.exit_code == 0, result.output
    for text in (
        '1 success (weak)',
        '2 success, 1 failure',
        '/front/image_raw/compressed, 60 images',
        '2 records',
        '2 test, 1 none',
        'manifest',
    ):
        assert text in result.output, result.output


def test_the_command_validates(robot_bag: Any, tmp_path: Path) -> None:
    root = data_set(tmp_path / 'data')
    robot_bag.camera(broken=lambda index: index == 3)
    robot_bag.goal(1.0, 3.0)
    bag = robot_bag.write(tmp_path / 'bag')
    result = CliRunner().invoke(app, ['dataset', 'validate', str(root)])
    assert result.exit_code == 0, result.output
    assert 'data: everything can be read' in result.output
    clip = root / 'clips' / '1.front.mp4'
    clip.write_bytes(clip.read_bytes()[:200])
    result = CliRunner().invoke(app, ['dataset', 'validate', str(root), str(bag)])
    assert result.exit_code == 1
    assert isinstance(result.exception, ArmorError)
    faults = str(result.exception).splitlines()
    assert len(faults) == 2
    assert '1.front.mp4' in faults[0]
    assert faults[1].startswith('bag: /front/image_raw/compressed: JPEG of 40 bytes')


def test_files_beside_the_views_are_validated(robot_bag: Any, tmp_path: Path) -> None:
    root = data_set(tmp_path / 'data')
    (first, second, third) = read_manifest(root)
    np.savez(root / 's.npz', tcp=np.zeros((FRAMES, 3)))
    robot_bag.camera()
    robot_bag.write(root / 'bag')
    whole = dataclasses.replace(first, state='s.npz', collage='c.png', bag='bag')
    write_manifest(root, [whole, dataclasses.replace(second, state='s.npz'), third])
    command = ['dataset', 'validate', str(root)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    (root / 's.npz').write_bytes((root / 's.npz').read_bytes()[:100])
    (root / 'c.png').write_bytes(b'no picture')
    next((root / 'bag').glob('*.mcap')).unlink()
    faults = str(CliRunner().invoke(app, command).exception).splitlines()
    assert [fault.partition(': ')[2].partition(': ')[0] for fault in faults] == [
        's/0, state', 's/0, collage', 's/0, bag', 's/1, state', 'c, collage'
    ]  # fmt: skip
    np.savez(root / 's.npz', tcp=np.zeros((FRAMES - 1, 3)))
    assert f'it needs {FRAMES} rows, one a frame' in str(
        CliRunner().invoke(app, command).exception
    )


def test_why_a_line_is_no_sample_is_told(tmp_path: Path) -> None:
    root = data_set(tmp_path / 'data')
    with (root / 'manifest.jsonl').open('a') as file:
        file.write('{"id": "x", "lable": "success"}\n')
    result = CliRunner().invoke(app, ['dataset', 'validate', str(root)])
    said = "data: record skipped: it cannot be read (line 4: unknown key 'lable'; did you mean 'l"
    assert str(result.exception).startswith(said)
    result = CliRunner().invoke(app, ['dataset', 'info', str(root)])
    assert '(line 4: unknown' in result.output


def test_the_command_converts(tmp_path: Path) -> None:
    root = data_set(tmp_path / 'data')
    arguments = [
        'dataset',
        'convert',
        str(root),
        '--output',
        str(tmp_path / 'out'),
        '--to',
        'mcap',
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert '2 recordings in' in result.output
