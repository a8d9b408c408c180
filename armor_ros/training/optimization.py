# SPDX-License-Identifier: Apache-2.0
"""Which weights a phase trains, at which rates, and how accelerate is set up for it."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
)
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy

from armor_ros.errors import ArmorError
from armor_ros.model.checkpoint import choose_device, multiplies_bf16
from armor_ros.training.recipe import OptimizerRecipe, TrainingRecipe
from armor_ros.training.sharding import is_sharded
from armor_ros.training.steps import TrainingModule

# Of a group of weights: in the vision tower, and a matrix, which decays.
GroupKey = tuple[bool, bool]


def with_precision(recipe: TrainingRecipe) -> TrainingRecipe:
    """
    Return a recipe that says what it computes in, where it left that to the machine.

    bf16 saves memory and time on GPUs and on processors that have instructions for it (see
    ``multiplies_bf16``).
    """
    if recipe.precision != 'auto':
        return recipe
    half = multiplies_bf16(choose_device('auto'))
    return dataclasses.replace(recipe, precision='bf16' if half else 'no')


def make_accelerator(recipe: TrainingRecipe, **options: Any) -> Accelerator:
    """
    Return the accelerator of a recipe, configured further by accelerate's own config.

    Raises ArmorError when the processes cannot share the batch.
    """
    # A process that trains one recipe after another may need another precision each time.
    AcceleratorState._reset_state()
    # A sparse batch leaves the late layers alone.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    handlers: list[Any] = [unused]
    cpu = _on_processors()
    if cpu and os.environ.get('ACCELERATE_USE_DEEPSPEED', 'false').lower() == 'true':
        # accelerate would leave DeepSpeed out on processors, where it works over gloo
        handlers.append(InitProcessGroupKwargs(backend='gloo'))
        cpu = False
    accelerator = Accelerator(
        cpu=cpu, mixed_precision=recipe.precision, kwargs_handlers=handlers, **options
    )
    processes = accelerator.num_processes
    if recipe.batch_size % processes:
        raise ArmorError(
            f'batch_size is {recipe.batch_size}, which {processes} processes cannot share '
            'evenly; make it a multiple'
        )
    turns = math.ceil(recipe.batch_size / (processes * recipe.micro_batch_size))
    accelerator.gradient_accumulation_steps = turns
    _check_distribution(accelerator, recipe, turns)
    return accelerator


def _on_processors() -> bool:
    """Whether several processes are to share the work and there is no GPU or the like."""
    devices = getattr(torch, 'accelerator', torch.cuda)
    return 'LOCAL_RANK' in os.environ and not devices.is_available()


def _check_distribution(accelerator: Accelerator, recipe: TrainingRecipe, turns: int) -> None:
    """Tell the way to distribute what it asks for; refuse those that the steps cannot follow."""
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ArmorError('the accelerate config has FSDP version 1; set fsdp_version to 2 in it')
    if kind == DistributedType.FSDP:
        divide_exactly(accelerator.state.fsdp_plugin, recipe)
    if kind == DistributedType.DEEPSPEED:
        _set_up_deepspeed(accelerator, recipe, turns)


def _set_up_deepspeed(accelerator: Accelerator, recipe: TrainingRecipe, turns: int) -> None:
    """
    Let DeepSpeed compute as we do elsewhere, and add up gradients at a step's end in one order.

    From stage 2 on it adds up what has come, whenever it has come. What a micro-batch asks for
    decides in which order gradients come, and it differs from process to process.
    """
    plugin = accelerator.state.deepspeed_plugin
    if recipe.precision == 'fp16':
        raise ArmorError('precision is fp16, which does not go with DeepSpeed here; use bf16')
    if plugin.zero_stage > 1:
        raise ArmorError(
            f'the accelerate config has DeepSpeed ZeRO stage {plugin.zero_stage}, which needs the '
            'same computation in all processes, and here each asks for what its samples have; '
            'set zero_stage to 1, or use FSDP2, which divides gradients and weights as well'
        )
    config = plugin.deepspeed_config
    config['train_micro_batch_size_per_gpu'] = recipe.micro_batch_size
    config['gradient_accumulation_steps'] = turns
    config['gradient_clipping'] = recipe.optimizer.clip_norm
    config.setdefault('zero_optimization', {})['overlap_comm'] = False
    # Weights stay in float32, and only products are in bf16: by autocast, as without DeepSpeed.
    config['bf16'] = {'enabled': False}
    accelerator.native_amp = recipe.precision == 'bf16'


def divide_exactly(plugin: Any, recipe: TrainingRecipe) -> None:
    """Let FSDP2 compute in the recipe's precision, but add up losses and gradients in float32."""
    if recipe.precision != 'no':
        plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if recipe.precision == 'bf16' else torch.float16,
            reduce_dtype=torch.float32,
            output_dtype=torch.float32,
        )


def freeze_for(module: TrainingModule, rates: tuple[float, float]) -> None:
    """Let the vision tower learn, or not, as its rate says; adapted weights stay as they are."""
    learns = rates[1] > 0
    module.packed.freeze_vision = not learns
    if is_sharded(module):
        # FSDP2 has taken note of what learns; without a graph the tower gets no gradient.
        return
    for parameter in module.model.backbone.model.visual.parameters():
        parameter.requires_grad_(learns)


def make_optimizer(
    module: nn.Module, recipe: OptimizerRecipe, rates: tuple[float, float]
) -> tuple[torch.optim.Optimizer, list[float]]:
    """
    Return AdamW over all weights that learn at these rates, and the rate of each of its groups.

    Groups are told apart by learning rate, and matrices, which decay, from the rest.
    """
    found: dict[GroupKey, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and rates['.visual.' in name] > 0:
            found.setdefault(('.visual.' in name, parameter.ndim > 1), []).append(parameter)
    if not found:
        raise ArmorError('no weight has a learning rate above 0; set optimizer.learning_rate')
    keys = sorted(found)
    groups: list[dict[str, Any]] = [
        {
            'params': found[key],
            'lr': rates[key[0]],
            'weight_decay': recipe.weight_decay if key[1] else 0.0,
        }
        for key in keys
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.999)), [rates[key[0]] for key in keys]
