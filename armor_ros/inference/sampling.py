# SPDX-License-Identifier: Apache-2.0
"""
Entropies, and seeded random choices that do not depend on how work is batched.

Each token of each trajectory and round has its own uniform number, a function of the seed alone.
A faster or differently batched implementation that consumes the same numbers samples the same
text.
"""

from __future__ import annotations

import hashlib

import torch

from armor_ros.inference.errors import ModelError


def uniforms(
    seed: int, purpose: str, round_index: int, trajectory: int, count: int
) -> torch.Tensor:
    """
    Return ``count`` float64 numbers in [0, 1), on the CPU.

    They depend on all arguments but ``count``, which only tells how many to return.
    """
    name = f'{seed}/{purpose}/{round_index}/{trajectory}'
    digest = hashlib.sha256(name.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], 'big') >> 1)
    return torch.rand(count, generator=generator, dtype=torch.float64)


def choose_tokens(logits: torch.Tensor, temperature: float, numbers: torch.Tensor) -> torch.Tensor:
    """
    Choose one token a row by inverting the cumulative distribution.

    ``logits`` (B, V) float32, ``numbers`` (B,) in [0, 1). Temperature 0 takes the most likely
    token, the first among equals. There is no top-k and no top-p (Table 5). Returns (B,) int64.
    """
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    cumulative = probabilities.cumsum(dim=-1)
    target = numbers.to(cumulative.device)[:, None] * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    return chosen.clamp(max=logits.shape[-1] - 1)


def entropies(logits: torch.Tensor) -> torch.Tensor:
    """
    Return the entropy in nats of each distribution, computed in float32 without temperature.

    ``logits`` (..., V); returns (...). Raises ModelError when a logit is NaN or infinite.
    """
    logits = logits.float()
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            'the model gave logits that are not finite; its weights are damaged, or too large '
            'for their precision (load it with dtype bfloat16 or float32)'
        )
    log_probabilities = torch.log_softmax(logits, dim=-1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=-1)
