# SPDX-License-Identifier: Apache-2.0
"""Quantized and half-precision models answer through the engine as through transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from simple_path import diagnose_simply

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.episodes.episode import Episode
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.model import products
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.model.tiny import TinySize, make_tiny_checkpoint

SETTINGS = RefinementSettings(rounds=2, trajectories=2, max_new_tokens=6, tolerance=0.0)


@pytest.fixture(scope='module')
def even_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint whose random weights do not blow rounding up."""
    folder = tmp_path_factory.mktemp('even') / 'tiny'
    size = TinySize(hidden_size=64, layers=6, vision_layers=2, spread=0.05)
    return make_tiny_checkpoint(folder, seed=1, size=size)


@pytest.mark.parametrize(
    ('quantization', 'dtype'),
    [('8bit', 'auto'), ('4bit', 'auto'), ('none', 'bfloat16'), ('none', 'float16')],
)
def test_answers(
    even_path: Path, make_episode: Callable[..., Episode], quantization: str, dtype: str
) -> None:
    if quantization != 'none':
        pytest.importorskip('bitsandbytes')
    model = load_checkpoint(even_path, quantization=quantization, dtype=dtype, device='cpu')
    episode = make_episode(count=5)
    ours = Diagnoser(model).diagnose(episode, SETTINGS)
    theirs = diagnose_simply(model, episode, SETTINGS)
    for one, other in zip(ours.trace, theirs.trace, strict=True):
        assert one.failure_probability == pytest.approx(other.failure_probability, abs=0.01)
        assert one.explanation_entropy == pytest.approx(other.explanation_entropy, abs=0.05)
    full = Diagnoser(load_checkpoint(even_path, device='cpu')).diagnose(
        episode, dataclasses.replace(SETTINGS, rounds=1)
    )
    assert ours.failure_probability == pytest.approx(full.failure_probability, abs=0.05)
    assert ours != full


def test_weights_in_another_layout(
    even_path: Path, make_episode: Callable[..., Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done for the large weights of real models changes no answer."""
    monkeypatch.setattr(products, '_SMALLEST', 1)
    products.forget_copies()
    model = load_checkpoint(even_path, device='cpu')
    episode = make_episode(count=5)
    ours = Diagnoser(model).diagnose(episode, SETTINGS)
    if torch.backends.mkldnn.is_available():
        layers = model.backbone.model.language_model.layers
        sizes = [w.nbytes for w in layers.parameters() if w.ndim > 1]
        assert products.copied_bytes() > sum(sizes)
    theirs = diagnose_simply(model, episode, SETTINGS)
    for one, other in zip(ours.trace, theirs.trace, strict=True):
        assert one.explanation == other.explanation
        assert one.failure_probability == pytest.approx(other.failure_probability, abs=1e-5)


def test_hidden_states_have_the_type_of_the_weights(
    even_path: Path, make_episode: Callable[..., Episode]
) -> None:
    model = load_checkpoint(even_path, dtype='bfloat16', device='cpu')
    prefix = Diagnoser(model).prefill(make_episode(), SETTINGS, lambda: False)
    assert prefix.cache.keys[0].dtype == torch.bfloat16
    assert prefix.summary.total.dtype == torch.float32
