# SPDX-License-Identifier: Apache-2.0
"""Steps of fixed shapes give the same texts; on a GPU they are replayed, elsewhere run."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from armor_ros.episodes.diagnosis import InputMode, RefinementSettings
from armor_ros.episodes.episode import Episode
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.inference.engine import Engine
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.inference.static_steps import StaticSteps, Work, capture_graph
from armor_ros.inference.static_vision import StaticVision
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.model.preprocessing import VisionInput
from armor_ros.model.vision_tower import VisionTower

SETTINGS = RefinementSettings(rounds=3, trajectories=3, max_new_tokens=12, tolerance=0.0)


def with_steps(monkeypatch: pytest.MonkeyPatch, capture: Callable[[Work], Work]) -> None:
    """Let all prefixes made from now on capture their steps."""
    plain = Engine.new_prefix

    def new_prefix(engine: Engine) -> SharedPrefix:
        prefix = plain(engine)
        prefix.steps = StaticSteps(prefix, capture)
        return prefix

    monkeypatch.setattr(Engine, 'new_prefix', new_prefix)


@pytest.mark.parametrize('seed', range(4))
def test_the_same_texts(
    model: ArmorModel,
    make_episode: Callable[..., Episode],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    episode = make_episode(seed=seed)
    plain = Diagnoser(model).diagnose(episode, SETTINGS)
    captured: list[Work] = []
    runs: list[int] = []

    def capture(work: Work) -> Work:
        captured.append(work)
        output = work()

        def replay() -> torch.Tensor:
            runs.append(1)
            # as a graph does: into the memory of the one before
            return output.copy_(work())

        return replay

    # Memory that was never written may hold anything.
    monkeypatch.setattr(
        torch.Tensor,
        'new_empty',
        lambda self, shape: torch.full(shape, torch.nan, dtype=self.dtype),
    )
    with_steps(monkeypatch, capture)
    static = Diagnoser(model, drafts=False).diagnose(episode, SETTINGS)
    assert 0 < len(captured) <= 6
    assert len(runs) > 15
    assert [r.explanation for r in static.trace] == [r.explanation for r in plain.trace]
    assert static.failure_probability == pytest.approx(plain.failure_probability, abs=1e-6)


def test_what_cannot_be_captured_is_run_plainly(
    model: ArmorModel,
    make_episode: Callable[..., Episode],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    episode = make_episode()
    plain = Diagnoser(model).diagnose(episode, SETTINGS)
    calls: list[Work] = []

    def refuse(work: Work) -> Work:
        calls.append(work)
        raise RuntimeError('operation not permitted when stream is capturing')

    with_steps(monkeypatch, refuse)
    with caplog.at_level(logging.WARNING):
        assert Diagnoser(model).diagnose(episode, SETTINGS) == plain
    assert len(calls) == 1
    assert [r for r in caplog.messages if 'cannot be captured' in r]


def with_vision(monkeypatch: pytest.MonkeyPatch, capture: Callable[[Work], Work]) -> None:
    """Let all engines made from now on capture their vision tower."""
    plain = Engine.__init__

    def init(engine: Engine, model: ArmorModel) -> None:
        plain(engine, model)
        engine.vision = StaticVision(VisionTower(model.backbone.model.visual), capture)

    monkeypatch.setattr(Engine, '__init__', init)


@pytest.mark.parametrize('mode', list(InputMode))
def test_the_same_embeddings(
    model: ArmorModel,
    make_episode: Callable[..., Episode],
    monkeypatch: pytest.MonkeyPatch,
    mode: InputMode,
) -> None:
    settings = dataclasses.replace(SETTINGS, input_mode=mode)
    episodes = [make_episode(count=9, seed=seed, cameras=('front', 'wrist')) for seed in (1, 2)]
    plain = [Diagnoser(model).diagnose(episode, settings) for episode in episodes]
    captured: list[Work] = []
    outputs: list[torch.Tensor] = []

    def capture(work: Work) -> Work:
        captured.append(work)
        output = work()
        outputs.append(output)
        # Like a graph, it writes each result where the last one was.
        return lambda: output.copy_(work())

    with_vision(monkeypatch, capture)
    monkeypatch.setattr(ArmorModel, 'encode_vision', None)
    diagnoser = Diagnoser(model)
    for episode, theirs in zip(episodes, plain, strict=True):
        ours = diagnoser.diagnose(episode, settings)
        assert [r.explanation for r in ours.trace] == [r.explanation for r in theirs.trace]
        assert ours.failure_probability == pytest.approx(theirs.failure_probability, abs=1e-5)
    assert len(captured) == 1, 'once for each grid'


def test_many_grids_are_not_all_captured(model: ArmorModel) -> None:
    captured: list[Work] = []

    def capture(work: Work) -> Work:
        captured.append(work)
        return work

    tower = VisionTower(model.backbone.model.visual)
    static = StaticVision(tower, capture)
    with torch.inference_mode():
        for steps in range(1, 12):
            patches = torch.full((steps * 4, 1176), 0.1 * steps)
            vision = VisionInput(patches, (steps, 2, 2), True, 0.4)
            assert torch.equal(static.encode(vision), tower.encode(patches, vision.grid))
    assert len(captured) == 8


def test_a_vision_tower_that_cannot_be_captured(
    model: ArmorModel,
    make_episode: Callable[..., Episode],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    episode = make_episode(count=12)
    plain = Diagnoser(model).diagnose(episode, SETTINGS)

    def refuse(work: Work) -> Work:
        raise RuntimeError('operation not permitted when stream is capturing')

    with_vision(monkeypatch, refuse)
    with caplog.at_level(logging.WARNING):
        ours = Diagnoser(model).diagnose(episode, SETTINGS)
    assert [r.explanation for r in ours.trace] == [r.explanation for r in plain.trace]
    assert len([r for r in caplog.messages if 'kernel by kernel' in r]) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_graphs_on_a_gpu(model: ArmorModel, make_episode: Callable[..., Episode]) -> None:
    buffer = torch.zeros(3, device='cuda')
    replay = capture_graph(lambda: buffer * 2)
    buffer.fill_(5.0)
    assert replay().tolist() == [10.0] * 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_answers_on_a_gpu(
    lively_path: Path, make_episode: Callable[..., Episode], caplog: pytest.LogCaptureFixture
) -> None:
    episode = make_episode(count=9)
    theirs = Diagnoser(load_checkpoint(lively_path, device='cpu')).diagnose(episode, SETTINGS)
    with caplog.at_level(logging.WARNING):
        ours = Diagnoser(load_checkpoint(lively_path, device='cuda')).diagnose(episode, SETTINGS)
    assert not [message for message in caplog.messages if 'cannot be captured' in message]
    first, other = ours.trace[0], theirs.trace[0]
    assert first.failure_probability == pytest.approx(other.failure_probability, abs=1e-3)
    assert first.explanation[:10] == other.explanation[:10]
