# SPDX-License-Identifier: Apache-2.0
"""Trackers of accelerate: TensorBoard by default, or any other that is installed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from typing import Any

from accelerate import Accelerator

from armor_ros.errors import ArmorError
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.schedule import StepReport
from armor_ros.training.validation import Trial

# The module that each needs.
_MODULES = {
    'tensorboard': 'tensorboard',
    'wandb': 'wandb',
    'trackio': 'trackio',
    'comet_ml': 'comet_ml',
    'aim': 'aim',
    'mlflow': 'mlflow',
    'clearml': 'clearml',
    'dvclive': 'dvclive',
    'swanlab': 'swanlab',
}


def check_tracker(name: str) -> None:
    """Raise ArmorError when there is no such tracker, or it is not installed."""
    if name == 'none':
        return
    if name not in _MODULES:
        raise ArmorError(f'tracker is {name!r}; it must be none, {", ".join(_MODULES)}')
    if importlib.util.find_spec(_MODULES[name]) is None:
        raise ArmorError(
            f'tracker {name} is not installed: pip install {_MODULES[name]}, or choose none'
        )


def open_tracker(accelerator: Accelerator, recipe: TrainingRecipe, done: int) -> None:
    """
    Begin the log of a run of which ``done`` steps are kept; nothing happens without a tracker.

    TensorBoard forgets what an interrupted run logged behind them, which will be done again.
    """
    if accelerator.log_with:
        accelerator.init_trackers(
            'armor',
            config=_flat(dataclasses.asdict(recipe)),
            init_kwargs={'tensorboard': {'purge_step': done}},
        )


def track(accelerator: Accelerator, entry: StepReport | Trial, step: int) -> None:
    """Log a step or a trial as number ``step`` of the whole run."""
    if not accelerator.log_with:
        return
    where = 'training' if isinstance(entry, StepReport) else 'validation'
    values = {
        f'{where}/{name}': value
        for name, value in dataclasses.asdict(entry).items()
        if isinstance(value, float) and value == value
    }
    accelerator.log(values | {f'{where}/phase': float(entry.phase)}, step=step)


def _flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """Return nested values under dotted names, as trackers take them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f'{prefix}{key}'
        if isinstance(value, dict):
            flat |= _flat(value, f'{name}.')
        elif isinstance(value, bool | int | float) or type(value) is str:
            flat[name] = value
        else:
            flat[name] = json.dumps(value)
    return flat
