# SPDX-License-Identifier: Apache-2.0
"""The hash changes with every setting, and with nothing else."""

import dataclasses

import pytest

from armor_ros.episodes.config_hash import config_hash
from armor_ros.episodes.diagnosis import ModelInfo, RefinementSettings, ReturnPolicy
from armor_ros.episodes.settings import EpisodeSettings

INFO = ModelInfo('a/b', 'main', 'none', 'abcd', True)


def test_equal_settings_have_one_hash_of_sixteen_digits():
    first = config_hash(EpisodeSettings(), RefinementSettings(), INFO)
    assert first == config_hash(EpisodeSettings(), RefinementSettings(), INFO)
    assert len(first) == 16
    int(first, 16)


@pytest.mark.parametrize(
    'changes',
    [
        {'rounds': 3},
        {'temperature': 0.70001},
        {'return_policy': ReturnPolicy.BEST},
        {'camera': 'front'},
        {'seed': 1},
    ],
)
def test_each_setting_changes_the_hash(changes):
    changed = dataclasses.replace(RefinementSettings(), **changes)
    assert config_hash(changed, INFO) != config_hash(RefinementSettings(), INFO)


def test_the_model_changes_the_hash():
    other = dataclasses.replace(INFO, weights_hash='abce')
    assert config_hash(other) != config_hash(INFO)


def test_the_hash_is_stable_between_releases():
    assert config_hash(INFO, 1.5, ('x', None, True)) == '4729358937bdb44c'


@pytest.mark.parametrize('value', [object(), {1, 2}, b'bytes'])
def test_values_without_one_textual_form_are_refused(value):
    with pytest.raises(TypeError):
        config_hash(value)


def test_nan_is_refused():
    with pytest.raises(ValueError, match='JSON'):
        config_hash(float('nan'))
