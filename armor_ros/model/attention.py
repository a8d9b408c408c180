# SPDX-License-Identifier: Apache-2.0
"""Attention of many branches to one store of keys and values, without copying it."""

from __future__ import annotations

import torch
from torch.nn import functional

# Up to so many tokens a GPU is faster with two plain products than with a fused kernel, which
# would give each of the few key heads to one multiprocessor.
_FEW_TOKENS = 64


def visibility(bias: torch.Tensor, total: int, group: int, dtype: torch.dtype) -> torch.Tensor:
    """
    Return the mask of ``attend``, (group * N, total), for all layers of one forward.

    ``bias`` (N, R) says what N queries see of the last R keys: 0 or -inf. All keys before them
    are seen by every query.
    """
    before = bias.new_zeros((bias.shape[0], total - bias.shape[1]))
    return torch.cat([before, bias], dim=1).to(dtype).repeat(group, 1)


def causal_bias(count: int, device: torch.device) -> torch.Tensor:
    """Return the (count, count) bias of tokens that see themselves and those before them."""
    return torch.full((count, count), -torch.inf, device=device).triu(1)


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """
    Return what N queries gather, (N, heads * size).

    ``queries`` (N, heads, size); ``keys`` and ``values`` (key heads, K, size), each shared by
    heads / key heads query heads; ``mask`` from ``visibility``.
    """
    count, heads, size = queries.shape
    key_heads = keys.shape[0]
    group = heads // key_heads
    # The queries of a group are rows of one product with the key head that they share.
    rows = queries.view(count, key_heads, group, size).permute(1, 2, 0, 3)
    rows = rows.reshape(key_heads, group * count, size)
    if rows.is_cuda and count <= _FEW_TOKENS:
        gathered = _two_products(rows, keys, values, mask, scaling)
    else:
        gathered = functional.scaled_dot_product_attention(
            rows[None], keys[None], values[None], attn_mask=mask, scale=scaling
        )[0]
    gathered = gathered.view(key_heads, group, count, size)
    return gathered.permute(2, 0, 1, 3).reshape(count, heads * size)


def _two_products(
    rows: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Attend by plain products with scores in float32."""
    if rows.dtype == torch.float32:
        scores = torch.bmm(rows, keys.transpose(1, 2))
    else:
        scores = torch.bmm(rows, keys.transpose(1, 2), out_dtype=torch.float32)
    weights = torch.softmax(scores * scaling + mask, dim=-1)
    return torch.bmm(weights.to(values.dtype), values)
