# SPDX-License-Identifier: Apache-2.0
"""
The classification head over a sequence that arrives in pieces.

The [CLS] query does not depend on the tokens, so a softmax over them can be built up piece by
piece: what a piece contributes is its largest score, the sum of its weights and its weighted sum
of tokens. The per-token work on a clip is thus done once, and kept in a few vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from armor_ros.model.config import HeadPooling
from armor_ros.model.head import ClassificationHead
from armor_ros.model.products import linear


@dataclass(frozen=True, slots=True)
class HeadSummary:
    """
    What the head needs of a piece, in float32, for Q softmaxes over its tokens.

    ``peak`` (Q,) the largest score, ``weight`` (Q,) the sum of exp(score - peak), ``total``
    (Q, F) the sum of tokens weighted so.
    """

    peak: torch.Tensor
    weight: torch.Tensor
    total: torch.Tensor

    def merge(self, other: HeadSummary) -> HeadSummary:
        """Return the summary of both pieces together."""
        peak = torch.maximum(self.peak, other.peak)
        ours, theirs = (self.peak - peak).exp(), (other.peak - peak).exp()
        return HeadSummary(
            peak,
            self.weight * ours + other.weight * theirs,
            self.total * ours[:, None] + other.total * theirs[:, None],
        )


class HeadReader:
    """
    Computes summaries and logits with the weights that ``head`` has at the time, in eval mode.

    Only summaries made with the same weights may be merged.
    """

    def __init__(self, head: ClassificationHead) -> None:
        self._head = head
        self._state: tuple[tuple[int, int], ...] = ()
        self._follow_weights()

    def _follow_weights(self) -> None:
        """Derive the query's scores and views of the values anew when the weights have changed."""
        head = self._head
        attention = head.agg_attn
        weights = (attention.in_proj_weight, attention.in_proj_bias, head.cls_token)
        state = tuple((w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights)
        if state == self._state:
            return
        self._state = state
        heads = attention.num_heads
        matrices = attention.in_proj_weight.float().chunk(3)
        biases = attention.in_proj_bias.float().chunk(3)
        query = head.cls_token[0, 0].float() @ matrices[0].T + biases[0]
        query = query.unflatten(0, (heads, -1)) / math.sqrt(query.shape[0] / heads)
        # The key's bias adds the same to all scores of a head, which a softmax does not feel.
        self._query = torch.einsum('hd,hdf->hf', query, matrices[1].unflatten(0, (heads, -1)))
        self._value = attention.in_proj_weight.chunk(3)[2].unflatten(0, (heads, -1))
        self._value_bias = attention.in_proj_bias.chunk(3)[2]

    def summarize(self, features: torch.Tensor) -> HeadSummary:
        """Return the summary of the (N, F) features of ``ClassificationHead.token_features``."""
        self._follow_weights()
        if self._head.config.pooling is HeadPooling.TOKENS:
            tokens = features.float()
            scores = tokens.new_zeros((1, tokens.shape[0]))
        else:
            tokens = self._project(features)
            scores = self._query @ tokens.T
        peak = scores.amax(dim=1)
        weights = (scores - peak[:, None]).exp()
        return HeadSummary(peak, weights.sum(dim=1), weights @ tokens)

    def classify(self, summaries: Sequence[HeadSummary]) -> torch.Tensor:
        """Return float32 logits (B, 2) of B whole sequences, as the head's ``forward`` does."""
        self._follow_weights()
        head = self._head
        if head.config.pooling is HeadPooling.TOKENS:
            means = torch.stack([each.total / each.weight[:, None] for each in summaries])
            layers = means.squeeze(1).unflatten(-1, (len(head.config.pooled_layers), -1))
            tokens = [self._project(row) for row in layers]
            pieces = [self._query @ each.T for each in tokens]
            pooled = torch.stack(
                [scores.softmax(dim=1) @ each for scores, each in zip(pieces, tokens, strict=True)]
            )
        else:
            pooled = torch.stack([each.total / each.weight[:, None] for each in summaries])
        pooled = pooled.to(self._value.dtype)
        attended = torch.einsum('bhf,hdf->bhd', pooled, self._value).flatten(1) + self._value_bias
        hidden: torch.Tensor = head.out_ln(head.agg_attn.out_proj(attended))
        for module in head.out_mlp:
            if not isinstance(module, nn.Dropout):
                hidden = module(hidden)
        return hidden.float()

    def _project(self, features: torch.Tensor) -> torch.Tensor:
        """Return ln(projector(features)), (N, H) float32."""
        head = self._head
        hidden = linear(head.projector[0], features.to(head.cls_token.dtype))
        projected: torch.Tensor = head.ln(linear(head.projector[3], head.projector[1](hidden)))
        return projected.float()
