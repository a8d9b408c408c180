# SPDX-License-Identifier: Apache-2.0
"""Checkpoint folders: round trip, plain transformers, and everything that is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from armor_ros.errors import ArmorError
from armor_ros.model import checkpoint
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint, save_checkpoint, with_config
from armor_ros.model.config import ArmorConfig
from armor_ros.model.tiny import TinySize, make_tiny_checkpoint, make_tiny_model
from armor_ros.model.weights import CONFIG_FILE, HEAD_FILE, hash_weights

SMALL = TinySize(hidden_size=64, layers=5, vision_hidden_size=32, vision_layers=1)


@pytest.fixture
def folder(tiny_path: Path, tmp_path: Path) -> Path:
    """Return a copy of the small checkpoint that a test may damage."""
    return Path(shutil.copytree(tiny_path, tmp_path / 'copy'))


def weights(model: ArmorModel) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def test_round_trip(tiny_path: Path, tiny_model: ArmorModel, tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_model.config, model_id='mine', revision='7', trained=True)
    saved = save_checkpoint(with_config(tiny_model, config), tmp_path / 'a' / 'saved')
    again = load_checkpoint(saved)
    assert again.config == config
    assert (again.info.model_id, again.info.revision, again.info.trained) == ('mine', '7', True)
    assert again.info.quantization == 'none'
    assert not again.training
    for name, value in weights(tiny_model).items():
        assert torch.equal(weights(again)[name], value), name
    text = 'The robot dropped the object.<|im_end|>'
    assert again.tokenizer(text).input_ids == tiny_model.tokenizer(text).input_ids
    assert os.listdir(tmp_path / 'a') == ['saved'], 'nothing else is left behind'


def test_files_of_a_checkpoint(tiny_path: Path) -> None:
    assert sorted(file.name for file in tiny_path.iterdir()) == [
        'armor_config.json',
        'armor_head.safetensors',
        'config.json',
        'generation_config.json',
        'model.safetensors',
        'tokenizer.json',
        'tokenizer_config.json',
    ]


def test_plain_transformers_loads_the_backbone(tiny_path: Path, tiny_model: ArmorModel) -> None:
    plain = Qwen2_5_VLForConditionalGeneration.from_pretrained(tiny_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_path)
    ids = torch.tensor([tokenizer('The robot succeeded at the task.').input_ids])
    positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
    mask = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    with torch.no_grad():
        output = tiny_model.decode(tiny_model.embed(ids), positions, mask)
        ours = tiny_model.language_logits(output.hidden)
        torch.testing.assert_close(ours, plain(input_ids=ids).logits, rtol=1e-4, atol=1e-3)


def test_a_plain_backbone_gets_a_seeded_untrained_head(folder: Path) -> None:
    (folder / CONFIG_FILE).unlink()
    (folder / HEAD_FILE).unlink()
    first, again, other = (load_checkpoint(folder, head_seed=seed) for seed in (3, 3, 4))
    assert first.info.trained is False
    assert first.info.model_id == 'copy'
    assert first.config == ArmorConfig(model_id='copy')
    heads = [model.head.state_dict()['out_mlp.0.weight'] for model in (first, again, other)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_tiny_checkpoints_are_a_function_of_the_seed(tmp_path: Path) -> None:
    made = [
        hash_weights(make_tiny_checkpoint(tmp_path / str(number), seed=seed, size=SMALL))
        for number, seed in enumerate((0, 0, 1))
    ]
    assert made[0] == made[1] != made[2]
    generator = torch.random.get_rng_state()
    make_tiny_model(size=SMALL)
    assert torch.equal(torch.random.get_rng_state(), generator), 'the global state is left alone'


def test_weights_hash_covers_backbone_and_head(folder: Path) -> None:
    before = load_checkpoint(folder).info.weights_hash
    assert before == hash_weights(folder)
    assert len(before) == 64
    for name in ('model.safetensors', HEAD_FILE):
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)
        assert hash_weights(folder) != before
        before = hash_weights(folder)


def rename_to_bin(folder: Path) -> None:
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')


def lose_a_shard(folder: Path) -> None:
    index = {'metadata': {}, 'weight_map': {'lm_head.weight': 'model-00002-of-00002.safetensors'}}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index))


def garble_the_index(folder: Path) -> None:
    (folder / 'model.safetensors.index.json').write_text('[]')


def truncate(name: str, keep: int = 1000) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:keep])

    return apply


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def change(name: str, **values: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**data, **values}))

    return apply


def swap_the_head(folder: Path) -> None:
    other = make_tiny_checkpoint(folder.parent / 'other', size=SMALL)
    shutil.copy(other / HEAD_FILE, folder / HEAD_FILE)


def grow_the_backbone(folder: Path) -> None:
    data = json.loads((folder / 'config.json').read_text())
    data['text_config']['num_hidden_layers'] += 1
    data['text_config']['layer_types'].append('full_attention')
    (folder / 'config.json').write_text(json.dumps(data))


@pytest.mark.parametrize(
    ('damage', 'part'),
    [
        (rename_to_bin, 'pytorch_model.bin, a format that can run code'),
        (remove('model.safetensors'), 'has no model.safetensors'),
        (lose_a_shard, 'lacks 1 of 1 weight files, first model-00002-of-00002.safetensors'),
        (garble_the_index, 'not a valid index'),
        (truncate('model.safetensors'), 'cannot be loaded as Qwen2.5-VL'),
        (truncate('model.safetensors', 0), 'cannot be loaded as Qwen2.5-VL'),
        (remove('config.json'), 'has no config.json'),
        (truncate('config.json', 50), 'config.json is not valid'),
        (change('config.json', model_type='llama'), "a model of type 'llama'"),
        (change('config.json', image_token_id=5), 'they are not of one model'),
        (grow_the_backbone, 'lacks 12 weights of the backbone'),
        (remove(HEAD_FILE), 'has armor_config.json but no armor_head.safetensors'),
        (remove(CONFIG_FILE), 'has armor_head.safetensors but no armor_config.json'),
        (truncate(HEAD_FILE), 'does not fit a head of hidden size 128'),
        (swap_the_head, 'does not fit a head of hidden size 128'),
        (change(CONFIG_FILE, fpss=5), "unknown key 'fpss'; did you mean 'fps'?"),
        (change(CONFIG_FILE, head={'num_heads': 7}), 'num_heads is 7'),
        (remove('tokenizer.json'), 'tokenizer'),
        (truncate('tokenizer.json'), 'has no tokenizer that can be loaded'),
    ],
)
def test_damage_is_told_in_a_sentence(
    folder: Path, damage: Callable[[Path], None], part: str
) -> None:
    damage(folder)
    with pytest.raises(ArmorError) as caught:
        load_checkpoint(folder)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ('path', 'part'),
    [
        ('/nowhere/model', "no checkpoint folder '/nowhere/model'"),
        ('', "no checkpoint folder ''"),
        ('a/b/c', "no checkpoint folder 'a/b/c'"),
        ('armor_ros/typo', "no checkpoint folder 'armor_ros/typo'"),
        ('no-such-owner/no-such-model', 'HF_HUB_OFFLINE is set'),
        ('no-such-owner/no-such-model@main', 'HF_HUB_OFFLINE is set'),
    ],
)
def test_a_checkpoint_that_is_not_there(path: str, part: str) -> None:
    with pytest.raises(ArmorError) as caught:
        load_checkpoint(path)
    assert part in str(caught.value)


def test_a_hub_model_fetched_before_is_found_offline(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / 'hub' / 'models--lab--robot'
    commit = '0123456789abcdef0123456789abcdef01234567'
    (store / 'refs').mkdir(parents=True)
    (store / 'refs' / 'main').write_text(commit)
    (store / 'snapshots').mkdir()
    change(CONFIG_FILE, model_id='', revision='')(folder)
    folder.rename(store / 'snapshots' / commit)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    for name in ('lab/robot', f'lab/robot@{commit}'):
        info = load_checkpoint(name).info
        assert (info.model_id, info.revision) == ('lab/robot', commit)


def test_a_file_is_no_checkpoint(tiny_path: Path) -> None:
    with pytest.raises(ArmorError, match='is a file; give the folder'):
        load_checkpoint(tiny_path / 'config.json')


def test_remote_code_is_not_run(folder: Path) -> None:
    witness = folder / 'ran'
    (folder / 'evil.py').write_text(f'open({str(witness)!r}, "w").close()\n')
    change('config.json', auto_map={'AutoModel': 'evil.Model', 'AutoConfig': 'evil.C'})(folder)
    change('tokenizer_config.json', auto_map={'AutoTokenizer': ['evil.T', 'evil.T']})(folder)
    load_checkpoint(folder)
    assert not witness.exists()


@pytest.mark.parametrize(
    ('options', 'part'),
    [
        ({'quantization': '2bit'}, "quantization is '2bit'; it must be one of none, 8bit, 4bit"),
        ({'device': 'tpu'}, "device is 'tpu'"),
        ({'device': 'cuda:99'}, "device is 'cuda:99', but this machine has"),
        ({'dtype': 'int8'}, "dtype is 'int8'"),
    ],
)
def test_bad_options(tiny_path: Path, options: dict[str, str], part: str) -> None:
    with pytest.raises(ArmorError) as caught:
        load_checkpoint(tiny_path, **options)  # type: ignore[arg-type]
    assert part in str(caught.value)


def test_dtype(tiny_path: Path) -> None:
    model = load_checkpoint(tiny_path, dtype='bfloat16')
    assert {weight.dtype for weight in model.backbone.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize('has_instructions', [True, False])
def test_a_processor_without_bf16_computes_in_float32(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_instructions: bool
) -> None:
    model = load_checkpoint(tiny_path, dtype='bfloat16', device='cpu')
    model.head.bfloat16()
    folder = save_checkpoint(model, tmp_path / 'half')
    monkeypatch.setattr(checkpoint, 'multiplies_bf16', lambda device: has_instructions)
    loaded = load_checkpoint(folder, device='cpu')
    wanted = torch.bfloat16 if has_instructions else torch.float32
    assert {weight.dtype for weight in loaded.parameters()} == {wanted}
    for ours, theirs in zip(loaded.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs.to(wanted))
    asked = load_checkpoint(folder, device='cpu', dtype='bfloat16')
    assert asked.backbone.dtype == torch.bfloat16


def test_saving_never_replaces_unasked(tiny_model: ArmorModel, folder: Path) -> None:
    with pytest.raises(ArmorError, match='exists; choose another folder'):
        save_checkpoint(tiny_model, folder)
    (folder / 'model-00001-of-00002.safetensors').write_bytes(b'old')
    save_checkpoint(tiny_model, folder, overwrite=True)
    assert not (folder / 'model-00001-of-00002.safetensors').exists()


def test_an_interrupted_save_keeps_the_old_folder(
    tiny_model: ArmorModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OSError('disk full')

    before = hash_weights(folder)
    monkeypatch.setattr(tiny_model.tokenizer, 'save_pretrained', fail)
    with pytest.raises(OSError, match='disk full'):
        save_checkpoint(tiny_model, folder, overwrite=True)
    assert hash_weights(folder) == before
    assert os.listdir(folder.parent) == ['copy']


def test_others_may_read_a_checkpoint(tmp_path: Path) -> None:
    path = make_tiny_checkpoint(tmp_path / 'tiny', size=TinySize(hidden_size=64, layers=5))
    assert {file.name: oct(file.stat().st_mode)[-3:] for file in path.iterdir()} == {
        file.name: '644' for file in path.iterdir()
    }
