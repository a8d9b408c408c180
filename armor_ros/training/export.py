# SPDX-License-Identifier: Apache-2.0
"""A trained model becomes a checkpoint folder, with a card that says what it is and is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import safe_open

from armor_ros.datasets.manifest import write_whole
from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import save_checkpoint, with_config
from armor_ros.model.weights import HEAD_FILE
from armor_ros.training.lora import merge_adapters
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.sharding import is_sharded

CARD_FILE = 'README.md'
_DTYPES = {'float32': torch.float32, 'bf16': torch.bfloat16}
_MODEL = 'packed.model.'


def check_dtype(dtype: str) -> None:
    """Raise ArmorError when a checkpoint cannot be stored so."""
    if dtype not in _DTYPES:
        raise ArmorError(f'dtype is {dtype!r}; it must be one of {", ".join(_DTYPES)}')


def check_stored_dtype(checkpoint: Path, dtype: str) -> None:
    """Raise ArmorError when a finished run has stored its weights in another way than this."""
    with safe_open(checkpoint / HEAD_FILE, 'pt') as file:
        stored = file.get_tensor(next(iter(file.keys()))).dtype
    if stored != _DTYPES[dtype]:
        name = next(name for name, each in _DTYPES.items() if each == stored)
        raise ArmorError(
            f'{checkpoint} is finished, with weights in {name}; give --dtype {name}, or another '
            f'--output to train one in {dtype}'
        )


def export_checkpoint(
    model: ArmorModel, recipe: TrainingRecipe, target: Path, card: str, dtype: str = 'float32'
) -> Path:
    """
    Write a checkpoint that ``load_checkpoint`` reads, with its card; return its folder.

    Adapters are merged and weights stored as ``dtype``, float32 or bf16: ``model`` is changed so
    too. Raises ArmorError on another dtype, when a weight is no finite number, or when the folder
    cannot be written.
    """
    check_dtype(dtype)
    if recipe.lora is not None:
        model = merge_adapters(model)
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ArmorError(
                f'the weights {name} are no finite numbers, so training has come apart at its '
                'end; begin anew in another folder with lower learning rates'
            )
    model.backbone.to(_DTYPES[dtype])
    model.head.to(_DTYPES[dtype])
    config = dataclasses.replace(
        model.config,
        trained=True,
        model_id=recipe.name if recipe.model.config.model_id == '' else model.config.model_id,
        revision='',
    )
    folder = save_checkpoint(with_config(model, config), target, overwrite=True)
    write_whole(folder / CARD_FILE, card)
    return folder


def whole_model(
    accelerator: Accelerator, module: Any, model: ArmorModel, fresh: Callable[[], ArmorModel]
) -> ArmorModel | None:
    """
    Return a model with all weights; in processes but the first None.

    All processes must call it. Weights that FSDP2 divides are gathered into a ``fresh`` model.
    """
    if not is_sharded(module):
        return model if accelerator.is_main_process else None
    state = accelerator.get_state_dict(module)
    if not accelerator.is_main_process:
        return None
    whole = fresh()
    own = {
        name.removeprefix(_MODEL): value for name, value in state.items()
        if name.startswith(_MODEL)
    }  # fmt: skip
    whole.load_state_dict(own)
    return whole
