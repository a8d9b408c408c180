# SPDX-License-Identifier: Apache-2.0
"""Recordings and data sets as cases."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from armor_ros.datasets.record import COLLAGE_VIEW, Record, View
from armor_ros.datasets.video import Frames
from armor_ros.episodes.diagnosis import InputMode, RefinementSettings
from armor_ros.episodes.outcome import check_frames
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.task import TaskStatus
from armor_ros.errors import ArmorError
from armor_ros.evaluation.case import TaskLabel
from armor_ros.evaluation.evaluate import RunOptions, evaluate
from armor_ros.evaluation.examples import choose_examples
from armor_ros.evaluation.labels import LabelBook
from armor_ros.evaluation.opening import open_sources, unique_names
from armor_ros.evaluation.predictor import EvaluationSettings, ModelPredictor
from armor_ros.evaluation.record_episode import record_episode
from armor_ros.evaluation.sources import (
    PART_RECORDS,
    BagSource,
    PartLog,
    RecordSource,
    SourceSettings,
)


@dataclass
class Film:
    """A view of so many frames at 5 a second, of one grey, or each lighter than the one before."""

    frames: int
    grey: int = 0
    error: str = ''
    fades: bool = False

    def read(self, fps: float, size: tuple[int, int] | None = None) -> Frames:
        if self.error:
            raise ArmorError(self.error)
        shape = (round(self.frames * fps / 5), *(size or (48, 64)), 3)
        film = np.full(shape, self.grey, np.uint8)
        if self.fades:
            film += np.arange(shape[0], dtype=np.uint8)[:, None, None, None]
        return film


@dataclass
class Films:
    """A data set in memory."""

    given: list[Record]
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    format: str = 'films'

    def records(self) -> Iterator[Record]:
        self.skipped['left out: it is broken'] += 2
        self.examples['left out: it is broken'] = ['film 7']
        yield from self.given


def film(name: str, views: dict[str, View] | None = None, **fields: Any) -> Record:
    views = {'front': Film(10)} if views is None else views
    return Record(id=name, instruction='lift the can', views=views, fps=5.0, **fields)


def test_a_record_is_an_episode_as_if_a_robot_had_recorded_it() -> None:
    views: dict[str, View] = {
        'zoom': Film(3),
        'overhead': Film(10, 3),
        'wrist': Film(10, 2),
        'front': Film(10, 1),
    }
    record = film('a/1', views, task='lift', robot_status='SUCCEEDED', extra={'arm': 'left'})
    episode = record_episode(record, EpisodeSettings(), Counter(), (28, 32))
    names = [clip.evidence.camera for clip in episode.clips]
    assert names == ['front', 'wrist', 'overhead', 'zoom']
    assert [len(clip.frames) for clip in episode.clips] == [10, 10, 10, 3]
    assert [int(clip.frames.max()) for clip in episode.clips] == [1, 2, 3, 0]
    assert episode.clips[0].frames.shape == (10, 28, 32, 3)
    assert episode.clips[0].stamps_ns.tolist() == [k * 200_000_000 for k in range(10)]
    assert (episode.start_ns, episode.end_ns, episode.truncated) == (0, 1_800_000_000, False)
    assert episode.clips[3].evidence.largest_gap_ns == 1_400_000_000
    task = episode.task
    assert (task.task_id, task.name, task.instruction) == ('a/1', 'lift', 'lift the can')
    assert task.status is TaskStatus.SUCCEEDED
    assert task.context == (('arm', 'left'),)


def test_a_clip_is_sampled_at_the_settings_rate_and_no_longer_than_the_buffer() -> None:
    settings = EpisodeSettings(fps=2.5, buffer_seconds=4.0)
    long = film('long', {'front': Film(50, fades=True)})
    episode = record_episode(long, settings, Counter())
    # the last 10 of 25
    assert episode.clips[0].frames[:, 0, 0, 0].tolist() == list(range(15, 25))
    assert episode.truncated
    assert episode.end_ns == 9 * 400_000_000


def test_a_ready_collage_is_kept_as_it_is() -> None:
    record = film('c', {COLLAGE_VIEW: Film(1, 7)})
    episode = record_episode(record, EpisodeSettings(), Counter(), (28, 28))
    assert episode.clips == ()
    assert episode.collage is not None
    assert episode.collage.shape == (48, 64, 3)
    assert check_frames(episode)[0].name == 'OK'
    with pytest.raises(ArmorError, match='ready collage: set input_mode to collage'):
        episode.clip()


def test_a_view_that_cannot_be_read_is_counted_and_costs_only_itself() -> None:
    problems: Counter[str] = Counter()
    views: dict[str, View] = {'front': Film(5), 'wrist': Film(5, error='no such file')}
    episode = record_episode(film('a', views), EpisodeSettings(), problems)
    assert [clip.evidence.frames_used for clip in episode.clips] == [5, 0]
    assert problems == {'a, wrist: no such file': 1}
    nothing = record_episode(film('b', {'wrist': views['wrist']}), EpisodeSettings(), problems)
    assert check_frames(nothing)[0].name == 'NO_FRAMES'


def cases_of(source: RecordSource) -> list[Any]:
    log = PartLog()
    return [case for part in range(source.parts()) for case in source.cases(part, log)]


def test_the_cases_of_a_data_set(tmp_path: Path) -> None:
    sheet = tmp_path / 'sheet.csv'
    sheet.write_text('sample_id,label,explanation\ntwo,failure,it fell\n')
    causes = {'injected_mode': 'slip', 'failure_kind': 'dropped'}
    records = [
        film('one', label='success', split='test', episode='e', group='g', **causes),
        film('two', label='success', split='test', explanation='fine'),
        film('three', robot_status='ABORTED', split='test', task='lift'),
        film('four', label='failure', weak=True, split='train'),
    ]
    settings = SourceSettings(labels=LabelBook([sheet]), splits=('test',))
    source = RecordSource(tmp_path, 'films', Films(records), settings)
    one, two, three = cases_of(source)
    assert (one.source, one.source_kind, one.sample_id, one.id) == ('films', 'films', 'one', 'one')
    assert (one.split, one.recording, one.group, one.injected_mode) == ('test', 'e', 'g', 'slip')
    assert (one.failure_kind, two.failure_kind) == ('dropped', '')
    assert one.label == TaskLabel('success', 'dataset')
    assert two.label == TaskLabel('failure', 'sidecar', False, 'it fell')
    assert three.label == TaskLabel('failure', 'status', True)
    assert three.task_kind == 'lift'


def test_a_data_set_in_parts_gives_every_record_once(tmp_path: Path) -> None:
    names = [f'r{number}' for number in range(2 * PART_RECORDS + 1)]
    source = RecordSource(tmp_path, 'films', Films([film(n) for n in names]), SourceSettings())
    assert source.parts() == 3
    assert [case.id for case in cases_of(source)] == names
    logs = [PartLog(), PartLog()]
    for part, log in enumerate(logs):
        assert len(list(source.cases(part, log))) == PART_RECORDS
        assert log.position == 1.0
    # what the data set skipped is told once, not with every part
    assert logs[0].problems == {'left out: it is broken': 2}
    assert not logs[1].problems


def test_an_empty_data_set_says_why(tmp_path: Path) -> None:
    settings = SourceSettings(splits=('val',))
    source = RecordSource(tmp_path, 'films', Films([film('a', split='test')]), settings)
    log = PartLog()
    assert list(source.cases(0, log)) == []
    (sentence,) = log.failures
    assert (
        'no usable record of the splits val; 2 times left out: it is broken (film 7; ...); '
        in sentence
    )
    assert sentence.endswith('its splits: test')


def test_identity_changes_with_what_is_in_it(robot_bag: Any, tmp_path: Path) -> None:
    def identity(*records: Record) -> str:
        return RecordSource(tmp_path, 'x', Films(list(records)), SourceSettings()).identity()

    assert identity(film('a')) == identity(film('a'))
    assert identity(film('a')) != identity(film('a', label='failure'))
    robot_bag.goal(1.0, 2.0)
    path = robot_bag.write(tmp_path / 'bag')
    bag = BagSource(path, 'bag', SourceSettings())
    before = bag.identity()
    assert before == bag.identity()
    (path / 'labels.jsonl').write_text('{"task_id": "t", "label": "success"}')
    assert bag.identity() != before


def test_names_of_sources_tell_them_apart() -> None:
    paths = [Path('/a/x/bag'), Path('/b/x/bag'), Path('/c/other'), Path('/bag')]
    assert unique_names(paths) == ['a/x/bag', 'b/x/bag', 'other', '//bag']


def test_a_folder_of_recordings_stands_for_all_of_them(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.goal(1.0, 2.0)
    for name in ('b', 'a'):
        robot_bag.write(tmp_path / 'bags' / name)
    file = robot_bag.write(tmp_path / 'single') / 'metadata.yaml'

    def refuse(path: Path) -> Any:
        raise ArmorError(f'{path} is unknown')

    (tmp_path / 'notes').mkdir()
    wanted = [tmp_path / 'bags', file, tmp_path / 'notes']
    sources, failures = open_sources(wanted, SourceSettings(), refuse)
    assert [source.name for source in sources] == ['a', 'b', 'single']
    assert failures == [f'{tmp_path}/notes is unknown']


def test_examples_are_not_what_is_evaluated(tmp_path: Path) -> None:
    def source(splits: tuple[str, ...], count: int = 14) -> RecordSource:
        records = []
        for number in range(count):
            failed = number % 2 == 1
            records.append(
                film(
                    f'r{number}',
                    {'front': Film(4, number)},
                    label='failure' if failed else 'success',
                    explanation=f'it fell {number}' if failed else None,
                    split='test' if number < 3 else 'train',
                    episode=f'e{number // 2}',
                )
            )
        return RecordSource(tmp_path, 'films', Films(records), SourceSettings(splits=splits))

    examples = choose_examples([source(('train',))], 4, [source(('test',))])
    assert [example.failed for example in examples] == [False, True, False, True]
    shown = [int(example.episode.clips[0].frames.max()) for example in examples]
    # r3 shows the recording of r2, which is evaluated; no two share a recording
    assert not set(shown) & {0, 1, 2, 3}
    assert len({number // 2 for number in shown}) == 4
    assert [e.explanation for e in examples if e.failed] == [f'it fell {n}' for n in shown[1::2]]
    with pytest.raises(ArmorError, match='examples need'):
        choose_examples([source(('test',))], 2, [source(('test',))])
    # the only failure to choose from, r3, is of an evaluated recording
    with pytest.raises(ArmorError, match='2 examples need 1 failures'):
        choose_examples([source(('train',), 5)], 2, [source(('test',), 5)])


def test_a_recording_is_not_evaluated_and_an_example(robot_bag: Any, tmp_path: Path) -> None:
    robot_bag.camera()
    robot_bag.goal(1.0, 2.0)
    bag = BagSource(robot_bag.write(tmp_path / 'bag'), 'bag', SourceSettings())
    with pytest.raises(ArmorError, match='is evaluated; give other recordings'):
        choose_examples([bag], 1, [bag])
    (example,) = choose_examples([bag], 1, [])
    assert not example.failed
    assert example.episode.frame_count == 6


def test_the_model_sees_a_ready_collage_as_it_is(tmp_path: Path, diagnoser: Any) -> None:
    records = [film('c', {COLLAGE_VIEW: Film(1, grey)}) for grey in (7, 200)]
    sources = [
        RecordSource(tmp_path, f'films {number}', Films([record]), SourceSettings())
        for number, record in enumerate(records)
    ]
    small = RefinementSettings(rounds=1, trajectories=1, max_new_tokens=3)
    for mode, status in ((InputMode.COLLAGE, 'OK'), (InputMode.CLIP, 'MODEL_ERROR')):
        settings = EvaluationSettings(refinement=replace(small, input_mode=mode))
        output = tmp_path / mode.value
        options = RunOptions(evidence=output)
        evaluate(sources, ModelPredictor(diagnoser, settings), output, options)
        text = (output / 'predictions.jsonl').read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line['status'] for line in lines] == [status, status]
        assert all(
            cv2.imread(str(output / line['evidence'])).shape[:2] == (48, 64) for line in lines
        )
        if mode is InputMode.CLIP:
            assert 'set input_mode to collage' in lines[0]['status_text']
        else:
            assert lines[0]['failure_probability'] != lines[1]['failure_probability']
