# SPDX-License-Identifier: Apache-2.0
"""The parameters: one declaration, a file that agrees with it, and sentences for bad values."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.errors import ArmorError
from armor_ros.parameters import MonitorParameters
from armor_ros.parameters_file import parameters_yaml, read_parameters

ROOT = Path(__file__).parents[1]
RANGED = [field for field in dataclasses.fields(MonitorParameters) if field.metadata['maximum']]


def test_the_shipped_file_is_the_declaration() -> None:
    assert (ROOT / 'config' / 'monitor.yaml').read_text() == parameters_yaml(), (
        'run: armor monitor --print-params > config/monitor.yaml'
    )


def test_the_shipped_file_reads_back_as_the_defaults() -> None:
    values = read_parameters(ROOT / 'config' / 'monitor.yaml')
    assert MonitorParameters(**values) == MonitorParameters()
    assert set(values) == {field.name for field in dataclasses.fields(MonitorParameters)}


def test_defaults_are_those_of_the_parts() -> None:
    parameters = MonitorParameters()
    assert parameters.refinement_settings() == RefinementSettings(rounds=0, trajectories=0)
    expected = dataclasses.replace(EpisodeSettings(), actions=('*', '!*/armor/verify'))
    assert parameters.episode_settings() == expected


@given(st.sampled_from(RANGED), st.floats(min_value=1e-6, max_value=1e6), st.booleans())
def test_values_outside_their_range_are_refused(
    field: dataclasses.Field[object], distance: float, below: bool
) -> None:
    low, high = field.metadata['minimum'], field.metadata['maximum']
    value = low - distance if below else high + distance
    if value in (low, high):  # the distance was lost in rounding
        return
    with pytest.raises(ArmorError, match=field.name):
        MonitorParameters(**{field.name: value})  # type: ignore[arg-type]


def test_a_deadline_reaches_the_settings() -> None:
    assert MonitorParameters(deadline=1.5).refinement_settings().deadline == 1.5


def test_usual_explanations_are_the_entries_that_are_not_empty() -> None:
    assert MonitorParameters().explanations() == ()
    given = MonitorParameters(usual_explanations=['', 'it fell', 'it slipped'])
    assert given.explanations() == ('it fell', 'it slipped')


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ArmorError, match='timeout'):
        MonitorParameters(timeout=float('nan'))


def test_cameras_are_read_in_order() -> None:
    parameters = MonitorParameters(cameras=['front=/a', ' wrist = /b '])
    assert [(c.name, c.topic) for c in parameters.camera_configs()] == [
        ('front', '/a'),
        ('wrist', '/b'),
    ]


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'cameras': ['front']}, 'name=topic'),
        ({'cameras': ['a=/x', 'a=/y']}, 'twice'),
        ({'instructions': ['pick up']}, 'glob=text'),
        ({'quantization': '2bit'}, 'none, 8bit, 4bit'),
        ({'provisional_reports': 'all'}, 'none, first, rounds'),
        ({'usual_explanations': ['it fell'] * 65}, '65 entries; at most 64'),
        ({'usual_explanations': ['x' * 2001]}, '2001 characters; at most 2000'),
        ({'pre_roll': 40.0, 'post_roll': 30.0}, 'buffer_seconds'),
    ],
)
def test_bad_values_are_one_sentence(values: dict[str, object], words: str) -> None:
    with pytest.raises(ArmorError, match=words):
        MonitorParameters(**values)  # type: ignore[arg-type]


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / 'monitor.yaml'
    path.write_text('/**:\n  ros__parameters:\n    trajectorys: 3\n')
    with pytest.raises(ArmorError, match='did you mean trajectories'):
        read_parameters(path)


def test_the_nodes_own_entry_wins(tmp_path: Path) -> None:
    path = tmp_path / 'monitor.yaml'
    path.write_text(
        '/**:\n  ros__parameters:\n    rounds: 2\n    seed: 5\n'
        'armor_monitor:\n  ros__parameters:\n    use_sim_time: true\n    rounds: 3\n'
    )
    assert read_parameters(path) == {'rounds': 3, 'seed': 5}


@pytest.mark.parametrize('text', ['- 1', 'a: [', '/**:\n  ros__parameters:\n    rounds: two\n'])
def test_a_file_that_is_no_parameters_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'monitor.yaml'
    path.write_text(text)
    with pytest.raises(ArmorError, match=r'monitor\.yaml'):
        read_parameters(path)
