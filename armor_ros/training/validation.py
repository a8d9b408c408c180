# SPDX-License-Identifier: Apache-2.0
"""How a model in training does on samples that it does not learn from."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator

from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training.conditioning import SFT_REQUEST, Truth
from armor_ros.training.kept_vision import with_embeddings
from armor_ros.training.phase_recipe import PhaseRecipe
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.samples import TrainingData, TrainingSample
from armor_ros.training.schedule import PhasePlan
from armor_ros.training.steps import BatchMaker, TrainingModule, rollout_settings


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """
    What the model answered to one sample.

    ``answers`` are those of each round, the likeliest ones; of a fine-tuned model one, its label
    None where it gave none.
    """

    sample: str
    instruction: str
    truth: Truth
    answers: tuple[PreviousAnswer, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """
    How the model did after ``step`` of phase number ``phase``, both from 0.

    Losses are means: over labels, over tokens of explanations and over what is asked of the
    state; None where there was nothing of the kind. ``accuracy`` is that of the label from the
    clip alone (round 0), or of facts where they alone are asked for.
    """

    phase: int
    step: int
    samples: int
    detection: float | None
    accuracy: float | None
    language: float | None
    auxiliary: float | None
    shown: tuple[ShownAnswer, ...]


class Validation:
    """Tries a model on the same samples time after time: a random part of a data set."""

    def __init__(
        self, accelerator: Accelerator, data: TrainingData, recipe: TrainingRecipe
    ) -> None:
        self._accelerator = accelerator
        self.data = data
        self._recipe = recipe
        count = min(recipe.evaluation.samples, len(data))
        indices = range(len(data))
        self._chosen = random.Random(f'validation/{recipe.seed}').sample(indices, count)

    @torch.no_grad()
    def run(self, wrapped: Any, module: TrainingModule, plan: PhasePlan, step: int) -> Trial:
        """Return how the model does; ``wrapped`` is what accelerate made of ``module``."""
        accelerator = self._accelerator
        trained = module.training
        wrapped.eval()
        maker = BatchMaker(module.model, _question(plan.phase), (), '')
        totals = torch.zeros(7, device=accelerator.device)
        for indices, weight in self._shares():
            with accelerator.autocast():
                samples = [self._sample(module, index) for index in indices]
                samples = _told(module, plan.phase, samples)
                batch = maker.make(samples, [0] * len(indices))
                sums = wrapped(batch.to(accelerator.device), speaks=True)
            losses = torch.stack([sums.detection, sums.language, sums.auxiliary])
            totals += weight * torch.cat([losses, sums.counts.to(losses)])
        totals = accelerator.reduce(totals, 'sum')
        detection, language, auxiliary, labels, tokens, correct, asked = totals.tolist()
        shown = self._show(module, plan.phase)
        module.train(trained)
        return Trial(
            plan.index, step, len(self._chosen), _mean(detection, labels), _mean(correct, labels),
            _mean(language, tokens), _mean(auxiliary, asked), shown,
        )  # fmt: skip

    def _sample(self, module: TrainingModule, index: int) -> TrainingSample:
        return with_embeddings(self.data[index], self.data.kept, module.packed)

    def _shares(self) -> list[tuple[list[int], float]]:
        """Return this process's batches, as many as the others have; the surplus weighs 0."""
        accelerator, size = self._accelerator, self._recipe.micro_batch_size
        processes = accelerator.num_processes
        own = self._chosen[accelerator.process_index :: processes]
        batches = [(own[start : start + size], 1.0) for start in range(0, len(own), size)]
        most = -(-len(self._chosen) // processes)
        missing = -(-most // size) - len(batches)
        return batches + [(self._chosen[:1], 0.0)] * missing

    def _show(self, module: TrainingModule, phase: PhaseRecipe) -> tuple[ShownAnswer, ...]:
        if phase.kind in ('perception', 'facts') or not self._recipe.evaluation.shown:
            return ()
        chosen = self._chosen[: self._recipe.evaluation.shown]
        with self._accelerator.autocast():
            samples = [self._sample(module, index) for index in chosen]
            answers = _answers(module, phase, samples)
        return tuple(
            ShownAnswer(sample.id, self.data.samples[index].instruction, sample.truth, own)
            for index, sample, own in zip(chosen, samples, answers, strict=True)
        )


def _told(
    module: TrainingModule, phase: PhaseRecipe, samples: list[TrainingSample]
) -> list[TrainingSample]:
    """Return samples with the model's accounts of them, where it is asked for some."""
    if not phase.tells_accounts:
        return samples
    accounts = module.tell([sample.clip for sample in samples], phase.max_new_tokens)
    return [
        dataclasses.replace(sample, truth=dataclasses.replace(sample.truth, account=account))
        for sample, account in zip(samples, accounts, strict=True)
    ]


def _answers(
    module: TrainingModule, phase: PhaseRecipe, samples: Sequence[TrainingSample]
) -> list[tuple[PreviousAnswer, ...]]:
    clips = [sample.clip for sample in samples]
    if phase.kind == 'sft':
        suffix = module.model.prompts.free_suffix(SFT_REQUEST)
        texts = module.say(clips, suffix, phase.max_new_tokens)
        return [(sft_said(text),) for text in texts]
    # one round more than is asked about: its prompt would quote the last answers
    rounds = phase.rounds + 1 if phase.kind == 'online' else 2
    settings = dataclasses.replace(
        rollout_settings(phase), rounds=rounds, temperature=0.0, sample_label=False
    )
    answered = module.answer(clips, [sample.id for sample in samples], settings)
    return [tuple(answers[1:]) for answers in answered]


def sft_said(text: str) -> PreviousAnswer:
    """Return what a text in the format of the fine-tuning baselines (appendix B.4) says."""
    thought = re.search(r'<think>(.*?)(</think>|$)', text, re.DOTALL)
    answer = re.search(r'<answer>\s*(yes|no)\b', text, re.IGNORECASE)
    failed = None if answer is None else answer.group(1).lower() == 'no'
    return PreviousAnswer(failed, thought.group(1).strip() if thought else '')


def _question(phase: PhaseRecipe) -> PhaseRecipe:
    """Return what is asked while training of this kind is tried out: nothing is conditioned."""
    kind = phase.kind if phase.kind in ('perception', 'facts', 'sft') else 'warmup'
    alone = kind == 'facts'
    return dataclasses.replace(
        phase,
        kind=kind,
        conditioning='paper',
        time_steps=None,
        vary=False,
        facts=False,
        compare=phase.compare and alone,
        read=phase.read and alone,
    )


def _mean(total: float, count: float) -> float | None:
    return total / count if count else None
