# SPDX-License-Identifier: Apache-2.0
"""Sequences of different length side by side: padding, positions and attention masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """
    Token sequences padded on the left, so that each ends in the last column.

    ``ids`` (B, S) int64; ``valid`` (B, S) bool, False for padding; ``positions`` (3, B, S).
    """

    ids: torch.Tensor
    valid: torch.Tensor
    positions: torch.Tensor


def left_pad(
    sequences: Sequence[Sequence[int]], start: int, padding_id: int, device: torch.device
) -> TokenBatch:
    """Batch text sequences whose first token stands at position ``start``."""
    longest = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), longest), padding_id, dtype=torch.int64)
    valid = torch.zeros(ids.shape, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, longest - len(sequence) :] = torch.tensor(sequence)
        valid[row, longest - len(sequence) :] = True
    positions = start + (valid.long().cumsum(dim=1) - 1).clamp(min=0)
    return TokenBatch(ids.to(device), valid.to(device), positions.to(device).expand(3, -1, -1))


def causal_mask(valid: torch.Tensor, queries: int) -> torch.Tensor:
    """
    Return the (B, 1, queries, K) boolean mask of the last ``queries`` of K keys.

    ``valid`` (B, K) bool is False for padding. True means attend: to valid keys at or before the
    query. A query always attends to itself, so that no row of padding is empty.
    """
    keys = valid.shape[1]
    columns = torch.arange(keys, device=valid.device)
    rows = columns[keys - queries :, None]
    allowed = (columns <= rows) & valid[:, None, None, :]
    return allowed | (columns == rows)
