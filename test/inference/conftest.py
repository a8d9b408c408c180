# SPDX-License-Identifier: Apache-2.0
"""A small model and episodes of drawn frames for the tests of inference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from armor_ros.episodes.episode import CameraClip, CameraEvidence, Episode
from armor_ros.episodes.task import TaskEvent, TaskPhase
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.model.tiny import TinySize, make_tiny_checkpoint

STEP_NS = 200_000_000
EpisodeMaker = Callable[..., Episode]


@pytest.fixture(scope='session')
def lively_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint whose answers depend visibly on its prompts."""
    folder = tmp_path_factory.mktemp('checkpoints') / 'lively'
    size = TinySize(hidden_size=64, layers=6, vision_hidden_size=32, vision_layers=2, spread=0.2)
    return make_tiny_checkpoint(folder, seed=2, size=size)


@pytest.fixture(scope='session')
def model(lively_path: Path) -> ArmorModel:
    """
    Return a model whose detector is decided and which ends its texts now and then.

    Tests must not change it.
    """
    model = load_checkpoint(lively_path)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        model.head.cls_token.normal_(generator=generator)
        for name, weight in model.head.named_parameters():
            if name.endswith('weight') and weight.ndim == 2:
                weight.normal_(std=0.3, generator=generator)
        model.backbone.lm_head.weight[model.prompts.end_id] *= 3.0
    return model


@pytest.fixture(scope='session')
def make_episode() -> EpisodeMaker:
    """Return a maker of episodes of random frames."""

    def make(
        *,
        count: int = 4,
        size: int = 56,
        cameras: tuple[str, ...] = ('front',),
        instruction: str = 'pick up the red cube',
        seed: int = 0,
    ) -> Episode:
        generator = np.random.default_rng(seed)
        stamps = np.arange(count, dtype=np.int64) * STEP_NS
        end = count * STEP_NS
        clips = tuple(
            CameraClip(
                CameraEvidence(name, f'/{name}', count, count, 0, 0, end, STEP_NS),
                generator.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
                stamps,
            )
            for name in cameras
        )
        task = TaskEvent(TaskPhase.END, 'task-1', end, instruction=instruction)
        return Episode(task, 0, end, 0, end, clips, truncated=False, fps=5.0)

    return make
