# SPDX-License-Identifier: Apache-2.0
"""The measurements of the benchmark: steps of the product and of the naive loop, in turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from armor_ros.errors import ArmorError
from armor_ros.inference.benchmark_limits import device_name, synchronized
from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training.benchmark_memory import PeakMemory
from armor_ros.training.benchmark_models import (
    TrainingSize,
    describe,
    make_samples,
    make_training_model,
    with_kept_embeddings,
)
from armor_ros.training.benchmark_naive import NaiveLoop
from armor_ros.training.optimization import freeze_for, make_optimizer
from armor_ros.training.packing import Clip
from armor_ros.training.phase_recipe import PhaseRecipe
from armor_ros.training.recipe import ModelRecipe, OptimizerRecipe, RandomModel, TrainingRecipe
from armor_ros.training.rollout import RolloutSettings
from armor_ros.training.samples import TrainingSample
from armor_ros.training.schedule import PhasePlan, plan_phase
from armor_ros.training.stepper import Stepper
from armor_ros.training.steps import BatchMaker, TrainingModule

# How far losses may be apart, and gradients relative to the longer side.
LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
_WARMUP, _ONLINE = 0, 1
# No gradient is shortened: those of the two ways are compared as they are.
_NO_CLIPPING = 1e6


@dataclass(slots=True)
class Step:
    """
    One optimizer step: seconds of its parts, what it found, and its gradient.

    ``history`` is what prompts quoted; ``bytes`` the memory that the step took at its peak on top
    of what was in use before, None where the system does not tell.
    """

    rollout: float
    learning: float
    update: float
    detection: float
    language: float
    gradients: dict[str, torch.Tensor]
    history: list[list[PreviousAnswer]]
    bytes: int | None

    @property
    def whole(self) -> float:
        """Seconds of the whole step."""
        return self.rollout + self.learning + self.update


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table, in seconds."""

    name: str
    measured: float
    naive: float


class TrainingBenchmark:
    """One model, a few samples of noise, and everything that is measured with them."""

    def __init__(self, size: TrainingSize, device: torch.device) -> None:
        self.size = size
        self.device = device
        self.model = make_training_model(size.shape, device)
        self.samples = make_samples(self.model, size)
        self.recipe = _recipe(size)
        AcceleratorState._reset_state(reset_partial_state=True)
        self._accelerator = Accelerator(cpu=device.type == 'cpu')
        module = TrainingModule(self.model)
        optimizer, rates = make_optimizer(module, self.recipe.optimizer, (1.0, 1.0))
        self._watch = _Watch(optimizer, module, device)
        # Steps are real, but go nowhere: all see the same weights.
        self._rates = [0.0] * len(rates)
        self._module, self._optimizer = self._accelerator.prepare(module, optimizer)
        self._inner = self._accelerator.unwrap_model(self._module)
        self._naive = NaiveLoop(self.model, self.samples)

    def run(self) -> dict[str, Any]:
        """Measure everything once; raises ArmorError when the two ways do not agree."""
        samples = [each.sample for each in self.samples]
        # The first step makes room for AdamW's moments, and is not measured.
        self.step(_WARMUP, samples)
        warmup, naive_warmup, warmup_apart = self._pair(_WARMUP, samples)
        online, naive_online, online_apart = self._pair(_ONLINE, samples)
        kept, anew, kept_apart = self._frozen(samples)
        rows = [
            Row('rollout', online.rollout, naive_online.rollout),
            Row('forward and backward', online.learning, naive_online.learning),
            Row('whole online step', online.whole, naive_online.whole),
            Row('warm-up step', warmup.whole, naive_warmup.whole),
            Row('warm-up, embeddings kept', kept.whole, anew.whole),
        ]
        return {
            'device': device_name(self.device),
            'threads': torch.get_num_threads(),
            'torch': torch.__version__,
            'transformers': transformers.__version__,
            'settings': {
                **dataclasses.asdict(self._settings(_ONLINE)),
                **describe(self.size, self.samples),
            },
            'rows': [dataclasses.asdict(row) for row in rows],
            'ratios': {row.name: row.naive / row.measured for row in rows},
            'update_seconds': online.update,
            'bytes': {
                'whole online step': [online.bytes, naive_online.bytes],
                'warm-up step': [warmup.bytes, naive_warmup.bytes],
            },
            'apart': {
                'online': online_apart,
                'warm-up': warmup_apart,
                'embeddings kept': kept_apart,
            },
        }

    def step(self, phase: int, samples: Sequence[TrainingSample]) -> Step:
        """Take a step as the trainer does."""
        plan = self._plan(phase)
        asked = _Asked(self._inner, self.device)
        maker = BatchMaker(self.model, plan.phase, (), plan.seed, asked)
        stepper = Stepper(
            self._accelerator, plan, self._module, self._optimizer, self._rates, maker
        )
        turns = [[(sample, 0) for sample in samples]]
        peak = PeakMemory(self.device)
        start = synchronized(self.device)
        report = stepper.take(0, turns)
        whole = synchronized(self.device) - start
        history = asked.history or [[PreviousAnswer()] for _ in samples]
        return Step(
            asked.seconds, whole - asked.seconds - self._watch.seconds, self._watch.seconds,
            report.detection, report.language, self._watch.take(), history, peak.bytes(),
        )  # fmt: skip

    def naive_step(self, phase: int, history: list[list[PreviousAnswer]]) -> Step:
        """
        Take a step of the naive loop, which learns behind ``history`` whatever it answers itself.

        Raises ArmorError when its answers are not these.
        """
        plan = self._plan(phase)
        names = [f'{plan.seed}/0/{each.sample.id}' for each in self.samples]
        peak = PeakMemory(self.device)
        start = synchronized(self.device)
        answers = None
        if plan.phase.kind == 'online':
            answers = self._naive.answer(names, self._settings(phase))
        middle = synchronized(self.device)
        detection, language = self._naive.learn(history)
        self._accelerator.clip_grad_norm_(self._module.parameters(), _NO_CLIPPING)
        self._optimizer.step()
        self._optimizer.zero_grad()
        end = synchronized(self.device)
        if answers is not None:
            self._check_answers(history, [each[:-1] for each in answers])
        return Step(
            middle - start, end - middle - self._watch.seconds, self._watch.seconds,
            detection, language, self._watch.take(), history, peak.bytes(),
        )  # fmt: skip

    def _pair(
        self, phase: int, samples: Sequence[TrainingSample]
    ) -> tuple[Step, Step, dict[str, float]]:
        """Return the product's step, the mean of two around the naive one, and that."""
        # On a busy machine times of different minutes are no pair.
        first = self.step(phase, samples)
        first.gradients.clear()
        naive = self.naive_step(phase, first.history)
        second = self.step(phase, samples)
        apart = self._compare(second, naive)
        return _mean(first, second), naive, apart

    def _frozen(self, samples: Sequence[TrainingSample]) -> tuple[Step, Step, dict[str, float]]:
        """Return a warm-up step with the frozen tower's answers kept, and with the tower run."""
        with_kept = [with_kept_embeddings(self.model, sample) for sample in samples]
        freeze_for(self._inner, (1.0, 0.0))
        try:
            first = self.step(_WARMUP, with_kept)
            first.gradients.clear()
            anew = self.step(_WARMUP, samples)
            second = self.step(_WARMUP, with_kept)
        finally:
            freeze_for(self._inner, (1.0, 1.0))
        return _mean(first, second), anew, self._compare(second, anew)

    def _compare(self, found: Step, expected: Step) -> dict[str, float]:
        """Return how far losses and gradients are apart, which are freed."""
        losses = max(
            abs(one - other) / max(1.0, abs(other))
            for one, other in (
                (found.detection, expected.detection), (found.language, expected.language),
            )
        )  # fmt: skip
        gradients = _distance(found.gradients, expected.gradients)
        found.gradients.clear()
        expected.gradients.clear()
        apart = {'losses': losses, 'gradients': gradients}
        limits = {'losses': LOSS_TOLERANCE, 'gradients': GRADIENT_TOLERANCE}
        for name, limit in limits.items():
            if self._is_exact and not apart[name] <= limit:
                raise ArmorError(
                    f'{name} of two ways to train are {apart[name]:.1e} apart, more '
                    f'than {limit:g}; training is wrong on this machine'
                )
        return apart

    def _check_answers(
        self, expected: list[list[PreviousAnswer]], found: list[list[PreviousAnswer]]
    ) -> None:
        for one, other in zip(expected, found, strict=True):
            if self._is_exact and one != other:
                raise ArmorError(
                    f'the rollout answers {one[-1]}, the naive loop {other[-1]}; rollouts are '
                    'wrong on this machine'
                )

    @property
    def _is_exact(self) -> bool:
        # In half precision the order of sums tells, and texts drift apart.
        return self.size.shape.bits == 32

    def _plan(self, phase: int) -> PhasePlan:
        dense = [bool(each.sample.truth.explanation) for each in self.samples]
        return plan_phase(self.recipe, phase, dense)

    def _settings(self, phase: int) -> RolloutSettings:
        chosen = self.recipe.phases[phase]
        return RolloutSettings(
            chosen.rounds, chosen.temperature, chosen.max_new_tokens, chosen.sample_label
        )


@dataclass(slots=True)
class _Asked:
    """Asks the policy for answers, and keeps them and the seconds it took."""

    module: TrainingModule
    device: torch.device
    seconds: float = 0.0
    history: list[list[PreviousAnswer]] = field(default_factory=list)

    def __call__(
        self, clips: Sequence[Clip], names: Sequence[str], settings: RolloutSettings
    ) -> list[list[PreviousAnswer]]:
        start = synchronized(self.device)
        self.history = self.module.answer(clips, names, settings)
        self.seconds = synchronized(self.device) - start
        return self.history


class _Watch:
    """Keeps the gradient that an optimizer is given, and the seconds that it takes."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, module: TrainingModule, device: torch.device
    ) -> None:
        self.seconds = 0.0
        self._module = module
        self._device = device
        self._gradients: dict[str, torch.Tensor] = {}
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def take(self) -> dict[str, torch.Tensor]:
        """Return the last gradient by name, and forget it."""
        taken, self._gradients = self._gradients, {}
        return taken

    def _before(self, *_: Any) -> None:
        # Tensors of their own after ``zero_grad``, which leaves the weights without one.
        self._gradients = {
            name: weight.grad
            for name, weight in self._module.named_parameters()
            if weight.grad is not None
        }
        self.seconds = -synchronized(self._device)

    def _after(self, *_: Any) -> None:
        self.seconds += synchronized(self._device)


def _recipe(size: TrainingSize) -> TrainingRecipe:
    phases = (
        PhaseRecipe('warmup'),
        PhaseRecipe('online', max_new_tokens=size.shape.tokens),
    )
    return TrainingRecipe(
        phases,
        ModelRecipe(random=RandomModel()),
        optimizer=OptimizerRecipe(clip_norm=_NO_CLIPPING),
        batch_size=size.samples,
        micro_batch_size=size.samples,
    )


def _mean(one: Step, other: Step) -> Step:
    return dataclasses.replace(
        other,
        rollout=(one.rollout + other.rollout) / 2,
        learning=(one.learning + other.learning) / 2,
        update=(one.update + other.update) / 2,
    )


def _distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of a weight's gradients, relative to the longer's norm."""
    largest = 0.0
    whole = sum(float(each.double().square().sum()) for each in other.values()) ** 0.5
    for name in one.keys() | other.keys():
        found, expected = one.get(name), other.get(name)
        if found is None or expected is None:
            present = expected if found is None else found
            apart = 0.0 if present is None else float(present.norm())
            largest = max(largest, apart / whole)
            continue
        # Gradients that are rounding and nothing else count by the whole gradient's size.
        scale = max(float(found.norm()), float(expected.norm()), 1e-4 * whole)
        largest = max(largest, float((found - expected).norm()) / scale)
    return largest
