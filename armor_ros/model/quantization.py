# SPDX-License-Identifier: Apache-2.0
"""Quantization of the decoder's linear layers; vision tower and heads keep full precision."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from typing import Any

import torch

from armor_ros.errors import ArmorError

QUANTIZATIONS: tuple[str, ...] = ('none', '8bit', '4bit')

# Names are matched from the start of a module's path, which differs between library versions.
KEPT_MODULES = ('visual', 'model.visual', 'lm_head', 'model.lm_head')


def quantization_config(quantization: str, device: torch.device) -> Any | None:
    """
    Return the configuration that transformers needs, None for 'none'.

    Raises ArmorError on an unknown name or when bitsandbytes is not installed.
    """
    if quantization not in QUANTIZATIONS:
        raise ArmorError(
            f'quantization is {quantization!r}; it must be one of {", ".join(QUANTIZATIONS)}'
        )
    if quantization == 'none':
        return None
    if importlib.util.find_spec('bitsandbytes') is None:
        raise ArmorError(
            f'quantization {quantization!r} needs bitsandbytes: pip install bitsandbytes'
        )
    import_bitsandbytes()
    from transformers import BitsAndBytesConfig

    if quantization == '8bit':
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(KEPT_MODULES))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type='nf4',
        bnb_4bit_compute_dtype=torch.bfloat16 if device.type == 'cuda' else torch.float32,
        llm_int8_skip_modules=list(KEPT_MODULES),
    )


def import_bitsandbytes() -> None:
    """Import bitsandbytes quietly, and without the compiled code it would fetch from the hub."""
    # Of these, one warns of a cast at every call of every layer, one of the code not fetched.
    for name in ('bitsandbytes.autograd._functions', 'bitsandbytes.backends.cpu.ops'):
        logging.getLogger(name).setLevel(logging.ERROR)
    absent = object()
    kernels: Any = sys.modules.get('kernels', absent)
    sys.modules['kernels'] = None  # type: ignore[assignment]
    try:
        importlib.import_module('bitsandbytes')
    finally:
        del sys.modules['kernels']
        if kernels is not absent:
            sys.modules['kernels'] = kernels
