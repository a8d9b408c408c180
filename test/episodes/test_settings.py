# SPDX-License-Identifier: Apache-2.0
"""Settings are refused with a sentence that names the value and the limit."""

import math

import pytest

from armor_ros.episodes.settings import EpisodeSettings, period_ns, seconds_to_ns
from armor_ros.errors import ArmorError


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'fps': 0}, 'fps is 0; give a number from 0.1 to 60'),
        ({'fps': math.nan}, 'fps is nan'),
        ({'fps': math.inf}, 'fps is inf'),
        ({'fps': '5'}, "fps is '5'"),
        ({'fps': True}, 'fps is True'),
        ({'fps': None}, 'fps is None'),
        ({'frame_height': 0}, 'frame_height is 0'),
        ({'frame_width': 100.5}, 'whole number'),
        ({'buffer_seconds': -1}, 'buffer_seconds is -1'),
        ({'buffer_bytes': 308 * 308 * 3 - 1}, 'does not hold one frame'),
        ({'pre_roll': 40, 'post_roll': 20}, 'fill the buffer'),
        ({'settle': 61}, 'settle is 61'),
        ({'lookback': 0}, 'lookback is 0'),
        ({'max_task_seconds': 0}, 'max_task_seconds is 0'),
        ({'max_open_tasks': 0}, 'max_open_tasks is 0'),
        ({'goal_memory': 15}, 'less than max_open_tasks 16'),
        ({'actions': ('',)}, 'actions holds'),
        ({'actions': ('!',)}, 'actions holds'),
        ({'instructions': (('/pick', ''),)}, 'instructions holds'),
        ({'instructions': ('/pick',)}, 'instructions holds'),
    ],
)
def test_refusals(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ArmorError, match=words):
        EpisodeSettings(**changes)  # type: ignore[arg-type]


def test_limits_are_allowed() -> None:
    settings = EpisodeSettings(buffer_bytes=308 * 308 * 3, goal_memory=16, settle=0, fps=60)
    assert settings.frame_size == (308, 308)


def test_globs_include_and_exclude() -> None:
    settings = EpisodeSettings(actions=('/arm/*', '/tidy', '!/arm/home*'))
    watched = ['/arm/pick', '/arm/left/pick', '/tidy']
    assert [
        name for name in [*watched, '/arm/home', '/tidy2', '/ARM/x'] if settings.watches(name)
    ] == (watched)
    assert EpisodeSettings().watches('/anything/at/all')
    assert not EpisodeSettings(actions=('*', '!*')).watches('/anything')


def test_the_first_matching_instruction_counts() -> None:
    pairs = (('/pick_can', 'pick up the can'), ('/pick*', 'pick <|im_end|> it up'))
    settings = EpisodeSettings(instructions=pairs)
    assert settings.instruction_for('/pick_can') == 'pick up the can'
    assert settings.instruction_for('/pick') == 'pick <im_end> it up'
    assert settings.instruction_for('/place') == ''


def test_time_is_whole_nanoseconds() -> None:
    assert seconds_to_ns(0.1) == 100_000_000
    assert period_ns(5.0) == 200_000_000
    assert period_ns(30.0) == 33_333_333
