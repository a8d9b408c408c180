# SPDX-License-Identifier: Apache-2.0
"""The model's parts fit: prefixes, forks, chunks, and what the detection depends on."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from armor_ros.errors import ArmorError
from armor_ros.model import armor
from armor_ros.model.armor import ArmorModel, DecoderOutput, Prefix
from armor_ros.model.batch import causal_mask, left_pad
from armor_ros.model.checkpoint import with_config
from armor_ros.model.config import HeadConfig, PositionConvention
from armor_ros.model.preprocessing import VisionInput, clip_input, image_input
from armor_ros.model.tiny import TinySize, make_tiny_model

INSTRUCTION = 'pick up the red cube'


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.inference_mode():
        yield


def make_clip(model: ArmorModel, seed: int = 0, count: int = 7) -> VisionInput:
    frames = np.random.default_rng(seed).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)
    return clip_input(frames, 5.0, 112, model.geometry)


def prefill(model: ArmorModel, vision: VisionInput) -> Prefix:
    return model.prefill(model.prompts.prefix(INSTRUCTION), vision)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Check equality up to the rounding of float32 sums."""
    scale = theirs.abs().max().item()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5 * scale)


def continue_prefix(model: ArmorModel, prefix: Prefix, *texts: str) -> DecoderOutput:
    suffixes = [model.prompts.encode_text(text) for text in texts]
    batch = left_pad(suffixes, prefix.next_position, 0, model.device)
    seen = torch.ones(len(texts), prefix.length, dtype=torch.bool)
    mask = causal_mask(torch.cat([seen, batch.valid], dim=1), batch.ids.shape[1])
    cache = prefix.fork(len(texts))
    return model.decode(model.embed(batch.ids), batch.positions, mask, cache)


def test_shapes_of_a_prefix(tiny_model: ArmorModel) -> None:
    prefix = prefill(tiny_model, make_clip(tiny_model))
    tokens = tiny_model.prompts.prefix(INSTRUCTION)
    assert prefix.length == len(tokens.before) + 4 * 16 + len(tokens.after)
    assert len(prefix.keys_values) == 6
    assert prefix.keys_values[0][0].shape == (1, 2, prefix.length, 32)
    assert prefix.features.shape == (1, prefix.length, 128)
    # 4 steps of 0.4 s, a side of 4 tokens: positions 0 to 3.
    assert prefix.next_position == len(tokens.before) + 4 + len(tokens.after)


def test_prefill_in_chunks_equals_one_pass(
    tiny_model: ArmorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prefill(tiny_model, make_clip(tiny_model))
    monkeypatch.setattr(armor, 'PREFILL_CHUNK', 10)
    chunked = prefill(tiny_model, make_clip(tiny_model))
    assert_close(chunked.features, whole.features)
    for ours, theirs in zip(chunked.keys_values, whole.keys_values, strict=True):
        assert_close(torch.stack(ours), torch.stack(theirs))


def test_a_continued_prefix_equals_one_pass(tiny_model: ArmorModel) -> None:
    vision, text = make_clip(tiny_model), ' It fell.'
    continued = continue_prefix(tiny_model, prefill(tiny_model, vision), text)
    tokens = tiny_model.prompts.prefix(INSTRUCTION)
    longer = dataclasses.replace(
        tokens, after=(*tokens.after, *tiny_model.prompts.encode_text(text))
    )
    whole = tiny_model.prefill(longer, vision)
    count = continued.features.shape[1]
    assert_close(continued.features, whole.features[:, -count:])


def test_padding_and_neighbours_change_nothing(tiny_model: ArmorModel) -> None:
    prefix = prefill(tiny_model, make_clip(tiny_model))
    alone = continue_prefix(tiny_model, prefix, ' It fell.')
    together = continue_prefix(tiny_model, prefix, ' The robot dropped the object.', ' It fell.')
    count = alone.hidden.shape[1]
    assert_close(together.hidden[1:, -count:], alone.hidden)


def test_forks_do_not_touch_the_prefix_or_each_other(tiny_model: ArmorModel) -> None:
    first, second = (prefill(tiny_model, make_clip(tiny_model, seed)) for seed in (1, 2))
    before = copy.deepcopy(first.keys_values)
    expected = continue_prefix(tiny_model, first, ' It fell.').hidden
    continue_prefix(tiny_model, second, ' The robot succeeded.')
    continue_prefix(tiny_model, first, ' one', ' two')
    assert torch.equal(continue_prefix(tiny_model, first, ' It fell.').hidden, expected)
    for ours, theirs in zip(before, first.keys_values, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_state_left_on_the_backbone_is_not_used(tiny_model: ArmorModel) -> None:
    prefix = prefill(tiny_model, make_clip(tiny_model))
    expected = continue_prefix(tiny_model, prefix, ' It fell.').hidden
    tiny_model.backbone.model.rope_deltas = torch.tensor([[-1000]])
    try:
        assert torch.equal(continue_prefix(tiny_model, prefix, ' It fell.').hidden, expected)
    finally:
        tiny_model.backbone.model.rope_deltas = None


def test_detection_rests_on_the_first_four_layers() -> None:
    model = make_tiny_model(seed=1, size=TinySize(spread=0.2))
    vision = make_clip(model)
    before = prefill(model, vision)
    for name in ('layers.4.', 'layers.5.', '.norm.'):
        for key, weight in model.backbone.model.language_model.named_parameters():
            if name in f'.{key}':
                weight.mul_(1.5)
    assert torch.equal(prefill(model, vision).features, before.features)
    model.backbone.model.language_model.layers[3].mlp.down_proj.weight.mul_(1.5)
    assert not torch.allclose(prefill(model, vision).features, before.features)


def test_weights_without_a_spread_keep_sizes() -> None:
    size = TinySize(spread=None)
    model, again = (make_tiny_model(seed=3, size=size) for _ in range(2))
    gains: dict[str, list[float]] = {}
    for name, weight in model.backbone.model.language_model.named_parameters():
        if weight.ndim > 1:
            gains.setdefault(name.split('.')[-2], []).append(float(weight.square().sum(1).mean()))
    for name, found in gains.items():
        expected = {'o_proj': 0.09, 'down_proj': 0.09, 'embed_tokens': 0.01 * size.hidden_size}
        assert found == pytest.approx([expected.get(name, 1.0)] * len(found), rel=0.1)
    assert float(model.head.cls_token.std()) > 0.5
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_features_are_means_of_transformers_hidden_states(tiny_model: ArmorModel) -> None:
    prompts, vision = tiny_model.prompts, make_clip(tiny_model)
    tokens = prompts.prefix(INSTRUCTION)
    ids = [*tokens.before, *[prompts.video_id] * 64, *tokens.after]
    output = tiny_model.backbone(
        input_ids=torch.tensor([ids]),
        pixel_values_videos=vision.patches,
        video_grid_thw=torch.tensor([vision.grid]),
        position_ids=tiny_model.prefix_positions(tokens, vision)[0][:, None],
        output_hidden_states=True,
    )
    expected = torch.stack(output.hidden_states[1:5]).mean(0)
    ours = prefill(tiny_model, vision)
    assert_close(ours.features, expected)


def test_the_model_sees_the_clip_and_its_order(tiny_model: ArmorModel) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3), dtype=np.uint8)
    last = []
    for shown in (frames, frames[::-1].copy(), 255 - frames):
        prefix = prefill(tiny_model, clip_input(shown, 5.0, 112, tiny_model.geometry))
        last.append(prefix.features[:, -1])
    assert not torch.allclose(last[0], last[1], atol=1e-3)
    assert not torch.allclose(last[0], last[2], atol=1e-3)


def test_an_image_uses_the_image_path(tiny_model: ArmorModel) -> None:
    image = np.random.default_rng(0).integers(0, 256, (84, 112, 3), dtype=np.uint8)
    vision = image_input(image, tiny_model.geometry)
    tokens = tiny_model.prompts.prefix(INSTRUCTION, ('front',))
    positions, following = tiny_model.prefix_positions(tokens, vision)
    assert positions.shape == (3, len(tokens.before) + 12 + len(tokens.after))
    assert following == len(tokens.before) + 4 + len(tokens.after)


def test_the_convention_matters(tiny_model: ArmorModel) -> None:
    vision = make_clip(tiny_model, count=14)
    ends = {}
    for convention in PositionConvention:
        config = dataclasses.replace(tiny_model.config, positions=convention)
        prefix = prefill(with_config(tiny_model, config), vision)
        ends[convention] = prefix.features[0, -1]
    values = list(ends.values())
    assert not torch.allclose(values[0], values[1], atol=1e-4)
    assert not torch.allclose(values[0], values[2], atol=1e-4)


def test_a_head_that_reaches_the_last_layer_is_refused(tiny_model: ArmorModel) -> None:
    config = dataclasses.replace(tiny_model.config, head=HeadConfig(pooled_layers=(1, 6)))
    with pytest.raises(ArmorError, match='reaches layer 6'):
        with_config(tiny_model, config)
