# SPDX-License-Identifier: Apache-2.0
"""Data sets: repeatable, continued after interruptions, balanced, and whole in every part."""

from __future__ import annotations

import multiprocessing
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from armor_ros.configuration import config_from_dict
from armor_ros.datasets.bags import BagImage, BagStatus, BagTaskEvent, read_bag
from armor_ros.datasets.manifest import (
    Sample,
    read_first_frame,
    read_manifest,
    read_state,
    read_view,
)
from armor_ros.episodes.task import TaskPhase
from armor_ros.errors import ArmorError
from armor_ros.simulation import clips, generate, pairs
from armor_ros.simulation.engine import can_render, make_renderer
from armor_ros.simulation.episode import draw_setup
from armor_ros.simulation.generate import Generated
from armor_ros.simulation.recipe import Recipe
from armor_ros.simulation.robot import Cell
from armor_ros.simulation.workers import Outcome
from armor_ros.training.state_targets import state_facts


def rendering_works() -> bool:
    if not can_render():
        return False
    try:
        make_renderer(Cell(draw_setup(0, 'nominal').scene).model, 32, 32).close()
    except ArmorError:
        return False
    return True


pytestmark = pytest.mark.skipif(
    not rendering_works(), reason='no off-screen GL library works here'
)


def recipe(split: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    own = {
        'episodes': 4,
        'perturbed': 0.0,
        'tasks': {'transport': 1},
        'modes': {'wrong_object': 1},
    }
    data = {'size': 32, 'fps': 2, 'splits': {'train': own | (split or {})}}
    return config_from_dict(Recipe, data | changes)


def make(output: Path, what: Recipe, **options: Any) -> Generated:
    return generate.generate(what, output, **{'workers': 0} | options)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def tells_its_time(sample: Sample) -> bool:
    """Whether the explanation dates the event as it is dated, from the clip's first frame."""
    assert sample.event is not None
    assert sample.explanation is not None
    told = re.findall(r'([0-9.]+) s after the start', sample.explanation)
    return told == [f'{sample.event["time_ns"] / 1e9:.1f}']


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp('whole') / 'set'
    make(output, recipe())
    return output


def test_a_data_set_is_read_back(whole: Path) -> None:
    samples = read_manifest(whole, 'train')
    assert len(samples) == 4
    assert {sample.source for sample in samples} == {'simulation'}
    for sample in samples:
        for view in ('front', 'wrist', 'overhead'):
            frames = read_view(whole, sample, view)
            assert frames.shape == (sample.frames, 32, 32, 3)
            assert frames.std() > 10
            assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 20
        state = read_state(whole, sample)
        assert state['tcp'].shape == (sample.frames, 3)
        assert state['tcp'][:, 2].min() < 0.2 < state['tcp'][0, 2]
        assert {*state['above']} <= {*state['regions'][0], 'table', 'floor'}
        if sample.task == 'transport' and sample.judged == 'success':
            destination = sample.instruction.split(' to the ')[1]
            frames = range(sample.frames)
            facts = state_facts(state, sample.items, frames, sample.instruction)
            assert {is_true for _, is_true in facts.compared} == {True}
            assert facts.named[-3:] == tuple(
                (f'above the {name}', name == destination) for name in state['regions'][0]
            )
            item = sample.instruction.removeprefix('transport the ').split(' from ')[0]
            held = [step for step in facts.timeline if ' with ' in step]
            assert held[-1] == f'{destination} with the {item}'
    assert not (whole / '.unfinished').exists()


def test_a_pair_is_a_success_and_a_failure_of_one_scene_and_length(whole: Path) -> None:
    samples = read_manifest(whole)
    groups = {sample.group for sample in samples}
    assert len(groups) == 2
    for group in groups:
        first, second = sorted(
            (sample for sample in samples if sample.group == group), key=lambda s: s.label
        )
        assert (first.label, second.label) == ('failure', 'success')
        assert (first.judged, second.judged) == ('failure', 'success')
        assert first.instruction == second.instruction
        assert first.frames == second.frames
        assert first.event is not None
        assert first.event['kind'] == 'wrong_object'
        assert 0 < first.event['time_ns'] < first.frames / first.fps * 1e9
        assert second.event is None
        for view in ('front', 'wrist', 'overhead'):
            np.testing.assert_array_equal(
                read_first_frame(whole, first, view), read_first_frame(whole, second, view)
            )


def test_the_state_fits_the_frames(whole: Path) -> None:
    (sample, *_) = read_manifest(whole)
    tcp = read_state(whole, sample)['tcp']
    frames = read_view(whole, sample, 'overhead').astype(float)
    moved = np.linalg.norm(np.diff(tcp, axis=0), axis=1)
    changed = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    # where nothing is seen to move nothing moved, and the reverse
    assert changed[moved < 1e-4].max(initial=0.0) < changed[moved > 0.05].min()


def test_the_recipe_decides_every_byte(whole: Path, tmp_path: Path) -> None:
    make(tmp_path / 'again', recipe())
    assert contents(tmp_path / 'again') == contents(whole)


def test_shards_and_workers_change_nothing(whole: Path, tmp_path: Path) -> None:
    first = make(tmp_path / 'set', recipe(), shard=(2, 2), workers=1)
    assert first.missing == 1
    assert len(first.samples) == 2
    second = make(tmp_path / 'set', recipe(), shard=(1, 2))
    assert second.missing == 0
    assert contents(tmp_path / 'set') == contents(whole)


def test_an_interrupted_run_is_continued(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / 'set', recipe(), progress=interrupt)
    assert len(read_manifest(tmp_path / 'set')) == 2
    # what a killed process leaves behind: a half-written pair, and files without a record
    half = tmp_path / 'set' / '.unfinished' / 'train-000001' / 'videos' / 'train-000001a'
    half.mkdir(parents=True)
    (half / 'front.mp4').write_bytes(b'half')
    stray = tmp_path / 'set' / 'videos' / 'train-000001a'
    stray.mkdir()
    (stray / 'front.mp4').write_bytes(b'half')

    made = []
    find = generate.find_pair
    monkeypatch.setattr(
        generate, 'find_pair', lambda recipe, pair: made.append(pair.number) or find(recipe, pair)
    )
    make(tmp_path / 'set', recipe())
    assert made == [1]
    assert contents(tmp_path / 'set') == contents(whole)


def test_a_pair_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError('disk full')

    monkeypatch.setattr(clips, 'write_state', full)
    with pytest.raises(OSError, match='disk full'):
        make(tmp_path / 'set', recipe({'episodes': 2}))
    files = set(contents(tmp_path / 'set'))
    assert files == {'recipe.yaml', 'manifest.jsonl', 'summary.json'}


def test_a_killed_worker_is_replaced(whole: Path, tmp_path: Path) -> None:
    killed = []

    def kill_once(done: int, total: int) -> None:
        if not killed:
            killed.extend(multiprocessing.active_children())
            for child in killed:
                child.kill()

    result = make(tmp_path / 'set', recipe(), workers=1, progress=kill_once)
    assert killed
    assert result.failed == ()
    assert contents(tmp_path / 'set') == contents(whole)


def test_a_machine_on_which_nothing_works_is_not_tried_for_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(make: Any, jobs: Any, **_: Any) -> Any:
        for job in jobs:
            yield Outcome(job, None, 'the worker died with exit code -11')

    monkeypatch.setattr(generate, 'run_jobs', broken)
    with pytest.raises(ArmorError, match=r'first 5 pairs .* exit code -11'):
        make(tmp_path / 'many', recipe({'episodes': 100}), workers=1)
    few = make(tmp_path / 'few', recipe({'episodes': 4}), workers=1)
    assert (len(few.failed), few.missing) == (2, 2)


def test_another_recipe_is_refused(whole: Path, tmp_path: Path) -> None:
    before = contents(whole)
    with pytest.raises(ArmorError, match=r'another recipe.*: seed was 0, and is 2; choose'):
        make(whole, recipe(seed=2))
    assert contents(whole) == before
    (tmp_path / 'mine.txt').write_text('mine')
    with pytest.raises(ArmorError, match='not empty'):
        make(tmp_path, recipe())


def test_a_recipe_that_was_kept_before_a_field_came_is_the_same(
    whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / 'set'
    shutil.copytree(whole, output)
    lines = (whole / 'recipe.yaml').read_text().splitlines(keepends=True)
    older = [line for line in lines if not line.startswith('trigger:')]
    assert len(older) == len(lines) - 1
    (output / 'recipe.yaml').write_text(''.join(older))
    assert make(output, recipe()).samples == tuple(read_manifest(whole))


def test_a_damaged_record_is_named(whole: Path, tmp_path: Path) -> None:
    output = tmp_path / 'set'
    (output / 'records').mkdir(parents=True)
    (output / 'recipe.yaml').write_bytes((whole / 'recipe.yaml').read_bytes())
    for number in (0, 1):
        (output / f'records/train-{number:06d}.json').write_text('{"samples": [{}]}')
    with pytest.raises(ArmorError, match=r'train-000000\.json'):
        make(output, recipe())


def test_noise_turns_label_and_status_but_not_the_truth(tmp_path: Path) -> None:
    noise = {'false_success': 1.0, 'false_failure': 1.0}
    made = make(tmp_path, recipe({'episodes': 2, 'dense': 0.0, 'noise': noise}))
    said = {(s.judged, s.label, s.robot_status) for s in made.samples}
    assert said == {('success', 'failure', 'ABORTED'), ('failure', 'success', 'SUCCEEDED')}
    assert all(s.explanation is None for s in made.samples)
    assert made.summary.splits['train'].wrong_labels == 2


def test_one_kind_alone(tmp_path: Path) -> None:
    made = make(tmp_path, recipe({'episodes': 1, 'success': 1.0}, formats=['collage']))
    (sample,) = made.samples
    assert (sample.judged, sample.views, sample.state) == ('success', {}, None)
    assert sample.collage is not None
    picture = cv2.imread(str(tmp_path / sample.collage))
    assert picture.shape == (3 * 168, 8 * 168, 3)
    assert picture.std() > 10


def test_for_the_audit_alone_first_frames_are_enough(whole: Path, tmp_path: Path) -> None:
    made = make(tmp_path, recipe(formats=['audit']))
    filmed = read_manifest(whole)
    assert [(s.id, s.instruction, s.judged, s.frames) for s in made.samples] == [
        (s.id, s.instruction, s.judged, s.frames) for s in filmed
    ]
    for sample, other in zip(made.samples, filmed, strict=True):
        for name, array in read_state(whole, other).items():
            np.testing.assert_array_equal(read_state(tmp_path, sample)[name], array)
        for view in sample.views:
            first = read_first_frame(tmp_path, sample, view).astype(int)
            # the video was compressed
            assert np.abs(first - read_first_frame(whole, other, view)).mean() < 8
    with pytest.raises(ArmorError, match=r'has 1 frames; the manifest says'):
        read_view(tmp_path, made.samples[0], 'front')


def test_pairs_that_cannot_be_found_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, '_try_scene', lambda *_: None)
    made = make(tmp_path, recipe())
    assert made.samples == ()
    assert made.summary.splits['train'].unfilled == 2
    assert made.missing == 0


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_episodes_are_recorded_as_bags(tmp_path: Path, storage: str) -> None:
    what = recipe({'episodes': 1, 'success': 0.0}, formats=[storage], bag_rate=2)
    made = make(tmp_path, what)
    for sample in made.samples:
        assert sample.views == {}
        assert sample.bag is not None
        messages = list(read_bag(tmp_path / sample.bag))
        statuses = [m for m in messages if isinstance(m, BagStatus)]
        assert {m.action for m in statuses} == {'/transport'}
        assert statuses[-1].goals[0].status == {'SUCCEEDED': 4, 'ABORTED': 6}[sample.robot_status]
        assert sum(isinstance(m, BagImage) for m in messages) > 3 * 2 * 5
        assert list((tmp_path / sample.bag).glob('*.mcap' if storage == 'mcap' else '*.db3'))


def test_a_recording_may_say_what_was_asked_for(tmp_path: Path) -> None:
    made = make(
        tmp_path, recipe({'episodes': 2}, formats=['mcap'], bag_rate=2, trigger='task_event')
    )
    ids = set()
    for sample in made.samples:
        assert sample.bag is not None
        messages = list(read_bag(tmp_path / sample.bag))
        assert not any(isinstance(m, BagStatus) for m in messages)
        start, end = (m.event for m in messages if isinstance(m, BagTaskEvent))
        assert (start.phase, end.phase) == (TaskPhase.START, TaskPhase.END)
        assert (start.task_id, start.name) == (end.task_id, 'transport')
        assert (start.instruction, end.status.name) == (sample.instruction, sample.robot_status)
        assert start.stamp_ns < end.stamp_ns
        ids.add(start.task_id)
    # a success and a failure of one scene are two goals
    assert len(ids) == len(made.samples) == 2


def test_times_count_from_the_first_frame_in_event_and_explanation(whole: Path) -> None:
    failures = [sample for sample in read_manifest(whole) if sample.event]
    assert len(failures) == 2
    assert all(tells_its_time(sample) for sample in failures)


def test_an_outcome_does_not_depend_on_the_injected_mode(whole: Path) -> None:
    for sample in read_manifest(whole):
        assert sample.label == ('failure' if sample.event else 'success')
    assert replace(read_manifest(whole)[0], injected_mode='').label in ('success', 'failure')


def test_twins_share_the_video_and_turn_the_label(tmp_path: Path) -> None:
    made = make(tmp_path, recipe({'episodes': 2, 'twins': 1.0}))
    assert len(made.samples) == 4
    own = {s.id: s for s in made.samples if s.id == s.episode}
    for twin in (s for s in made.samples if s.id != s.episode):
        original = own[twin.episode]
        assert (twin.views, twin.state, twin.frames, twin.group) == (
            original.views, original.state, original.frames, original.group,
        )  # fmt: skip
        assert twin.judged != original.judged
        assert twin.label == twin.judged
        assert twin.instruction != original.instruction
        assert twin.explanation != original.explanation
        assert twin.robot_status == ''
        assert (twin.event is None) == (twin.label == 'success')
    assert made.summary.splits['train'].twins == 2
    assert [tells_its_time(s) for s in made.samples if s.event] == [True, True]
    # both videos under both instructions: neither alone tells the label
    assert len({s.instruction for s in made.samples}) == 2


@dataclass
class Other:
    instruction: str


def test_a_shared_instruction_is_preferred_for_twins() -> None:
    a, b, c = Other('a'), Other('b'), Other('c')
    assert clips.choose_twins([a, b], [c, b]) == (b, b)
    assert clips.choose_twins([a], [c, b]) == (a, c)
    assert clips.choose_twins([a], []) is None
    assert clips.choose_twins([], [a]) is None
