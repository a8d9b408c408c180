# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from training_clips import make_clips

from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.model.attention import attend_and_learn
from armor_ros.model.batch import causal_mask
from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training.forward import PackedForward
from armor_ros.training.packing import Branch, PackedSample, pack, tree_mask


def make_samples(model: ArmorModel) -> list[PackedSample]:
    """Two rounds each; the second sample is sparse: it has nothing to say."""
    prompts = model.prompts
    samples = []
    for index, clip in enumerate(make_clips(model)):
        branches = []
        for turn, previous in enumerate((PreviousAnswer(), PreviousAnswer(True, 'it fell'))):
            suffix = tuple(prompts.detection_suffix(previous))
            branches.append(Branch(suffix, failed=bool(index % 2), round=turn))
            if index != 1:
                answer = tuple(prompts.explanation_tokens('the can slipped away'[: 9 + 5 * index]))
                suffix = tuple(prompts.reasoning_suffix(previous))
                branches.append(Branch(suffix, answer=answer, round=turn))
        samples.append(PackedSample(clip, tuple(branches)))
    return samples


def test_packed_losses_and_gradients_are_those_of_separate_sequences(model: ArmorModel) -> None:
    samples = make_samples(model)
    forward = PackedForward(model)
    packed = forward(pack(samples))
    (packed.detection.sum() + packed.language.sum()).backward()
    gradients = {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }
    model.zero_grad()
    detection, language, tokens = [], [], []
    for sample in samples:
        for branch in sample.branches:
            one = forward(pack([PackedSample(sample.clip, (branch,))]))
            (one.detection.sum() + one.language.sum()).backward()
            detection += one.detection.tolist()
            language += one.language.tolist()
            tokens += one.tokens.tolist()
    torch.testing.assert_close(packed.detection, torch.tensor(detection), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(packed.language, torch.tensor(language), rtol=1e-5, atol=1e-5)
    assert packed.tokens.tolist() == tokens == [len(b.answer) for s in samples for b in s.branches
                                                if b.answer]  # fmt: skip
    assert len(gradients) > 50
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            scale = float(parameter.grad.abs().max()) + 1e-6
            error = float((parameter.grad - gradients[name]).abs().max()) / scale
            assert error < 1e-3, name


def test_a_packed_detection_is_that_of_the_model(model: ArmorModel) -> None:
    samples = make_samples(model)
    logits = iter(PackedForward(model)(pack(samples)).failure_logit.tolist())
    for sample in samples:
        prefix = model.prefill(sample.clip.prefix, sample.clip.vision)
        for branch in sample.branches:
            if branch.failed is None:
                continue
            ids = torch.tensor(branch.suffix)[None]
            valid = torch.ones(1, prefix.length + ids.shape[1], dtype=torch.bool)
            positions = torch.arange(ids.shape[1]) + prefix.next_position
            output = model.decode(
                model.embed(ids),
                positions.expand(3, 1, -1),
                causal_mask(valid, ids.shape[1]),
                prefix.fork(1),
            )
            features = torch.cat([prefix.features, output.features], dim=1)
            failure, success = model.detection_logits(features, valid)[0].tolist()
            assert next(logits) == pytest.approx(failure - success, abs=1e-5)


def test_a_batch_without_answers_leaves_the_late_layers_alone(model: ArmorModel) -> None:
    sparse = make_samples(model)[1]
    losses = PackedForward(model)(pack([sparse]))
    assert losses.language.shape == losses.tokens.shape == (0,)
    losses.detection.sum().backward()
    layers = model.backbone.model.language_model.layers
    assert layers[3].mlp.up_proj.weight.grad is not None
    assert layers[4].mlp.up_proj.weight.grad is None


def test_a_frozen_tower_and_kept_embeddings_give_the_same_losses(model: ArmorModel) -> None:
    samples = make_samples(model)
    whole = PackedForward(model)(pack(samples))
    frozen = PackedForward(model, freeze_vision=True)(pack(samples))
    frozen.detection.sum().backward()
    assert all(p.grad is None for p in model.backbone.model.visual.parameters())
    kept = [
        PackedSample(
            type(sample.clip)(
                sample.clip.prefix,
                sample.clip.vision,
                sample.clip.positions,
                sample.clip.next_position,
                model.encode_vision(sample.clip.vision).detach(),
            ),
            sample.branches,
        )
        for sample in samples
    ]
    cached = PackedForward(model)(pack(kept))
    for other in (frozen, cached):
        torch.testing.assert_close(other.detection, whole.detection, rtol=0, atol=2e-6)
        torch.testing.assert_close(other.language, whole.language, rtol=0, atol=2e-5)
    with pytest.raises(ArmorError, match='mixes'):
        pack([samples[0], kept[1]])


def test_tree_mask() -> None:
    seen = tree_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_branches_and_batches_are_checked() -> None:
    with pytest.raises(ArmorError, match='either'):
        Branch((1,))
    with pytest.raises(ArmorError, match='either'):
        Branch((1,), failed=True, answer=(2,))
    with pytest.raises(ArmorError, match='at least one token'):
        Branch((), failed=True)
    for asked in ((True,), (False, False)):
        with pytest.raises(ArmorError, match='whether it is asked for'):
            Branch((1,), answer=(2, 3), asked=asked)
    with pytest.raises(ArmorError, match='at least one sample'):
        pack([])


def test_half_precision_gives_nearly_the_same_gradients(model: ArmorModel) -> None:
    found = []
    for half in (False, True):
        model.zero_grad()
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=half):
            losses = PackedForward(model)(pack(make_samples(model)))
        (losses.detection.sum() + losses.language.sum()).backward()
        found.append(
            {
                name: weight.grad.clone()
                for name, weight in model.named_parameters()
                if weight.grad is not None
            }
        )
    whole, half_precise = found
    assert whole.keys() == half_precise.keys()
    apart = sum(float((whole[name] - half_precise[name]).square().sum()) for name in whole)
    size = sum(float(whole[name].square().sum()) for name in whole)
    assert 0 < apart / size < 0.05**2


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_attention_to_learn_from_is_torchs(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 7, 8).to(dtype).requires_grad_() for _ in range(3)]
    mask = torch.ones(2, 1, 7, 7, dtype=torch.bool).tril()
    found = []
    for attend in (attend_and_learn, _torchs):
        answer = attend(*inputs, mask, 0.3)
        found.append([answer, *torch.autograd.grad(answer.square().sum(), inputs)])
    close = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found[0], found[1], rtol=close, atol=close)


def _torchs(queries, keys, values, mask, scaling):  # type: ignore[no-untyped-def]
    return functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, scale=scaling
    )


def test_attention_is_our_own_only_while_we_learn(model: ArmorModel) -> None:
    config = model.backbone.model.language_model.config
    before = config._attn_implementation
    PackedForward(model)(pack(make_samples(model)))
    assert config._attn_implementation == before
