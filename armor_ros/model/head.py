# SPDX-License-Identifier: Apache-2.0
"""The classification head that turns decoder features into the detection (section A.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from armor_ros.errors import ArmorError
from armor_ros.model.config import HeadConfig, HeadPooling


class ClassificationHead(nn.Module):
    """
    A learnable [CLS] query cross-attends to projected decoder features; an MLP classifies it.

    Follows the pseudo-code of section A.1; ``ln`` and ``out_ln``, which it leaves undefined, are
    LayerNorms over the hidden size. The [CLS] token starts at zero, so an untrained head attends
    uniformly.
    """

    def __init__(self, hidden_size: int, config: HeadConfig) -> None:
        super().__init__()
        if hidden_size % config.num_heads:
            raise ArmorError(
                f"head.num_heads is {config.num_heads}, which does not divide the backbone's "
                f'hidden size {hidden_size}; choose a divisor'
            )
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.projector = nn.Sequential(
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden_size, hidden_size),
        )
        self.ln = nn.LayerNorm(hidden_size)
        self.agg_attn = nn.MultiheadAttention(hidden_size, config.num_heads, batch_first=True)
        self.out_ln = nn.LayerNorm(hidden_size)
        self.out_mlp = nn.Sequential(
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden_size, hidden_size // 2),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden_size // 2, len(config.classes)),
        )

    def token_features(self, hidden_states: Sequence[torch.Tensor]) -> torch.Tensor:
        """
        Reduce decoder states to what the head needs of each token.

        ``hidden_states[i]`` is the output of decoder layer i, 0 being the embeddings, each
        (B, L, H). Returns (B, L, F), F being H for pooling over layers and layers * H for pooling
        over tokens. Features of consecutive tokens may be concatenated along L.
        """
        chosen = [hidden_states[layer] for layer in self.config.pooled_layers]
        if self.config.pooling is HeadPooling.TOKENS:
            return torch.cat(chosen, dim=-1)
        return torch.stack(chosen).mean(dim=0)

    def forward(self, features: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """
        Classify sequences.

        ``features`` (B, L, F) from ``token_features``, ``valid`` (B, L) bool, False for padding;
        at least one token a row must be valid. Returns float32 logits (B, 2) in the order of
        ``config.classes``.
        """
        features = features.to(self.cls_token.dtype)
        ignored: torch.Tensor | None = ~valid
        if self.config.pooling is HeadPooling.TOKENS:
            weights = valid.to(features.dtype)[..., None]
            mean = (features * weights).sum(dim=1) / weights.sum(dim=1)
            features = mean.unflatten(-1, (len(self.config.pooled_layers), -1))  # (B, layers, H)
            ignored = None
        query = self.cls_token.expand(features.shape[0], -1, -1)
        keys = self.ln(self.projector(features))
        attended, _ = self.agg_attn(
            query, keys, keys, key_padding_mask=ignored, need_weights=False
        )
        logits: torch.Tensor = self.out_mlp(self.out_ln(attended.squeeze(1)))
        return logits.float()
