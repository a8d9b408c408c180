# SPDX-License-Identifier: Apache-2.0
"""From samples to the losses of an optimizer step, phase by phase (Algorithm 1)."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import nn

from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.model.backbone import decoder_layers
from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training.auxiliary import StateHead
from armor_ros.training.conditioning import (
    Truth,
    account_branches,
    contrast_branches,
    expert_branches,
    fact_branches,
    mixed_branches,
    online_branches,
    reading_branches,
    sft_branches,
    spoken_branches,
    warmup_branches,
)
from armor_ros.training.forward import PackedForward
from armor_ros.training.packing import Branch, Clip, PackedBatch, PackedSample, pack
from armor_ros.training.phase_recipe import PhaseRecipe
from armor_ros.training.rollout import RolloutSettings, propose, rollout, say, tell
from armor_ros.training.sampled import Sampled
from armor_ros.training.samples import TrainingSample
from armor_ros.training.sharding import gathered
from armor_ros.training.state_targets import StateTargets
from armor_ros.training.time_steps import some_steps
from armor_ros.training.variation import varied


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What a process takes at once: packed samples, and their states where they are asked for."""

    packed: PackedBatch
    states: tuple[StateTargets, ...]

    def to(self, device: torch.device) -> MicroBatch:
        """Return it on another device."""
        states = tuple(state.to(device) for state in self.states)
        return MicroBatch(self.packed.to(device), states)


class LossSums(NamedTuple):
    """
    Sums over a micro-batch: losses with a gradient, and what they are to be divided by.

    ``counts`` (4,): labels asked for, tokens to say, labels found, questions on the state. A plain
    tuple of tensors, so that whatever wraps the module for many processes finds them.
    """

    detection: torch.Tensor
    language: torch.Tensor
    auxiliary: torch.Tensor
    counts: torch.Tensor


T = TypeVar('T')

# Answers of a policy: ``TrainingModule.answer``, or a wrapper of it.
Answer = Callable[[Sequence[Clip], Sequence[str], RolloutSettings], list[list[PreviousAnswer]]]


class BatchMaker:
    """
    Lays out the samples of a phase.

    ``others`` are explained samples, whose explanations it may quote for those of another;
    ``answer`` asks the policy in training, ``sampled`` is what was asked before the phase began.
    """

    def __init__(
        self,
        model: ArmorModel,
        phase: PhaseRecipe,
        others: Sequence[Truth],
        seed: str,
        answer: Answer | None = None,
        sampled: Sampled | None = None,
    ) -> None:
        self._model = model
        self._phase = phase
        self._others = others
        self._texts = [other.explanation for other in others]
        self._seed = seed
        self._sampled = sampled or Sampled()
        self._answer = answer or functools.partial(rollout, model, seed=0)

    def make(self, samples: Sequence[TrainingSample], epochs: Sequence[int]) -> MicroBatch:
        """Return the micro-batch of some samples, each in a turn of its own."""
        samples = self._shown(samples, epochs)
        if self._phase.kind == 'online':
            branches = self._online(samples, epochs)
        else:
            branches = [
                [*self._branches(sample, epoch), *self._facts(sample, epoch)]
                for sample, epoch in zip(samples, epochs, strict=True)
            ]
        packed = pack(
            [
                PackedSample(sample.clip, (*own, *self._retold(sample, epoch)))
                for sample, own, epoch in zip(samples, branches, epochs, strict=True)
            ]
        )
        states: tuple[StateTargets, ...] = ()
        if self._phase.asks_state:
            states = tuple(_known(sample, sample.state, self._phase) for sample in samples)
        return MicroBatch(packed, states)

    def _shown(
        self, samples: Sequence[TrainingSample], epochs: Sequence[int]
    ) -> list[TrainingSample]:
        """Return what perception shows of samples: some of their time steps, varied."""
        phase, geometry = self._phase, self._model.geometry
        shown = list(samples)
        for index, (sample, epoch) in enumerate(zip(samples, epochs, strict=True)):
            rng = random.Random(f'{self._seed}/{epoch}/{sample.id}/shown')
            if phase.time_steps is not None:
                shown[index] = some_steps(shown[index], phase.time_steps, rng)
            if phase.vary:
                shown[index] = varied(shown[index], rng, geometry)
        return shown

    def _branches(self, sample: TrainingSample, epoch: int) -> list[Branch]:
        prompts, phase = self._model.prompts, self._phase
        truth = self._truth(sample)
        if phase.kind in ('perception', 'facts'):
            return spoken_branches(prompts, truth) if phase.explain else []
        if phase.kind == 'sft':
            return sft_branches(prompts, truth)
        rng = random.Random(f'{self._seed}/{epoch}/{sample.id}')
        if phase.conditioning == 'contrast':
            return contrast_branches(prompts, truth, self._others, phase.quoted_errors, rng)
        if phase.kind == 'warmup':
            return warmup_branches(prompts, truth)
        if phase.conditioning == 'mixed':
            return mixed_branches(prompts, truth, self._texts, rng)
        return expert_branches(prompts, truth, rng)

    def _facts(self, sample: TrainingSample, epoch: int) -> list[Branch]:
        if not self._phase.asks_facts:
            return []
        rng = random.Random(f'{self._seed}/{epoch}/{sample.id}/facts')
        prompts, phase = self._model.prompts, self._phase
        facts = _known(sample, sample.facts, phase)
        seen = facts if phase.compare else dataclasses.replace(facts, compared=())
        branches = fact_branches(prompts, seen, rng)
        if phase.read:
            branches += reading_branches(prompts, facts, sample.truth.explanation, rng)
        return branches

    def _retold(self, sample: TrainingSample, epoch: int) -> list[Branch]:
        """Return the question for what was told of a clip before, unless the state tells."""
        if self._phase.asks_facts:
            return []
        rng = random.Random(f'{self._seed}/{epoch}/{sample.id}/account')
        task = self._model.config.prompts.account_task
        account = self._sampled.accounts.get(sample.id, '')
        return account_branches(self._model.prompts, task, account, rng)

    def _truth(self, sample: TrainingSample) -> Truth:
        """Return what is known of a sample, with a sampled explanation where it has no other."""
        explanation = sample.truth.explanation or self._sampled.explanations.get(sample.id, '')
        account = self._sampled.accounts.get(sample.id, '') or sample.truth.account
        return dataclasses.replace(sample.truth, explanation=explanation, account=account)

    def _online(
        self, samples: Sequence[TrainingSample], epochs: Sequence[int]
    ) -> list[list[Branch]]:
        history = self._history(samples, epochs)
        return [
            online_branches(self._model.prompts, self._truth(sample), answers)
            for sample, answers in zip(samples, history, strict=True)
        ]

    def _history(
        self, samples: Sequence[TrainingSample], epochs: Sequence[int]
    ) -> list[Sequence[PreviousAnswer]]:
        """Return what the prompts of each sample's rounds quote."""
        turns = list(zip(samples, epochs, strict=True))
        if self._sampled.history is not None:
            return [self._sampled.history(sample.id, epoch) for sample, epoch in turns]
        names = [f'{self._seed}/{epoch}/{sample.id}' for sample, epoch in turns]
        clips = [sample.clip for sample in samples]
        return list(self._answer(clips, names, rollout_settings(self._phase)))


def _known(sample: TrainingSample, value: T | None, phase: PhaseRecipe) -> T:
    """Return what a sample's state says; raises ArmorError where it has none."""
    if value is None:
        raise ArmorError(
            f'sample {sample.id!r} has no state of a simulator, which phase {phase.kind} learns '
            'from; set auxiliary to 0, and leave perception and facts out'
        )
    return value


def rollout_settings(phase: PhaseRecipe) -> RolloutSettings:
    """Return how the policy answers in an online phase."""
    return RolloutSettings(
        phase.rounds, phase.temperature, phase.max_new_tokens, phase.sample_label
    )


class TrainingModule(nn.Module):
    """All that is trained, in one module with one forward, as distributed training needs it."""

    def __init__(self, model: ArmorModel, *, state_head: StateHead | None = None) -> None:
        super().__init__()
        # What FSDP wraps layer by layer.
        visual = model.backbone.model.visual
        layers = (decoder_layers(model.backbone)[0], visual.blocks[0])
        self._no_split_modules = [type(layer).__name__ for layer in layers]
        self.packed = PackedForward(model)
        self.state_head = state_head

    @property
    def model(self) -> ArmorModel:
        """The model that is trained."""
        return self.packed.model

    def tie_weights(self) -> None:
        """Let embeddings and language head share their weights again, where they do."""
        self.model.backbone.tie_weights()

    def answer(
        self, clips: Sequence[Clip], names: Sequence[str], settings: RolloutSettings
    ) -> list[list[PreviousAnswer]]:
        """Return the policy's own answers (see ``rollout``)."""
        with gathered(self):
            return rollout(self.model, clips, names, settings, 0)

    def propose(
        self,
        clips: Sequence[Clip],
        names: Sequence[str],
        accepts: Callable[[int, str], bool],
        tries: int,
        settings: RolloutSettings,
    ) -> list[str]:
        """Return sampled explanations that are accepted (see ``propose``)."""
        with gathered(self):
            return propose(self.model, clips, names, accepts, tries, settings)

    def say(self, clips: Sequence[Clip], suffix: Sequence[int], limit: int) -> list[str]:
        """Return the likeliest texts behind a prompt (see ``say``)."""
        with gathered(self):
            return say(self.model, clips, suffix, limit)

    def tell(self, clips: Sequence[Clip], limit: int) -> list[str]:
        """Return the model's accounts of clips (see ``tell``)."""
        with gathered(self):
            return tell(self.model, clips, limit)

    def forward(self, batch: MicroBatch, *, speaks: bool = False) -> LossSums:
        """
        Return the sums of losses of a micro-batch.

        ``speaks`` says that some process has something to say in this step, so that all run the
        late layers and wait for each other in the same places.
        """
        packed = batch.packed
        if not len(packed.detections) and not len(packed.reasonings):
            vision = self.packed.encode(packed)
            detection = language = vision.new_zeros((), dtype=torch.float32)
            counts = [0, 0, 0]
        else:
            losses = self.packed(packed, speaks=speaks)
            vision, detection, language = (
                losses.vision, losses.detection.sum(), losses.language.sum(),
            )  # fmt: skip
            said_failure = losses.failure_logit.detach() >= 0
            correct = int((said_failure == packed.failed).sum())
            counts = [len(packed.detections), packed.target_tokens, correct]
        auxiliary, questions = vision.new_zeros((), dtype=torch.float32), 0.0
        if batch.states and self.state_head is not None:
            auxiliary, asked = self.state_head.loss(vision, batch.states)
            questions = float(asked)
        numbers = torch.tensor([*counts, questions], device=vision.device)
        return LossSums(detection, language, auxiliary, numbers)
