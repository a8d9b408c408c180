# SPDX-License-Identifier: Apache-2.0
"""Finding pairs: a success and a failure from one scene, of nearly the same length."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from armor_ros.simulation.episode import (
    Setup,
    SimulatedEpisode,
    draw_setup,
    inject,
    run_episode,
    undisturbed,
)
from armor_ros.simulation.events import EventKind
from armor_ros.simulation.recipe import Recipe
from armor_ros.simulation.splits import FAILURE, SUCCESS, Pair, stable_seed
from armor_ros.simulation.tape import Tape
from armor_ros.simulation.weakening import recover, weaken

# In one scene: until one fails; and weakened, until one succeeds.
_MODES_TRIED = 2
_WEAKENED_TRIED = 2
_WEAKNESS = (0.25, 0.65)


@dataclass(frozen=True, slots=True)
class Take:
    """An episode and the tape of it."""

    episode: SimulatedEpisode
    tape: Tape

    @property
    def kind(self) -> str:
        """The outcome as it was judged: 'success' or 'failure'."""
        return SUCCESS if self.episode.judgement.success else FAILURE

    @property
    def cause(self) -> EventKind | None:
        """The kind of the event that caused the failure; None for a success."""
        cause = self.episode.judgement.cause
        return None if cause is None else cause.kind

    @property
    def seconds(self) -> float:
        """The time that the robot took for the task."""
        return (self.episode.end_ns - self.episode.start_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Found:
    """
    What a search found: two takes by their kind, or none of them after the last attempt.

    ``tried`` has every episode simulated for it as (injected mode, what came of it).
    """

    takes: dict[str, Take]
    tried: tuple[tuple[str, str], ...]


def find_pair(recipe: Recipe, pair: Pair) -> Found:
    """
    Simulate scene after scene until one gives a success and a failure of nearly one length.

    An injection that does no harm is taken for the success; where one is wanted and none came, a
    weakened one is tried, or the failed attempt once more by a robot that corrects itself.
    Depends on the recipe and the pair alone.
    """
    tried: list[tuple[str, str]] = []
    for attempt in range(recipe.attempts):
        takes = _try_scene(recipe, pair, attempt, tried)
        if takes is not None:
            return Found(takes, tuple(tried))
    return Found({}, tuple(tried))


def _try_scene(
    recipe: Recipe, pair: Pair, attempt: int, tried: list[tuple[str, str]]
) -> dict[str, Take] | None:
    seed = stable_seed(recipe.seed, pair.split, pair.number, attempt)
    planned = pair.mode if 2 * attempt <= recipe.attempts else ''
    order = _modes(recipe, pair, planned, seed)
    # Some modes need a certain scene; whatever else is tried is tried in the same.
    setup = draw_setup(seed, order[0], pair.task, recipe.splits[pair.split].domain)
    spoiled = [other for mode in order if (other := inject(setup, mode)) is not None]
    harmless: list[Take] = []
    failure: Take | None = None
    failed = setup
    for failed in spoiled[:_MODES_TRIED]:
        take = _run(recipe, failed, tried)
        if take.cause is None:
            harmless.append(take)
        elif recipe.takes_failure(pair.split, take.cause):
            failure = take
            break
    if failure is None:
        return None
    others = (_run(recipe, other, tried) for other in _may_succeed(pair, failed, spoiled, seed))
    for success in itertools.chain(harmless, others):
        longer = abs(failure.seconds - success.seconds)
        if success.cause is None and longer <= recipe.length_difference:
            return {SUCCESS: success, FAILURE: failure}
    return None


def _may_succeed(
    pair: Pair, failed: Setup, spoiled: Sequence[Setup], seed: int
) -> Iterator[Setup]:
    """
    Yield set-ups of the scene in which ``failed`` failed that probably succeed.

    Where the pair asks for it, those that are perturbed come first; else the ideal attempt does.
    """
    recovered = recover(failed)
    if pair.perturbed:
        if recovered is not None:
            yield recovered
        rng = np.random.default_rng((seed, 4))
        weak = (weaken(setup, float(rng.uniform(*_WEAKNESS))) for setup in reversed(spoiled))
        yield from itertools.islice((setup for setup in weak if setup), _WEAKENED_TRIED)
    yield undisturbed(failed)
    if recovered is not None and not pair.perturbed:
        yield recovered


def _modes(recipe: Recipe, pair: Pair, planned: str, seed: int) -> list[str]:
    """Return the modes to inject, the planned one first, the others at random by weight."""
    weights = recipe.modes_of(pair.split, pair.task)
    rng = np.random.default_rng((seed, 3))
    keys = {mode: rng.exponential() / weight for mode, weight in weights.items()}
    return sorted(weights, key=lambda mode: (mode != planned, keys[mode]))


def _run(recipe: Recipe, setup: Setup, tried: list[tuple[str, str]]) -> Take:
    tape = Tape()
    take = Take(run_episode(setup, tape, style=recipe.style), tape)
    tried.append((setup.mode, SUCCESS if take.cause is None else take.cause.value))
    return take
