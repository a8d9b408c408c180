# SPDX-License-Identifier: Apache-2.0
"""The checkpoint's config: defaults, round trip through JSON, and what is refused."""

from __future__ import annotations

import json

import pytest

from armor_ros.episodes.diagnosis import InputMode
from armor_ros.errors import ArmorError
from armor_ros.model.config import (
    ArmorConfig,
    CollageConfig,
    HeadConfig,
    HeadPooling,
    PositionConvention,
    PromptConfig,
    config_from_json,
    config_to_json,
)


def test_defaults_are_the_readings_of_the_paper() -> None:
    config = ArmorConfig()
    assert config.trained is False
    assert config.input_mode is InputMode.CLIP
    assert (config.image_size, config.fps) == (308, 5.0)
    assert config.positions is PositionConvention.TRANSFORMERS_4_49
    assert config.head.pooled_layers == (1, 2, 3, 4)
    assert config.head.pooling is HeadPooling.LAYERS
    assert config.head.num_heads == 8
    assert config.head.classes == ('failure', 'success')
    assert config.head.failure_index == 0


def test_json_round_trip_of_every_field() -> None:
    config = ArmorConfig(
        model_id='lab/armor-7b',
        revision='abc',
        trained=True,
        input_mode=InputMode.COLLAGE,
        image_size=112,
        fps=2.5,
        positions=PositionConvention.TRANSFORMERS_5_23,
        tokens_per_second=4,
        prompts=PromptConfig(system='Look.', detection_values=('nein', 'ja')),
        head=HeadConfig(4, 0.0, (2, 3), HeadPooling.TOKENS, ('success', 'failure')),
        collage=CollageConfig(4, 84, 56, 'keyframes', False),
    )
    assert config_from_json(config_to_json(config), 'memory') == config


def test_absent_keys_take_their_defaults() -> None:
    assert config_from_json('{"fps": 10}', 'x') == ArmorConfig(fps=10.0)


@pytest.mark.parametrize(
    ('text', 'part'),
    [
        ('{"image_sise": 308}', "unknown key 'image_sise'; did you mean 'image_size'?"),
        ('{"head": {"heads": 8}}', "unknown key 'head.heads'; did you mean 'head.num_heads'?"),
        ('{"zzz": 1}', "unknown key 'zzz'"),
        ('{"fps": "five"}', "fps is 'five'; it must be of type float"),
        ('{"trained": 1}', 'trained is 1; it must be of type bool'),
        ('{"image_size": true}', 'image_size is True'),
        ('{"input_mode": "movie"}', "input_mode is 'movie'; it must be one of clip, collage"),
        ('{"input_mode": ["clip"]}', "input_mode is ['clip']"),
        ('{"head": {"pooled_layers": 4}}', 'head.pooled_layers is 4; it must be a list'),
        ('{"head": {"pooled_layers": [1, "2"]}}', "head.pooled_layers[1] is '2'"),
        ('{"head": {"pooled_layers": []}}', 'head.pooled_layers is []'),
        ('{"head": {"pooled_layers": [0, 1]}}', 'the first being 1'),
        ('{"head": {"classes": ["bad", "good"]}}', 'head.classes'),
        ('{"head": {"dropout": 1.0}}', 'head.dropout is 1.0'),
        ('{"head": null}', 'head is None; it must be a mapping'),
        ('{"format_version": 2}', 'format_version is 2'),
        ('{"image_size": 320}', 'multiple of 28'),
        ('{"fps": 0}', 'fps is 0.0'),
        ('{"fps": NaN}', 'fps is nan'),
        ('{"collage": {"selection": "random"}}', "collage.selection is 'random'"),
        ('{"collage": {"columns": 0}}', 'collage is 0 columns'),
        ('{"prompts": {"question": "Did it work?"}}', 'it must contain {instruction}'),
        ('{"prompts": {"question": "{instruction} {x}"}}', 'it must contain {instruction}'),
        ('{"prompts": {"question": "{instruction"}}', 'prompts.question'),
        ('{"prompts": {"question": "{0} {instruction}"}}', 'it must contain {instruction}'),
        ('{"prompts": {"question": "{instruction:d}"}}', 'it must contain {instruction}'),
        ('{"prompts": {"open_question": "{}"}}', 'it must contain no {fields}'),
        ('{"prompts": {"detection_values": ["No"]}}', 'prompts.detection_values'),
        ('{"prompts": {"quotes": "none"}}', "'none'; it must be one of both, other"),
        ('[]', 'the config is []; it must be a mapping'),
        ('{', 'is not valid JSON'),
    ],
)
def test_refused_with_a_sentence(text: str, part: str) -> None:
    with pytest.raises(ArmorError) as caught:
        config_from_json(text, '/m/armor_config.json')
    assert part in str(caught.value)
    assert str(caught.value).startswith('/m/armor_config.json')


def test_json_names_every_choice() -> None:
    data = json.loads(config_to_json(ArmorConfig()))
    assert data['positions'] == 'transformers-4.49'
    assert data['head']['pooled_layers'] == [1, 2, 3, 4]
    assert data['prompts']['reasoning_task'] == 'Please give your reasoning.'
