# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_training import make_model, make_recipe, make_trainer
from training_clips import make_clips

from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint, save_checkpoint
from armor_ros.training.export import export_checkpoint
from armor_ros.training.forward import PackedForward
from armor_ros.training.lora import merge_adapters
from armor_ros.training.packing import Branch, PackedSample, pack
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.rollout import RolloutSettings, rollout
from armor_ros.training.run import TrainingRequest, train
from armor_ros.training.schedule import StepReport
from armor_ros.training.trainer import Interrupted

PHASES = ({'kind': 'warmup'}, {'kind': 'online', 'rounds': 2, 'max_new_tokens': 4})
LORA = {'rank': 4, 'alpha': 8.0}
TYPES = {'bf16': 'bfloat16', 'float32': 'float32'}


def lora_recipe(**changes: Any) -> TrainingRecipe:
    optimizer = {'learning_rate': 1e-2, 'vision_learning_rate': 0.0}
    return make_recipe(*PHASES, lora={**LORA, **changes.pop('lora', {})}, optimizer=optimizer,
                       **changes)  # fmt: skip


@torch.no_grad()
def losses_of(model: ArmorModel) -> torch.Tensor:
    samples = []
    for index, clip in enumerate(make_clips(model)):
        branches = (Branch((5, 6, 7), failed=bool(index % 2)), Branch((8, 9), answer=(10, 11, 12)))
        samples.append(PackedSample(clip, branches))
    found = PackedForward(model.eval())(pack(samples))
    return torch.cat([found.detection, found.language])


def answers_of(model: ArmorModel) -> object:
    clips = make_clips(model)
    return rollout(model, clips, ('a', 'b', 'c'), RolloutSettings(2, 0.7, 6), 1)


def test_adapters_learn_and_merge_into_the_same_model(toy_data: Path, tmp_path: Path) -> None:
    recipe = lora_recipe()
    model = make_model(recipe, toy_data)
    start = losses_of(model)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    model = make_trainer(recipe, toy_data, tmp_path / 'run').train()
    changed = {
        name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])
    }
    assert len([name for name in changed if '.lora_' in name]) == 2 * 7 * 5
    assert all('.lora_' in name or name.startswith('head.') for name in changed)
    adapted, said = losses_of(model), answers_of(model)
    assert float((adapted - start).abs().max()) > 0.01
    merged = merge_adapters(model)
    assert not [name for name in merged.state_dict() if 'lora' in name or 'base_layer' in name]
    torch.testing.assert_close(losses_of(merged), adapted, rtol=0, atol=1e-4)
    assert answers_of(merged) == said
    folder = save_checkpoint(merged, tmp_path / 'merged')
    torch.testing.assert_close(losses_of(load_checkpoint(folder, device='cpu')), adapted,
                               rtol=0, atol=1e-4)  # fmt: skip


@pytest.mark.parametrize('quantization', ['4bit', '8bit'])
def test_adapters_beside_quantized_weights(
    toy_data: Path, tmp_path: Path, quantization: str
) -> None:
    plain = make_model(make_recipe(*PHASES), toy_data)
    start = save_checkpoint(plain, tmp_path / 'start')
    recipe = lora_recipe(lora={'quantization': quantization}, model={'checkpoint': str(start)})
    model = make_model(recipe, toy_data)
    kinds = {type(module).__module__ for module in model.backbone.modules()}
    assert 'bitsandbytes.nn.modules' in kinds
    untrained = losses_of(model)
    model = make_trainer(recipe, toy_data, tmp_path / 'run').train()
    adapted = losses_of(model)
    assert float((adapted - untrained).abs().max()) > 0.01
    folder = export_checkpoint(model, recipe, tmp_path / 'merged', 'card')
    merged = load_checkpoint(folder, device='cpu')
    assert merged.info.quantization == 'none'
    # int8 products round what goes in, too
    most = 1e-3 if quantization == '4bit' else 0.1
    torch.testing.assert_close(losses_of(merged), adapted, rtol=0, atol=most)


@pytest.mark.parametrize(('quantization', 'dtype'), [('4bit', 'bf16'), ('8bit', 'float32')])
def test_a_run_beside_quantized_weights_ends_in_a_plain_checkpoint(
    toy_data: Path, tmp_path: Path, quantization: str, dtype: str
) -> None:
    start = save_checkpoint(make_model(make_recipe(*PHASES), toy_data), tmp_path / 'start')
    recipe = lora_recipe(lora={'quantization': quantization}, model={'checkpoint': str(start)})
    request = TrainingRequest(recipe, toy_data, tmp_path / 'run', dtype=dtype, tracker='none')
    checkpoint = train(request)
    weights = load_file(checkpoint / 'model.safetensors')
    assert {str(weight.dtype) for weight in weights.values()} == {f'torch.{TYPES[dtype]}'}
    assert 'quantization_config' not in json.loads((checkpoint / 'config.json').read_text())
    assert load_checkpoint(checkpoint, device='cpu').info.quantization == 'none'
    assert train(request) == checkpoint


@pytest.mark.parametrize('vision', [0.0, 1e-3])
def test_an_interrupted_run_keeps_only_what_learns(
    toy_data: Path, tmp_path: Path, vision: float
) -> None:
    # a tower that has learned is kept when it does not any more
    recipe = lora_recipe()
    first, *others = recipe.phases
    first = dataclasses.replace(first, vision_learning_rate=vision)
    recipe = dataclasses.replace(recipe, phases=(first, *others))
    whole = make_trainer(recipe, toy_data, tmp_path / 'whole').train().state_dict()
    steps: list[StepReport] = []
    begun = make_trainer(
        recipe, toy_data, tmp_path / 'parts',
        on_step=steps.append, should_stop=lambda: len(steps) == 3,
    )  # fmt: skip
    with pytest.raises(Interrupted):
        begun.train()
    rest = make_trainer(recipe, toy_data, tmp_path / 'parts').train().state_dict()
    assert [name for name in whole if not torch.equal(whole[name], rest[name])] == []
    state = next((tmp_path / 'parts' / 'state').glob('phase-*'))
    assert not (state / 'model.safetensors').exists()
    assert (state / 'trained.safetensors').is_file()


def test_mistakes_are_named(toy_data: Path) -> None:
    with pytest.raises(ArmorError, match=r"'w_proj'; the decoder has .*q_proj"):
        make_model(lora_recipe(lora={'targets': ['q_proj', 'w_proj']}), toy_data)
    with pytest.raises(ArmorError, match=r"'act_fn'; the decoder has down_proj, .*v_proj$"):
        make_model(lora_recipe(lora={'targets': ['act_fn']}), toy_data)
    with pytest.raises(ArmorError, match='nothing to quantize'):
        lora_recipe(lora={'quantization': '4bit'})
    with pytest.raises(ArmorError, match='rank is 0'):
        lora_recipe(lora={'rank': 0})
