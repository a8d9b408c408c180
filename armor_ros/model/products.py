# SPDX-License-Identifier: Apache-2.0
"""
Products of few rows with large weights.

On a CPU in float32, oneDNN multiplies the few rows of a decode step up to three times as fast as
``torch.nn.functional.linear``, and twice as fast again with weights in a layout of its own. Such
copies are kept beside the weights as long as these live, up to a limit of bytes.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

# Below this many numbers nothing is gained.
_SMALLEST = 1 << 16
# Weights that a core's own cache holds are not worth oneDNN's product without the layout.
_LARGE = 1 << 19
# Of all copies together: half a billion weights.
_MOST_BYTES = 2 << 30
# Rows for which a layout is chosen. Those of one or few rows are of no use to more.
_TYPICAL_ROWS = 64


@dataclass(frozen=True, slots=True)
class _Copy:
    """
    A weight in oneDNN's layout, and what it is a copy of.

    ``weight`` is None, of 0 bytes, where there was no room for it. ``original`` shares the
    weight's memory, so that no other weight is ever found at its place; ``version`` counts the
    changes there.
    """

    original: torch.Tensor
    version: int
    weight: torch.Tensor | None
    nbytes: int

    def is_of(self, weight: torch.Tensor) -> bool:
        """Whether a weight has not changed since."""
        is_there = self.original.data_ptr() == weight.data_ptr()
        return is_there and self.version == weight._version


_copies: weakref.WeakKeyDictionary[nn.Module, _Copy] = weakref.WeakKeyDictionary()


def linear(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Apply a linear layer to (N, features), without gradients, as fast as is known here."""
    # Quantized and adapted layers are of other classes, and know themselves how to run.
    if (
        type(module) is nn.Linear
        and module.weight.numel() >= _SMALLEST
        and not torch.is_grad_enabled()
        and _has_onednn(inputs.device.type, inputs.dtype, module.weight.dtype)
    ):
        weight = _laid_out(module)
        if weight is None and module.weight.numel() >= _LARGE:
            weight = module.weight
        if weight is not None:
            product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                inputs, weight, module.bias, 'none', [], ''
            )
            return product
    output: torch.Tensor = module(inputs)
    return output


def copied_bytes() -> int:
    """Return the bytes of all weights that are held a second time."""
    return sum(copy.nbytes for copy in _copies.values())


def forget_copies() -> None:
    """Free the weights that are held a second time; they are copied again when they are used."""
    _copies.clear()


def _laid_out(module: nn.Linear) -> torch.Tensor | None:
    """Return a layer's weight in oneDNN's layout; None where it is not to be had."""
    weight = module.weight
    if weight.is_inference():
        return None  # its changes are not counted
    copy = _copies.get(module)
    if copy is not None and copy.is_of(weight):
        return copy.weight
    _copies.pop(module, None)
    packed, nbytes = None, 0
    if copied_bytes() + weight.nbytes <= _MOST_BYTES:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _TYPICAL_ROWS)
        nbytes = weight.nbytes
    _copies[module] = _Copy(weight.detach(), weight._version, packed, nbytes)
    return packed


@functools.cache
def _has_onednn(device_type: str, inputs: torch.dtype, weight: torch.dtype) -> bool:
    """Whether oneDNN's product exists here and gives the right result."""
    if device_type != 'cpu' or {inputs, weight} != {torch.float32}:
        return False
    if not torch.backends.mkldnn.is_available():
        return False
    rows, matrix, bias = torch.ones(3, 4), torch.arange(8.0).view(2, 4), torch.ones(2)
    expected = functional.linear(rows, matrix, bias)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(matrix, _TYPICAL_ROWS)
        products = [
            torch.ops.mkldnn._linear_pointwise(rows, each, bias, 'none', [], '')
            for each in (matrix, packed)
        ]
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return all(torch.allclose(product, expected) for product in products)
