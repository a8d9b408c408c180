# SPDX-License-Identifier: Apache-2.0
"""The state of an interrupted run: written whole or not at all, and found again."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from armor_ros.datasets.manifest import write_whole
from armor_ros.errors import ArmorError

STATE_FOLDER = 'state'
_PROGRESS_FILE = 'progress.json'
_TRAINED_FILE = 'trained.safetensors'
# What readers of weights, of optimizers and of random generators say of files that are cut off.
_UNREADABLE = (SafetensorError, OSError, EOFError, RuntimeError, ValueError, UnpicklingError)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run goes on: the next step of a phase, ``step`` behind its last one at its end."""

    phase: int = 0
    step: int = 0


class RunState:
    """
    The state of a run in ``folder``: weights, optimizer and where it was.

    ``only_trained`` leaves weights out that never change, such as those under adapters.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, *, only_trained: bool) -> None:
        self._accelerator = accelerator
        self._folder = folder
        if only_trained:
            accelerator.register_save_state_pre_hook(_save_trained)
            accelerator.register_load_state_pre_hook(_load_trained)

    def progress(self) -> Progress | None:
        """Return where the run was when it was kept last; None when it never was."""
        return read_progress(self._folder)

    def save(self, progress: Progress) -> None:
        """Keep the state; an interruption leaves the one before."""
        place = self._place(progress)
        # save_state adds to a folder: start from nothing, should there be a half one
        if self._accelerator.is_main_process:
            shutil.rmtree(place, ignore_errors=True)
        self._accelerator.wait_for_everyone()
        try:
            self._accelerator.save_state(str(place))
        except (OSError, SafetensorError, RuntimeError) as error:
            # what writes the parts has an error of its own for a disk that is full
            shutil.rmtree(place, ignore_errors=True)
            raise ArmorError(
                f'cannot keep the state in {place}: {error}; make room, and the same command goes '
                'on from the state before'
            ) from error
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            write_whole(self._folder / _PROGRESS_FILE, json.dumps(asdict(progress)))
            for other in self._folder.iterdir():
                if other.is_dir() and other != place:
                    shutil.rmtree(other, ignore_errors=True)
        self._accelerator.wait_for_everyone()

    def load(self, progress: Progress) -> None:
        """Give the prepared module and optimizer what was kept of them."""
        place = self._place(progress)
        if not place.is_dir():
            raise ArmorError(f'{place} is missing; remove {self._folder} to begin anew')
        try:
            self._accelerator.load_state(str(place))
        except _UNREADABLE as error:
            raise ArmorError(
                f'{place} is damaged ({error}); remove {self._folder} to begin anew'
            ) from error

    def _place(self, progress: Progress) -> Path:
        return self._folder / f'phase-{progress.phase}-step-{progress.step}'


def read_progress(folder: Path) -> Progress | None:
    """Return where the run was whose state is kept in a folder; None when it never was."""
    path = folder / _PROGRESS_FILE
    if not path.is_file():
        return None
    try:
        return Progress(**json.loads(path.read_text(encoding='utf-8')))
    except (OSError, ValueError, TypeError) as error:
        raise ArmorError(f'{path} is damaged ({error}); remove {folder} to begin anew') from error


def _trained(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return all weights that can learn, and the heads, by name."""
    kept = {name for name, weight in module.named_parameters() if weight.requires_grad}
    return {
        name: weight
        for name, weight in module.state_dict().items()
        if name in kept or '.visual.' in name
    }


def _save_trained(models: list[Any], weights: list[Any], folder: str) -> None:
    if not weights:
        # FSDP and DeepSpeed have saved their parts themselves
        return
    state = {name: value.contiguous() for name, value in _trained(models[0]).items()}
    save_file(state, Path(folder, _TRAINED_FILE))
    weights.clear()


def _load_trained(models: list[Any], folder: str) -> None:
    path = Path(folder, _TRAINED_FILE)
    if not path.is_file():
        return
    found = load_file(path)
    missing = set(_trained(models[0])) - set(found)
    if missing:
        raise ArmorError(f'{folder} lacks {len(missing)} weights, first {min(missing)}')
    models[0].load_state_dict(found, strict=False)
    models.clear()
