# SPDX-License-Identifier: Apache-2.0
"""Deadlines, and memory that does not suffice: there is an answer, and it says what it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn

from armor_ros.episodes.diagnosis import RefinementSettings, ReturnPolicy, Round
from armor_ros.episodes.episode import Episode
from armor_ros.errors import ArmorError
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.inference.errors import Canceled, ModelError
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.model import products
from armor_ros.model.armor import ArmorModel
from armor_ros.model.decoder import Decoder

EpisodeMaker = Callable[..., Episode]
SLOW = RefinementSettings(rounds=4, trajectories=2, max_new_tokens=8, tolerance=0.0, seed=3)


class Clock:
    """Seconds that pass with the forwards of the decoder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        late = Decoder.late_layers

        def tick(decoder: Decoder, run: object, cache: object) -> torch.Tensor:
            self.now += 1.0
            return late(decoder, run, cache)  # type: ignore[arg-type]

        monkeypatch.setattr(Decoder, 'late_layers', tick)

    def __call__(self) -> float:
        return self.now


def test_a_late_round_is_left_out(
    model: ArmorModel, make_episode: EpisodeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    episode = make_episode()
    whole = Diagnoser(model, drafts=False).diagnose(episode, SLOW)
    assert whole.rounds > 2
    assert not whole.deadline_reached
    diagnoser = Diagnoser(model, clock=Clock(monkeypatch), drafts=False)
    # One chunk of the clip, the question, eight steps of round 0, eight of round 1, some of 2.
    cut = diagnoser.diagnose(episode, SLOW, deadline=21.0)
    assert cut.deadline_reached
    assert cut.trace == whole.trace[:4]
    assert cut.trace[cut.selected].round == 1


def test_the_first_round_is_cut(
    model: ArmorModel, make_episode: EpisodeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    episode = make_episode()
    whole = Diagnoser(model).diagnose(episode, SLOW)
    heard: list[tuple[Round, ...]] = []
    diagnoser = Diagnoser(model, clock=Clock(monkeypatch))
    cut = diagnoser.diagnose(episode, SLOW, deadline=6.0, on_round=heard.append)
    assert cut.deadline_reached
    assert cut.rounds == 1
    assert heard == [cut.trace]
    for ours, theirs in zip(cut.trace, whole.trace, strict=False):
        assert ours.failure_probability == theirs.failure_probability
        assert theirs.explanation.startswith(ours.explanation)
        assert ours.explanation
    assert len(cut.trace[1].explanation) < len(whole.trace[1].explanation)


def test_no_time_at_all_is_a_detection(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    episode = make_episode()
    whole = Diagnoser(model).diagnose(episode, SLOW)
    cut = Diagnoser(model).diagnose(episode, SLOW, deadline=0.0)
    assert cut.deadline_reached
    assert cut.failure_probability == whole.trace[0].failure_probability
    assert cut.explanation == ''
    assert cut.combined_entropy == cut.detection_entropy


def test_the_best_round_so_far(
    model: ArmorModel, make_episode: EpisodeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(SLOW, return_policy=ReturnPolicy.BEST)
    diagnoser = Diagnoser(model, clock=Clock(monkeypatch), drafts=False)
    cut = diagnoser.diagnose(make_episode(), settings, deadline=21.0)
    assert cut.deadline_reached
    assert cut.combined_entropy == min(answer.combined_entropy for answer in cut.trace)


@pytest.mark.parametrize('usual', [(), ('It fell down.', 'x' * 40)])
def test_a_canceled_diagnosis_takes_no_further_step(
    monkeypatch: pytest.MonkeyPatch,
    model: ArmorModel,
    make_episode: EpisodeMaker,
    usual: tuple[str, ...],
) -> None:
    clock = Clock(monkeypatch)
    diagnoser, episode = Diagnoser(model, usual_explanations=usual), make_episode(count=20)
    settings = dataclasses.replace(SLOW, rounds=2)
    diagnoser.diagnose(episode, settings)
    steps = int(clock.now)
    assert steps > 10
    for after in range(steps):
        clock.now = 0.0
        with pytest.raises(Canceled):
            diagnoser.diagnose(episode, settings, should_stop=lambda: clock.now >= after)  # noqa: B023
        assert clock.now == after


def test_time_enough_changes_nothing(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    diagnoser = Diagnoser(model)
    episode = make_episode()
    timed = diagnoser.diagnose(episode, SLOW, deadline=1e6)
    assert timed == diagnoser.diagnose(episode, SLOW)


@pytest.mark.parametrize('deadline', [-1.0, float('nan'), float('inf')])
def test_a_deadline_that_is_none(
    model: ArmorModel, make_episode: EpisodeMaker, deadline: float
) -> None:
    with pytest.raises(ArmorError, match='deadline is'):
        Diagnoser(model).diagnose(make_episode(), SLOW, deadline=deadline)


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that bounds the slots of a cache; beyond them memory runs out."""
    from armor_ros.model.cache import KeyValueCache

    reserve = KeyValueCache.reserve

    def limit(slots: int) -> None:
        def bounded(self: KeyValueCache, wanted: int, *, exactly: bool = False) -> None:
            if wanted > slots:
                # As torch itself says it, of memory that no machine has.
                torch.empty(1 << 60)
            reserve(self, wanted, exactly=exactly)

        monkeypatch.setattr(KeyValueCache, 'reserve', bounded)

    return limit


def needed(model: ArmorModel, episode: Episode, settings: RefinementSettings) -> int:
    """Return the slots of a diagnosis."""
    return Diagnoser(model).prefill(episode, settings, lambda: False).cache.capacity


def test_too_little_memory_for_all_trajectories(
    model: ArmorModel, make_episode: EpisodeMaker, scarce: Callable[[int], None]
) -> None:
    settings = RefinementSettings(rounds=2, trajectories=4, max_new_tokens=8, tolerance=0.0)
    single = RefinementSettings(rounds=2, trajectories=1, max_new_tokens=8, tolerance=0.0)
    episode = make_episode()
    expected = Diagnoser(model).diagnose(episode, single)
    diagnoser = Diagnoser(model)
    stream = diagnoser.open_stream()
    for stamp, frame in zip(range(4), episode.clip().frames, strict=True):
        stream.push(stamp, frame)
    stream.step()
    scarce(needed(model, episode, settings) - 1)
    diagnosis = diagnoser.diagnose(episode, settings, stream=stream)
    # What had been streamed was given up, so that all is encoded again.
    assert diagnosis == dataclasses.replace(expected, late_frames=4)
    assert diagnosis.settings.trajectories == 1
    assert stream.nbytes == 0


def test_too_little_memory_at_all(
    model: ArmorModel, make_episode: EpisodeMaker, scarce: Callable[[int], None]
) -> None:
    scarce(10)
    large = nn.Linear(512, 256)
    with torch.no_grad():
        products.linear(large, torch.ones(1, 512))
    with pytest.raises(ModelError, match='memory of cpu does not suffice'):
        Diagnoser(model).diagnose(make_episode(), SLOW)
    assert products.copied_bytes() == 0


def test_other_errors_are_not_taken_for_it(
    model: ArmorModel, make_episode: EpisodeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError('something else')

    monkeypatch.setattr(SharedPrefix, 'append', fail)
    with pytest.raises(RuntimeError, match='something else'):
        Diagnoser(model).diagnose(make_episode(), SLOW)
