# SPDX-License-Identifier: Apache-2.0
"""The parts that the engine runs itself equal transformers' and the head's own."""

from __future__ import annotations

import copy

import pytest
import torch

from armor_ros.errors import ArmorError
from armor_ros.model import attention, backbone
from armor_ros.model.armor import ArmorModel
from armor_ros.model.attention import attend, causal_bias, visibility
from armor_ros.model.cache import KeyValueCache
from armor_ros.model.config import HeadConfig, HeadPooling
from armor_ros.model.head import ClassificationHead
from armor_ros.model.head_summary import HeadReader

CPU = torch.device('cpu')


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.inference_mode():
        yield


def lively_head(pooling: HeadPooling) -> ClassificationHead:
    torch.manual_seed(0)
    head = ClassificationHead(64, HeadConfig(pooling=pooling)).eval()
    for parameter in head.parameters():
        parameter.normal_(std=0.3)
    return head


@pytest.mark.parametrize('pooling', list(HeadPooling))
@pytest.mark.parametrize('cuts', [[9], [1, 8], [4, 2, 3]])
def test_a_head_in_pieces_equals_the_head(pooling: HeadPooling, cuts: list[int]) -> None:
    head = lively_head(pooling)
    width = 64 if pooling is HeadPooling.LAYERS else 64 * 4
    features = torch.randn(2, 9, width) * 3
    reader = HeadReader(head)
    summaries = []
    for row in features:
        pieces = [reader.summarize(piece) for piece in row.split(cuts)]
        summary = pieces[0]
        for piece in pieces[1:]:
            summary = summary.merge(piece)
        summaries.append(summary)
    expected = head(features, torch.ones(2, 9, dtype=torch.bool))
    torch.testing.assert_close(reader.classify(summaries), expected, rtol=0, atol=1e-5)


def test_scores_of_any_size_do_not_overflow() -> None:
    head = lively_head(HeadPooling.LAYERS)
    head.ln.weight.fill_(100.0)
    reader, features = HeadReader(head), torch.randn(8, 64)
    parts = [reader.summarize(part) for part in features.split(4)]
    logits = reader.classify([parts[0].merge(parts[1])])
    assert torch.isfinite(logits).all()
    expected = head(features[None], torch.ones(1, 8, dtype=torch.bool))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_rotations_are_transformers_own(tiny_model: ArmorModel) -> None:
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as theirs

    positions = torch.randint(0, 500, (3, 7))
    ours = backbone.rotations(tiny_model.backbone, positions)
    rotary = tiny_model.backbone.model.language_model.rotary_emb
    cosines, sines = rotary(torch.zeros(1), positions[:, None])
    queries, keys = torch.randn(1, 4, 7, 32), torch.randn(1, 2, 7, 32)
    # Releases differ in which of the two merges the three axes.
    if cosines.ndim == 4:
        rotate, extra = theirs.apply_multimodal_rotary_pos_emb, ([4, 6, 6],)
    else:
        rotate, extra = theirs.apply_rotary_pos_emb, ()
    expected = rotate(queries, keys, cosines, sines, *extra)
    for heads, wanted in zip((queries, keys), expected, strict=True):
        rotated = backbone.rotate(heads[0].transpose(0, 1), *ours)
        torch.testing.assert_close(rotated, wanted[0].transpose(0, 1), rtol=0, atol=1e-6)


def test_lengths_that_change_the_rotation_are_refused(tiny_model: ArmorModel) -> None:
    other = copy.copy(tiny_model.backbone)
    other.config = copy.deepcopy(other.config)
    other.config.text_config.rope_parameters['rope_type'] = 'dynamic'
    with pytest.raises(ArmorError, match="'dynamic'"):
        backbone.rotations(other, torch.zeros(3, 1, dtype=torch.long))


@pytest.mark.parametrize('in_parts', [True, False])
@pytest.mark.parametrize('before', [0, 1, 4, 700])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_attention_sees_what_it_may(
    monkeypatch: pytest.MonkeyPatch, before: int, dtype: torch.dtype, in_parts: bool
) -> None:
    assert attention._has_partial('cpu', dtype)
    monkeypatch.setattr(attention, '_has_partial', lambda *_: in_parts)
    torch.manual_seed(0)
    queries = torch.randn(3, 4, 8, dtype=dtype)
    keys, values = torch.randn(2, 2, before + 4, 8, dtype=dtype) * 3
    bias = torch.cat([torch.tensor([[0.0], [-torch.inf], [0.0]]), causal_bias(3, CPU)], dim=1)
    ours = attend(queries, keys, values, visibility(bias, 2, dtype), 0.5).view(3, 4, 8)
    assert ours.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 0.03
    for token in range(3):
        for head in range(4):
            scores = keys[head // 2].double() @ queries[token, head].double() * 0.5
            scores[before:] += bias[token]
            expected = scores.softmax(0) @ values[head // 2].double()
            gathered = ours[token, head].double()
            torch.testing.assert_close(gathered, expected, rtol=tolerance, atol=tolerance)


def test_parts_of_very_different_weight() -> None:
    """Scores far beyond what exp can hold, in the first part, in the second, and in both."""
    queries, values = torch.full((1, 1, 1), 100.0), torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])
    mask = visibility(torch.zeros(1, 2), 1, torch.float32)
    for scores, expected in (
        ([9.0, 0, 0, 0], 1.0), ([0, 0, 9.0, 0], 3.0), ([9.0, 0, 0, 9.0], 2.5), ([-9.0] * 4, 2.5),
    ):  # fmt: skip
        keys = torch.tensor(scores).view(1, 4, 1)
        assert attend(queries, keys, values, mask, 1.0).item() == pytest.approx(expected)


def test_a_cache_keeps_what_it_holds() -> None:
    cache = KeyValueCache(2, 3, 4, torch.float32, torch.device('cpu'))
    keys, values = torch.randn(5, 3, 4), torch.randn(5, 3, 4)
    cache.reserve(5, exactly=True)
    assert cache.capacity == 5
    assert cache.nbytes == 2 * 2 * 3 * 5 * 4 * 4
    cache.write(1, slice(0, 4), keys[:4], values[:4])
    cache.write(1, torch.tensor([4]), keys[4:], values[4:])
    cache.reserve(6)
    assert cache.capacity >= 6
    assert torch.equal(cache.keys[1][:, :5], keys.transpose(0, 1))
    assert torch.equal(cache.values[1][:, :5], values.transpose(0, 1))
    before = cache.keys[0]
    cache.reserve(3)
    assert cache.keys[0] is before
