# SPDX-License-Identifier: Apache-2.0
"""Finding pairs: a success and a failure from one scene, of nearly the same length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from armor_ros.simulation.episode import SimulatedEpisode, draw_setup, run_episode
from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures import NOMINAL
from armor_ros.simulation.recipe import Recipe
from armor_ros.simulation.splits import FAILURE, SUCCESS, Pair, stable_seed
from armor_ros.simulation.tape import Tape

# In one scene: for a success in spite of an injection, or for a failure.
_MODES_TRIED = 3


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

    A perturbed attempt that succeeds all the same is taken for the success. Depends on the recipe
    and the pair alone.
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
    successes: list[Take] = []
    failures: list[Take] = []
    planned = pair.mode if 2 * attempt <= recipe.attempts else ''
    for mode in _modes(recipe, pair, planned, seed):
        if failures and (successes or not pair.perturbed):
            break
        take = _run(recipe, pair, seed, mode, tried)
        if take.cause is None:
            successes.append(take)
        elif recipe.takes_failure(pair.split, take.cause):
            failures.append(take)
    if not failures:
        return None
    if not successes:
        take = _run(recipe, pair, seed, NOMINAL, tried)
        if take.kind == FAILURE:
            return None
        successes.append(take)
    success = successes[0]
    failure = min(failures, key=lambda take: abs(take.seconds - success.seconds))
    if abs(failure.seconds - success.seconds) > recipe.length_difference:
        return None
    return {SUCCESS: success, FAILURE: failure}


def _modes(recipe: Recipe, pair: Pair, planned: str, seed: int) -> list[str]:
    """Return the modes to inject, the planned one first, the others at random by weight."""
    weights = recipe.modes_of(pair.split, pair.task)
    rng = np.random.default_rng((seed, 3))
    keys = {mode: rng.exponential() / weight for mode, weight in weights.items()}
    order = sorted(weights, key=lambda mode: (mode != planned, keys[mode]))
    return order[: _MODES_TRIED if pair.perturbed else 2]


def _run(recipe: Recipe, pair: Pair, seed: int, mode: str, tried: list[tuple[str, str]]) -> Take:
    domain = recipe.splits[pair.split].domain
    tape = Tape()
    episode = run_episode(draw_setup(seed, mode, pair.task, domain), tape, style=recipe.style)
    take = Take(episode, tape)
    tried.append((mode, SUCCESS if take.cause is None else take.cause.value))
    return take
