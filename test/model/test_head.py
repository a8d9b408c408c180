# SPDX-License-Identifier: Apache-2.0
"""The classification head against the formulas of section A.1, written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from armor_ros.errors import ArmorError
from armor_ros.model.config import HeadConfig, HeadPooling
from armor_ros.model.head import ClassificationHead

HIDDEN = 16


def make_head(config: HeadConfig = HeadConfig(num_heads=4)) -> ClassificationHead:  # noqa: B008
    torch.manual_seed(0)
    head = ClassificationHead(HIDDEN, config).eval()
    with torch.no_grad():
        head.cls_token.normal_()
        head.ln.weight.normal_()
        head.out_ln.bias.normal_()
    return head


def by_hand(head: ClassificationHead, features: torch.Tensor) -> torch.Tensor:
    """Return the logits of one unpadded (L, H) sequence, one operation at a time."""

    def linear(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return x @ layer.weight.T + layer.bias  # type: ignore[operator,union-attr]

    def gelu(x: torch.Tensor) -> torch.Tensor:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def norm(layer: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight + (
            layer.bias
        )

    keys = norm(head.ln, linear(head.projector[3], gelu(linear(head.projector[0], features))))
    attention = head.agg_attn
    weights, biases = attention.in_proj_weight.split(HIDDEN), attention.in_proj_bias.split(HIDDEN)
    q = (head.cls_token[0] @ weights[0].T + biases[0]).view(4, 4)
    k = (keys @ weights[1].T + biases[1]).view(-1, 4, 4)
    v = (keys @ weights[2].T + biases[2]).view(-1, 4, 4)
    scores = torch.softmax(torch.einsum('hd,lhd->hl', q, k) / 2.0, dim=-1)
    attended = linear(attention.out_proj, torch.einsum('hl,lhd->hd', scores, v).reshape(HIDDEN))
    x = norm(head.out_ln, attended)
    x = gelu(linear(head.out_mlp[0], x))
    x = gelu(linear(head.out_mlp[3], x))
    return linear(head.out_mlp[6], x)


def test_equals_the_formulas() -> None:
    head = make_head()
    features = torch.randn(2, 7, HIDDEN)
    logits = head(features, torch.ones(2, 7, dtype=torch.bool))
    expected = torch.stack([by_hand(head, row) for row in features])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)


def test_sizes_follow_the_pseudo_code() -> None:
    head = make_head()
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    assert shapes['cls_token'] == (1, 1, HIDDEN)
    assert shapes['projector.0.weight'] == shapes['projector.3.weight'] == (HIDDEN, HIDDEN)
    assert shapes['out_mlp.3.weight'] == (HIDDEN // 2, HIDDEN)
    assert shapes['out_mlp.6.weight'] == (2, HIDDEN // 2)
    assert not ClassificationHead(HIDDEN, HeadConfig(num_heads=4)).cls_token.any()


def test_token_features_are_the_mean_of_the_chosen_layers() -> None:
    states = [torch.full((1, 3, HIDDEN), float(10**layer)) for layer in range(6)]
    features = make_head().token_features(states)
    assert features.shape == (1, 3, HIDDEN)
    assert features.unique().tolist() == [(10 + 100 + 1000 + 10000) / 4]


@pytest.mark.parametrize('pooling', list(HeadPooling))
def test_padding_changes_nothing(pooling: HeadPooling) -> None:
    head = make_head(HeadConfig(num_heads=4, pooling=pooling))
    states = [torch.randn(1, 5, HIDDEN) for _ in range(5)]
    features = head.token_features(states)
    padded = torch.cat([torch.full_like(features[:, :3], 1e3), features], dim=1)
    valid = torch.tensor([[False] * 3 + [True] * 5])
    torch.testing.assert_close(
        head(padded, valid), head(features, torch.ones(1, 5, dtype=torch.bool))
    )


def test_pooling_over_tokens_attends_to_one_feature_a_layer() -> None:
    head = make_head(HeadConfig(num_heads=4, pooling=HeadPooling.TOKENS))
    states = [torch.randn(1, 5, HIDDEN) for _ in range(6)]
    features = head.token_features(states)
    assert features.shape == (1, 5, 4 * HIDDEN)
    means = torch.stack([state[0].mean(0) for state in states[1:5]])
    logits = head(features, torch.ones(1, 5, dtype=torch.bool))
    torch.testing.assert_close(logits[0], by_hand(head, means), rtol=1e-5, atol=1e-6)


def test_logits_are_float32_in_half_precision() -> None:
    head = make_head().to(torch.bfloat16)
    logits = head(torch.randn(1, 4, HIDDEN), torch.ones(1, 4, dtype=torch.bool))
    assert logits.dtype == torch.float32


def test_heads_must_divide_the_hidden_size() -> None:
    with pytest.raises(ArmorError, match='num_heads is 8, which does not divide'):
        ClassificationHead(20, HeadConfig(num_heads=8))
