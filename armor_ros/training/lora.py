# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters inside of the language model's own layers, and their merging (peft)."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from typing import Any

import torch
from torch import nn

from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.model.quantization import import_bitsandbytes
from armor_ros.training.recipe import LoraRecipe

_DECODER = r'.*language_model\.layers\.\d+\.(self_attn|mlp)\.'


def add_adapters(model: ArmorModel, recipe: LoraRecipe, seed: int) -> None:
    """
    Put adapters beside the decoder's projections, in place, so that its layers are called as ever.

    They start without an effect. The language model itself learns nothing more; the heads do.
    Raises ArmorError when peft is missing or a target is not a projection of the decoder.
    """
    if importlib.util.find_spec('peft') is None:
        raise ArmorError('lora needs peft: pip install peft')
    if importlib.util.find_spec('bitsandbytes') is not None:
        import_bitsandbytes()
    from peft import LoraConfig, inject_adapter_in_model

    names = {name.rsplit('.', 1)[-1] for name, module in model.backbone.named_modules()
             if re.match(_DECODER, name) and isinstance(module, nn.Linear)}  # fmt: skip
    if unknown := sorted(set(recipe.targets) - names):
        raise ArmorError(
            f'lora.targets has {unknown[0]!r}; the decoder has {", ".join(sorted(names))}'
        )
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore[arg-type]
        lora_dropout=recipe.dropout,
        target_modules=f'{_DECODER}({"|".join(map(re.escape, recipe.targets))})',
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model.backbone)
    for module in model.backbone.modules():
        # bitsandbytes would lay 4-bit weights out anew when a CPU answers, and could train no more
        if hasattr(module, 'support_avx512bf16_for_cpu'):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    for name, weight in model.backbone.named_parameters():
        # what learns does so in float32, whatever it adapts
        if weight.requires_grad and '.lora_' in name:
            weight.data = weight.data.float()


@torch.no_grad()
def merge_adapters(model: ArmorModel) -> ArmorModel:
    """
    Turn adapted layers into plain ones that compute the same; return the model, not quantized.

    What was quantized is written out as it was trained with: quantized weights plus adapters.
    """
    from peft.tuners.lora.layer import LoraLayer
    from peft.utils.integrations import dequantize_module_weight

    adapted = [
        (name, module)
        for name, module in model.backbone.named_modules()
        if isinstance(module, LoraLayer)
    ]
    for name, module in adapted:
        layer: Any = module
        base = layer.get_base_layer()
        weight = dequantize_module_weight(base).float()
        for adapter in layer.active_adapters:
            weight = weight + layer.get_delta_weight(adapter).float()
        _replace(model.backbone, name, _linear(weight, base.bias, _dtype(model)))
    _dequantize_rest(model)
    if model.info.quantization != 'none':
        model.info = dataclasses.replace(model.info, quantization='none')
        _forget_quantization(model.backbone)
    return model


def _forget_quantization(backbone: Any) -> None:
    """Take from a transformers model all that lets it refuse what plain weights allow."""
    if hasattr(backbone.config, 'quantization_config'):
        del backbone.config.quantization_config
    backbone.hf_quantizer = None
    backbone.is_quantized = False
    for name in ('quantization_method', 'is_loaded_in_4bit', 'is_loaded_in_8bit'):
        if hasattr(backbone, name):
            delattr(backbone, name)


def _dequantize_rest(model: ArmorModel) -> None:
    """Write out quantized layers without an adapter."""
    if model.info.quantization == 'none':
        return
    from peft.utils.integrations import dequantize_module_weight

    for name, module in list(model.backbone.named_modules()):
        if type(module).__module__.startswith('bitsandbytes.'):
            weight = dequantize_module_weight(module).float()
            _replace(model.backbone, name, _linear(weight, module.bias, _dtype(model)))


def _linear(weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> nn.Linear:
    rows, columns = weight.shape
    layer = nn.Linear(columns, rows, bias=bias is not None, device='meta')
    layer.weight = nn.Parameter(weight.to(dtype))
    if bias is not None:
        layer.bias = nn.Parameter(bias.to(weight.device, dtype))
    return layer


def _dtype(model: ArmorModel) -> torch.dtype:
    dtype: torch.dtype = model.backbone.get_input_embeddings().weight.dtype
    return dtype


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition('.')
    setattr(root.get_submodule(parent), leaf, module)
