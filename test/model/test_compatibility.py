# SPDX-License-Identifier: Apache-2.0
"""Which positions a checkpoint has; what is refused because its parts contradict each other."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint, save_checkpoint, with_config
from armor_ros.model.compatibility import check_compatible
from armor_ros.model.config import ArmorConfig, PositionConvention
from armor_ros.model.weights import CONFIG_FILE, HEAD_FILE

OLD = PositionConvention.TRANSFORMERS_4_49
FLAT = PositionConvention.TRANSFORMERS_4_56
NEW = PositionConvention.TRANSFORMERS_5_23


@pytest.fixture
def folder(tiny_path: Path, tmp_path: Path) -> Path:
    """Return a copy of the small checkpoint that a test may change."""
    return Path(shutil.copytree(tiny_path, tmp_path / 'copy'))


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def make_plain(folder: Path) -> Path:
    """Leave of a checkpoint what plain transformers wrote."""
    (folder / CONFIG_FILE).unlink()
    (folder / HEAD_FILE).unlink()
    return folder


def as_released(config: dict[str, Any]) -> None:
    """Write a config the way the released weights of Qwen2.5-VL have it."""
    text, vision = config.pop('text_config'), config['vision_config']
    rope = text.pop('rope_parameters')
    for newer in ('layer_types', 'model_type'):
        text.pop(newer)
    config.pop('dtype')
    config.update(text)
    config.update(
        rope_scaling={'type': 'mrope', 'mrope_section': rope['mrope_section']},
        rope_theta=rope['rope_theta'],
        sliding_window=32768,
        torch_dtype='float32',
        transformers_version='4.41.2',
        use_sliding_window=False,
    )
    for newer in ('rope_parameters', 'model_type', 'in_channels'):
        vision.pop(newer, None)
    vision.update(in_chans=3, spatial_patch_size=14)


@pytest.mark.parametrize('version', ['4.41.2', '4.56.1', '5.23.0', '99.0'])
def test_a_plain_backbone_has_the_positions_of_its_release(folder: Path, version: str) -> None:
    make_plain(folder)
    edit(folder / 'config.json', lambda data: data.update(transformers_version=version))
    assert load_checkpoint(folder).config == ArmorConfig(model_id='copy', positions=OLD)


def test_a_config_as_it_was_released(folder: Path, tiny_model: ArmorModel) -> None:
    make_plain(folder)
    edit(folder / 'config.json', as_released)
    model = load_checkpoint(folder)
    assert model.config.positions is OLD
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    places = torch.tensor([[0, 1, 1, 2, 7], [0, 1, 2, 2, 7], [0, 1, 3, 2, 7]])[:, None]
    mask = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    with torch.no_grad():
        ours = model.decode(model.embed(ids), places, mask).hidden
        theirs = tiny_model.decode(tiny_model.embed(ids), places, mask).hidden
    assert torch.equal(ours, theirs)


def test_a_hub_model_without_our_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_plain(folder)
    edit(folder / 'config.json', as_released)
    commit = '0123456789abcdef0123456789abcdef01234567'
    store = tmp_path / 'hub' / 'models--Qwen--Qwen2.5-VL-3B-Instruct'
    (store / 'refs').mkdir(parents=True)
    (store / 'refs' / 'main').write_text(commit)
    (store / 'snapshots').mkdir()
    folder.rename(store / 'snapshots' / commit)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    model = load_checkpoint('Qwen/Qwen2.5-VL-3B-Instruct')
    assert model.config == ArmorConfig(
        model_id='Qwen/Qwen2.5-VL-3B-Instruct', revision=commit, positions=OLD
    )


@pytest.mark.parametrize('name', [FLAT, 'transformers-4.56'])
def test_a_plain_backbone_that_was_trained_on(
    folder: Path, tmp_path: Path, name: PositionConvention | str
) -> None:
    model = load_checkpoint(make_plain(folder), positions=name)
    assert model.config.positions is FLAT
    saved = save_checkpoint(model, tmp_path / 'saved')
    assert load_checkpoint(saved).config.positions is FLAT, 'it is remembered'


@pytest.mark.parametrize('convention', list(PositionConvention))
def test_a_checkpoint_keeps_its_positions(
    tiny_model: ArmorModel, tmp_path: Path, convention: PositionConvention
) -> None:
    config = ArmorConfig(image_size=112, positions=convention)
    saved = save_checkpoint(with_config(tiny_model, config), tmp_path / 'saved')
    assert json.loads((saved / CONFIG_FILE).read_text())['positions'] == convention.value
    assert load_checkpoint(saved).config.positions is convention
    assert load_checkpoint(saved, positions=convention).config.positions is convention
    other = NEW if convention is OLD else OLD
    with pytest.raises(ArmorError) as caught:
        load_checkpoint(saved, positions=other)
    assert f'positions of {convention.value}, not {other.value}' in str(caught.value)


def test_positions_that_nobody_knows(folder: Path) -> None:
    known = 'must be one of transformers-4.49, transformers-4.56, transformers-5.23'
    with pytest.raises(ArmorError, match=f"positions is 'vllm'; it {known}"):
        load_checkpoint(folder, positions='vllm')
    edit(folder / CONFIG_FILE, lambda data: data.update(positions='transformers-9'))
    with pytest.raises(ArmorError, match=r"armor_config\.json: positions is 'transformers-9'; it"):
        load_checkpoint(folder)


def set_in(part: str, **values: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: data[part].update(values)


@pytest.mark.parametrize('is_plain', [False, True])
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (set_in('vision_config', tokens_per_second=4), 'has 4 as vision_config.tokens_per_second'),
        # What transformers takes when the number is not there.
        (lambda data: data['vision_config'].pop('tokens_per_second'), 'has 4 as vision_config'),
        (
            set_in('text_config', rope_parameters={'rope_type': 'default', 'rope_theta': 1e6}),
            r'has \[\] as mrope_section; it must be three numbers',
        ),
        (
            set_in(
                'text_config',
                rope_parameters={
                    'rope_type': 'default', 'rope_theta': 1e6, 'mrope_section': [16, 24, 24],
                },
            ),
            'whose sum is half the size of an attention head, 16',
        ),
    ],
)  # fmt: skip
def test_a_backbone_that_contradicts(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str, is_plain: bool
) -> None:
    if is_plain:
        make_plain(folder)
    edit(folder / 'config.json', change)
    with pytest.raises(ArmorError, match=message):
        load_checkpoint(folder)


def test_frames_that_the_vision_tower_cannot_merge(tiny_model: ArmorModel) -> None:
    backbone = copy.deepcopy(tiny_model.backbone.config)
    backbone.vision_config.spatial_merge_size = 4
    check_compatible(backbone, ArmorConfig(image_size=336), tiny_model.prompts)
    with pytest.raises(ArmorError, match=r'image_size is 308, .* patches of 56 pixels a side'):
        check_compatible(backbone, ArmorConfig(image_size=308), tiny_model.prompts)


def test_a_checkpoint_of_another_clock(folder: Path) -> None:
    edit(folder / CONFIG_FILE, lambda data: data.update(tokens_per_second=4))
    with pytest.raises(ArmorError, match=r'armor_config\.json 4 as tokens_per_second'):
        load_checkpoint(folder)
    edit(folder / 'config.json', set_in('vision_config', tokens_per_second=4))
    assert load_checkpoint(folder).config.tokens_per_second == 4
    edit(folder / CONFIG_FILE, lambda data: data.update(tokens_per_second=0))
    with pytest.raises(ArmorError, match='tokens_per_second is 0; it must be at least 1'):
        load_checkpoint(folder)
