# SPDX-License-Identifier: Apache-2.0
"""Weights that FSDP2 divides among processes: whole for as long as the model answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method


def is_sharded(module: nn.Module) -> bool:
    """Whether FSDP2 holds the weights of a module."""
    return isinstance(module, FSDPModule)


def make_answerable(module: nn.Module) -> None:
    """Let ``TrainingModule.answer`` and its like find whole weights under FSDP2."""
    for name in ('answer', 'propose', 'say', 'tell'):
        # once is enough: phase after phase shares the module
        if is_sharded(module) and name not in vars(module):
            register_fsdp_forward_method(module, name)


@contextlib.contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """
    Keep the weights of a module whole in every process; nothing to do for ordinary modules.

    Processes generate texts of different length, so that they cannot wait for each other layer by
    layer; and gathering once a batch instead of once a token is many times faster.
    """
    units = [each for each in module.modules() if isinstance(each, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()
            unit.set_reshard_after_forward(unit is not module, recurse=False)
