# SPDX-License-Identifier: Apache-2.0
"""
Algorithm 1 without any of the shortcuts: each question is a sequence and a forward of its own.

Every sequence holds the whole clip, and goes through vision tower and all decoder layers of
transformers as it comes; texts come from transformers' ``generate``, in the last round too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from armor_ros.inference.benchmark_naive import NaiveReference
from armor_ros.inference.sampling import uniforms
from armor_ros.model.armor import ArmorModel
from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training.benchmark_models import FPS, NoiseSample
from armor_ros.training.conditioning import Truth
from armor_ros.training.packing import IGNORED
from armor_ros.training.rollout import RolloutSettings


class NaiveLoop:
    """Samples answers and learns, sample by sample, round by round, task by task."""

    def __init__(self, model: ArmorModel, samples: Sequence[NoiseSample]) -> None:
        self._model = model
        self._truths = [each.sample.truth for each in samples]
        self._references = [
            NaiveReference(model, each.frames, FPS, each.instruction) for each in samples
        ]

    def answer(
        self, names: Sequence[str], settings: RolloutSettings
    ) -> list[list[PreviousAnswer]]:
        """
        Return for each sample what it answers in rounds 0 to T - 1, after nothing at first.

        The answer of the last round is among them, though no prompt quotes it.
        """
        self._model.eval()
        return [
            self._answers(reference, name, settings)
            for reference, name in zip(self._references, names, strict=True)
        ]

    def _answers(
        self, reference: NaiveReference, name: str, settings: RolloutSettings
    ) -> list[PreviousAnswer]:
        history = [PreviousAnswer()]
        for index in range(settings.rounds):
            numbers = uniforms(0, f'token/{name}', index, 0, settings.max_new_tokens)
            tokens = reference.explain(history[-1], numbers, settings.temperature)
            drawn = float(uniforms(0, f'label/{name}', index, 0, 1)[0])
            failed = drawn < reference.detect(history[-1])
            history.append(PreviousAnswer(failed, self._model.prompts.decode(tokens)))
        return history

    def learn(self, history: Sequence[Sequence[PreviousAnswer]]) -> tuple[float, float]:
        """
        Add the gradient of the losses of all rounds; return their means, label and token.

        ``history`` holds for each sample what its prompts quote, round by round. The gradient is
        that of the sum over rounds of the round's mean over labels and mean over tokens.
        """
        self._model.train()
        rounds = len(history[0])
        answers = [self._spoken(truth) for truth in self._truths]
        labels, tokens = len(answers), sum(len(answer) for answer in answers)
        detection = language = 0.0
        for reference, truth, answer, quotes in zip(
            self._references, self._truths, answers, history, strict=True
        ):
            for previous in quotes:
                loss = self._detection(reference, truth, previous) / labels
                loss.backward()  # type: ignore[no-untyped-call]
                detection += loss.item() / rounds
                if answer:
                    loss = self._language(reference, answer, previous) / tokens
                    loss.backward()  # type: ignore[no-untyped-call]
                    language += loss.item() / rounds
        return detection, language

    def _spoken(self, truth: Truth) -> list[int]:
        if not truth.explanation:
            return []
        return self._model.prompts.explanation_tokens(truth.explanation)

    def _detection(
        self, reference: NaiveReference, truth: Truth, previous: PreviousAnswer
    ) -> torch.Tensor:
        """Return the cross-entropy of the label."""
        model = self._model
        inputs = reference.inputs(model.prompts.detection_suffix(previous))
        output = model.backbone.model(**inputs, use_cache=False, output_hidden_states=True)
        features = model.head.token_features(output.hidden_states)
        valid = torch.ones(features.shape[:2], dtype=torch.bool, device=model.device)
        failure = model.config.head.failure_index
        target = failure if truth.failed else 1 - failure
        return functional.cross_entropy(
            model.detection_logits(features, valid), torch.tensor([target], device=model.device)
        )

    def _language(
        self, reference: NaiveReference, answer: list[int], previous: PreviousAnswer
    ) -> torch.Tensor:
        """Return the cross-entropy of an answer, summed over its tokens."""
        suffix = self._model.prompts.reasoning_suffix(previous)
        inputs = reference.inputs([*suffix, *answer])
        labels = torch.full_like(inputs['input_ids'], IGNORED)
        labels[:, -len(answer) :] = inputs['input_ids'][:, -len(answer) :]
        loss: torch.Tensor = self._model.backbone(**inputs, labels=labels, use_cache=False).loss
        return loss * len(answer)
