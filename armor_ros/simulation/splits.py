# SPDX-License-Identifier: Apache-2.0
"""
The plan of a data set: which pairs of episodes its splits consist of, from the recipe alone.

A pair is a success and a failure of one task from one scene. Neither the first frame, nor the
instruction, nor the length of the clip then tells which is which. All shares are met by counting,
not by chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures import FAILURES
from armor_ros.simulation.recipe import Recipe

SUCCESS, FAILURE = 'success', 'failure'

# A failure of these kinds is a success under another instruction.
_TURNING = frozenset({EventKind.WRONG_OBJECT, EventKind.WRONG_DESTINATION})


@dataclass(frozen=True, slots=True)
class Pair:
    """
    A success and a failure to be found in one scene.

    ``keeps`` tells which of the two the split takes: both, or one where the recipe wants more of
    one kind. ``mode`` is the one to inject first; where ``twins`` are wanted, one whose failure
    is a success under another instruction, if the task has any. ``perturbed`` asks for a success
    in spite of an injection. ``lies`` are those of the two whose label is wrong.
    """

    split: str
    number: int
    task: str
    mode: str
    keeps: tuple[str, ...]
    perturbed: bool
    dense: bool
    twins: bool
    lies: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the pair, which is also that of its record."""
        return f'{self.split}-{self.number:06d}'


def stable_seed(*parts: object) -> int:
    """Return a number below 2**48 that is a pure function of the parts' texts."""
    text = '/'.join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), 'big')


def plan_pairs(recipe: Recipe) -> tuple[Pair, ...]:
    """Return the pairs of all splits of a recipe, in their order."""
    return tuple(pair for split in recipe.splits for pair in _plan_split(recipe, split))


def shard_of(pairs: Sequence[Pair], index: int, count: int) -> tuple[Pair, ...]:
    """Return shard ``index`` (from 1) of ``count``: together the shards are all pairs, once."""
    return tuple(pairs[index - 1 :: count])


def _plan_split(recipe: Recipe, name: str) -> list[Pair]:
    split = recipe.splits[name]
    successes = round(split.episodes * split.success)
    failures = split.episodes - successes
    count = max(successes, failures)
    rng = np.random.default_rng(stable_seed(recipe.seed, name, 'plan'))
    tasks = apportion(count, _shuffled(recipe.tasks_of(name), rng))
    groups = [np.flatnonzero([task == own for own in tasks]) for task in dict.fromkeys(tasks)]
    for group in groups:
        # a draw that data sets of earlier versions had: theirs are to be made again as they are
        rng.permutation(group)

    def mark(total: int) -> set[int]:
        """Choose ``total`` of all pairs, from each task its part."""
        order = [int(index) for group in groups for index in rng.permutation(group)]
        return {order[slot] for slot in spread(total, count)}

    kept = {SUCCESS: mark(successes), FAILURE: mark(failures)}
    perturbed = mark(round(count * split.perturbed))
    dense = mark(round(count * split.dense))
    twins = mark(round(count * split.twins))
    modes: dict[int, str] = {}
    for group in groups:
        modes |= _modes(recipe.modes_of(name, tasks[group[0]]), group, twins, rng)
    sparse = [index for index in rng.permutation(count).tolist() if index not in dense]
    noise = {SUCCESS: split.noise.false_failure, FAILURE: split.noise.false_success}
    lies = {
        kind: _first([index for index in sparse if index in kept[kind]], share)
        for kind, share in noise.items()
    }
    return [
        Pair(
            split=name,
            number=index,
            task=tasks[index],
            mode=modes[index],
            keeps=tuple(kind for kind in kept if index in kept[kind]),
            perturbed=index in perturbed,
            dense=index in dense,
            twins=index in twins,
            lies=tuple(kind for kind in lies if index in lies[kind]),
        )
        for index in range(count)
    ]


def _modes(
    weights: dict[str, float],
    pairs: npt.NDArray[np.int64],
    twins: set[int],
    rng: np.random.Generator,
) -> dict[int, str]:
    """Return the failure to inject in each of a task's ``pairs``; one that turns for ``twins``."""
    turning = {mode: weights[mode] for mode in weights if FAILURES[mode].kinds & _TURNING}
    modes: dict[int, str] = {}
    for wants_twin, own in ((True, turning or weights), (False, weights)):
        order = rng.permutation(pairs).tolist()
        members = [index for index in order if (index in twins) == wants_twin]
        chosen = apportion(len(members), _shuffled(own, rng))
        modes.update(zip(members, chosen, strict=True))
    return modes


def _shuffled(weights: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Return weights in random order: small splits would have the same few in every task."""
    return {key: weights[key] for key in rng.permutation(list(weights)).tolist()}


def apportion(count: int, weights: dict[str, float]) -> list[str]:
    """
    Return ``count`` names in the proportion of their weights, interleaved.

    Each name comes when it lags furthest behind its share, so that any beginning of the list
    keeps the proportion too.
    """
    total = sum(weights.values())
    given = dict.fromkeys(weights, 0)
    names = []
    for place in range(1, count + 1):
        name = max(weights, key=lambda key: weights[key] / total * place - given[key])
        given[name] += 1
        names.append(name)
    return names


def spread(chosen: int, count: int) -> list[int]:
    """Return ``chosen`` of ``count`` places, evenly spread."""
    return [
        place for place in range(count) if (place + 1) * chosen // count > place * chosen // count
    ]


def _first(indices: list[int], share: float) -> set[int]:
    return set(indices[: round(len(indices) * share)])
