# SPDX-License-Identifier: Apache-2.0
"""How long a phase is, which samples each of its steps takes, and at what learning rate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from armor_ros.training.order import global_batch, share_of
from armor_ros.training.phase_recipe import PhaseRecipe
from armor_ros.training.recipe import TrainingRecipe


@dataclass(frozen=True, slots=True)
class StepReport:
    """
    What an optimizer step did.

    ``step`` of ``steps`` in phase number ``phase``, both from 0; losses are means over the batch,
    0 where the phase has none; ``accuracy`` is that of all that the classification head was asked
    for (labels, and facts where a phase has these), before the step.
    """

    phase: int
    step: int
    steps: int
    learning_rate: float
    detection: float
    language: float
    auxiliary: float
    accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """
    One phase of a recipe on a data set, laid out in steps.

    ``chosen`` are the indices of the samples that it uses, ``dense`` says of each whether it is
    explained. ``rates`` are the learning rates of all but the vision tower, and of it.
    """

    index: int
    phase: PhaseRecipe
    recipe: TrainingRecipe
    chosen: tuple[int, ...]
    dense: tuple[bool, ...]

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return steps_of(self.phase, len(self.chosen), self.recipe.batch_size)

    @property
    def passes(self) -> int:
        """How often, at least in part, it goes through its samples."""
        return max(1, math.ceil(self.phase.epochs))

    @property
    def seed(self) -> str:
        """What everything random in the phase derives from."""
        return f'{self.recipe.seed}/{self.index}'

    @property
    def rates(self) -> tuple[float, float]:
        """Learning rates of all but the vision tower, and of it."""
        return self.recipe.rates_of(self.phase)

    @property
    def auxiliary(self) -> float:
        """Weight of the loss on the simulator's state."""
        return self.phase.auxiliary or (1.0 if self.phase.kind == 'perception' else 0.0)

    def rate_at(self, step: int) -> float:
        """Return the share of the learning rates at a step."""
        return rate_at(step, self.steps, self.recipe.optimizer.warmup_ratio)

    def turns(self, step: int, rank: int, processes: int) -> list[list[tuple[int, int]]]:
        """Return the micro-batches of a process in a step: (sample, epoch) each."""
        recipe = self.recipe
        batch = global_batch(self.dense, self.seed, step, recipe.batch_size)
        shares = share_of(batch, rank, processes, recipe.micro_batch_size)
        return [[(self.chosen[place], epoch) for place, epoch in share] for share in shares]

    def tries_after(self, step: int) -> bool:
        """Whether the model is tried out after a step."""
        every = self.recipe.evaluation.epochs * len(self.chosen) / self.recipe.batch_size
        passed = math.floor((step + 1) / every) > math.floor(step / every)
        return passed or step + 1 == self.steps


def plan_phase(recipe: TrainingRecipe, index: int, dense: Sequence[bool]) -> PhasePlan:
    """Return the plan of a recipe's phase; ``dense`` says which samples are explained."""
    phase = recipe.phases[index]
    chosen = tuple(i for i, explained in enumerate(dense) if explained or not phase.only_dense)
    return PhasePlan(index, phase, recipe, chosen, tuple(dense[i] for i in chosen))


def steps_of(phase: PhaseRecipe, samples: int, batch_size: int) -> int:
    """Return the optimizer steps of a phase, at least one."""
    return max(1, math.ceil(phase.epochs * samples / batch_size))


def rate_at(step: int, steps: int, warmup_ratio: float) -> float:
    """Return the share of the learning rate at a step: a linear warm-up, then a cosine to 0."""
    warmup = math.ceil(warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def seed_number(name: str) -> int:
    """Return a number from 0 to 2**56 that a name determines."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], 'big')
