# SPDX-License-Identifier: Apache-2.0
"""Finding pairs: a success and a failure from one scene, of nearly the same length."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
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
from armor_ros.simulation.weakening import weaken

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
    weakened one is tried. Depends on the recipe and the pair alone.
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
    successes: list[Take] = []
    failures: list[Take] = []
    for candidate in spoiled[:_MODES_TRIED]:
        take = _run(recipe, candidate, tried)
        if take.cause is None:
            successes.append(take)
        elif recipe.takes_failure(pair.split, take.cause):
            failures.append(take)
            break
    if not failures:
        return None
    if not successes and pair.perturbed:
        successes += _weakened(recipe, spoiled[::-1], seed, tried)
    if not successes:
        take = _run(recipe, undisturbed(setup), tried)
        if take.cause is not None:
            return None
        successes.append(take)
    success, failure = successes[0], failures[0]
    if abs(failure.seconds - success.seconds) > recipe.length_difference:
        return None
    return {SUCCESS: success, FAILURE: failure}


def _weakened(
    recipe: Recipe, spoiled: Sequence[Setup], seed: int, tried: list[tuple[str, str]]
) -> list[Take]:
    """Return a success in spite of a weakened injection, if one of a few is a success."""
    rng = np.random.default_rng((seed, 4))
    setups = (weaken(setup, float(rng.uniform(*_WEAKNESS))) for setup in spoiled)
    left = (setup for setup in setups if setup is not None)
    for setup in itertools.islice(left, _WEAKENED_TRIED):
        take = _run(recipe, setup, tried)
        if take.cause is None:
            return [take]
    return []


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
