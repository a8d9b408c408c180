# SPDX-License-Identifier: Apache-2.0
"""Attention of many branches to one store of keys and values, without copying it."""

from __future__ import annotations

import functools

import torch
from torch.nn import functional

# Up to so many tokens a GPU is faster with two plain products than with a fused kernel, which
# would give each of the few key heads to one multiprocessor.
_FEW_TOKENS = 64


def visibility(bias: torch.Tensor, group: int, dtype: torch.dtype) -> torch.Tensor:
    """
    Return the mask of ``attend``, (group * N, R), for all layers of one forward.

    ``bias`` (N, R) says what N queries see of the last R keys: 0 or -inf, not all of them -inf.
    All keys before them are seen by every query, and stand in no mask.
    """
    return bias.to(dtype).repeat(group, 1)


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
    elif keys.shape[1] > mask.shape[1] and _has_partial(rows.device.type, rows.dtype):
        gathered = _two_parts(rows, keys, values, mask, scaling)
    else:
        whole = functional.pad(mask, (keys.shape[1] - mask.shape[1], 0))
        gathered = functional.scaled_dot_product_attention(
            rows[None], keys[None], values[None], attn_mask=whole, scale=scaling
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
    scores *= scaling
    scores[..., scores.shape[-1] - mask.shape[-1] :] += mask
    weights = torch.softmax(scores, dim=-1)
    return torch.bmm(weights.to(values.dtype), values)


def _two_parts(
    rows: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Attend to what all see, without a mask, and to the rest; put both together."""
    seen = keys.shape[1] - mask.shape[1]
    first, first_sum = _partial(rows, keys[:, :seen], values[:, :seen], None, scaling)
    second, second_sum = _partial(rows, keys[:, seen:], values[:, seen:], mask, scaling)
    share = torch.sigmoid(first_sum - second_sum)[..., None]
    return torch.lerp(second.float(), first.float(), share).to(rows.dtype)


def _partial(
    rows: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what (H, N, size) rows gather, and the logarithm of the sum of their weights."""
    gathered, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        rows[None], keys[None], values[None], attn_mask=mask, scale=scaling
    )
    return gathered[0], sums[0]


@functools.cache
def _has_partial(device_type: str, dtype: torch.dtype) -> bool:
    """Whether attention in parts exists here and gives the right result."""
    if device_type != 'cpu':
        return False
    steps = torch.arange(24.0).view(1, 3, 8).sin().to(dtype)
    mask = torch.tensor([[-torch.inf, 0.0]], dtype=dtype).expand(3, -1)
    whole = functional.pad(mask, (1, 0))
    expected = functional.scaled_dot_product_attention(steps, steps, steps, attn_mask=whole)
    try:
        ours = _two_parts(steps, steps, steps, mask, 8**-0.5)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return torch.allclose(ours, expected, atol=0.02)


def attend_and_learn(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
) -> torch.Tensor:
    """
    Return what queries gather, (..., heads, N, size), the way that is the fastest to learn from.

    ``keys`` and ``values`` have as many heads as ``queries``; ``mask`` is True where one is seen.
    On a processor and in bfloat16, torch's fused attention takes two to four times as long for
    the gradient as the formula does.
    """
    learns = queries.requires_grad and torch.is_grad_enabled()
    if not (learns and values.device.type == 'cpu' and values.dtype == torch.bfloat16):
        return functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, scale=scaling
        )
    queries, keys = queries.to(values.dtype), keys.to(values.dtype)
    scores = (queries * scaling) @ keys.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float('-inf'))
    return torch.softmax(scores, dim=-1).to(values.dtype) @ values
