# SPDX-License-Identifier: Apache-2.0
"""A Diagnoser answers with the weights that its model has when it is asked."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.episodes.episode import Episode
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.model import products
from armor_ros.model.armor import ArmorModel

SETTINGS = RefinementSettings(rounds=2, trajectories=2, max_new_tokens=6, tolerance=0.0)


def train(model: ArmorModel) -> None:
    """Take one step of training with all weights; the model stays in training mode."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    features = torch.randn(1, 5, model.backbone.config.text_config.hidden_size)
    logits = model.detection_logits(features, torch.ones(1, 5, dtype=torch.bool))
    texts = model.language_logits(torch.randn(3, features.shape[2]))
    (logits[0, 0] + texts.square().mean() + model.embed(torch.arange(5)).square().sum()).backward()
    optimizer.step()


@pytest.mark.parametrize('smallest', [1 << 16, 1])
def test_after_a_step_of_training(
    model: ArmorModel,
    make_episode: Callable[..., Episode],
    monkeypatch: pytest.MonkeyPatch,
    smallest: int,
) -> None:
    monkeypatch.setattr(products, '_SMALLEST', smallest)
    torch.manual_seed(0)
    episode, trained = make_episode(), copy.deepcopy(model)
    diagnoser = Diagnoser(trained)
    before = diagnoser.diagnose(episode, SETTINGS)
    train(trained)
    after = diagnoser.diagnose(episode, SETTINGS)
    assert after == Diagnoser(trained).diagnose(episode, SETTINGS)
    assert after == diagnoser.diagnose(episode, SETTINGS), 'nothing is dropped out'
    assert abs(after.failure_probability - before.failure_probability) > 1e-3
