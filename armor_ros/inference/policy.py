# SPDX-License-Identifier: Apache-2.0
"""pi_theta on one clip: detection and explanation behind a prefix that is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.inference.algorithm2 import Detection, Explanation
from armor_ros.inference.errors import Canceled
from armor_ros.inference.generation import generate
from armor_ros.inference.sampling import entropies, uniforms
from armor_ros.model.armor import ArmorModel, Prefix
from armor_ros.model.batch import causal_mask, left_pad
from armor_ros.model.prompts import PreviousAnswer


class ModelPolicy:
    """The model's answers about one clip (see ``algorithm2.Policy``)."""

    def __init__(
        self,
        model: ArmorModel,
        prefix: Prefix,
        settings: RefinementSettings,
        should_stop: Callable[[], bool],
    ) -> None:
        self._model = model
        self._prefix = prefix
        self._settings = settings
        self._should_stop = should_stop

    def detect(self, previous: Sequence[PreviousAnswer]) -> list[Detection]:
        """Return the label's distribution given each trajectory's previous answer."""
        if self._should_stop():
            raise Canceled
        model, prefix = self._model, self._prefix
        suffixes = [model.prompts.detection_suffix(answer) for answer in previous]
        batch = left_pad(suffixes, prefix.next_position, model.prompts.padding_id, model.device)
        seen = torch.ones((len(suffixes), prefix.length), dtype=torch.bool, device=model.device)
        valid = torch.cat([seen, batch.valid], dim=1)
        output = model.decode(
            model.embed(batch.ids),
            batch.positions,
            causal_mask(valid, batch.ids.shape[1]),
            prefix.fork(len(suffixes)),
        )
        shared = prefix.features.expand(len(suffixes), -1, -1)
        logits = model.detection_logits(torch.cat([shared, output.features], dim=1), valid)
        return detections(logits, model.config.head.failure_index)

    def explain(self, previous: Sequence[PreviousAnswer], round_index: int) -> list[Explanation]:
        """Return a sampled explanation given each trajectory's previous answer."""
        settings, prompts = self._settings, self._model.prompts
        numbers = torch.stack(
            [
                uniforms(settings.seed, 'token', round_index, m, settings.max_new_tokens)
                for m in range(len(previous))
            ]
        )
        generated = generate(
            self._model,
            self._prefix,
            [prompts.reasoning_suffix(answer) for answer in previous],
            numbers,
            settings.temperature,
            self._should_stop,
        )
        return [Explanation(prompts.decode(text.tokens), text.entropy) for text in generated]


def detections(logits: torch.Tensor, failure_index: int) -> list[Detection]:
    """Turn logits (B, 2) into distributions; raises ModelError when they are not finite."""
    label_entropies = entropies(logits).tolist()
    probabilities = torch.softmax(logits.double(), dim=-1)[:, failure_index].tolist()
    return [
        Detection(probability, entropy)
        for probability, entropy in zip(probabilities, label_entropies, strict=True)
    ]
