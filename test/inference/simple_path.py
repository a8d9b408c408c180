# SPDX-License-Identifier: Apache-2.0
"""
Inference as simple as it can be with a cache, to hold the fast engine against.

The prefix is computed once by transformers' own decoder and copied for each row; rows are padded,
keep their place in the batch to the end, and nothing is streamed, drafted or left early.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.episodes.episode import Episode
from armor_ros.inference.algorithm2 import Detection, Explanation, Refinement, refine
from armor_ros.inference.episode_input import episode_input
from armor_ros.inference.errors import Canceled
from armor_ros.inference.generation import Generated
from armor_ros.inference.policy import detections
from armor_ros.inference.sampling import choose_tokens, entropies, uniforms
from armor_ros.model.armor import ArmorModel, Prefix
from armor_ros.model.batch import causal_mask, left_pad
from armor_ros.model.prompts import PreviousAnswer


def diagnose_simply(
    model: ArmorModel, episode: Episode, settings: RefinementSettings
) -> Refinement:
    """Run Algorithm 2 on an episode."""
    with torch.inference_mode():
        seen = episode_input(
            episode, model.config, model.geometry, settings.input_mode, settings.camera
        )
        tokens = model.prompts.prefix(episode.task.instruction, seen.views)
        prefix = model.prefill(tokens, seen.vision)
        return refine(SimplePolicy(model, prefix, settings, lambda: False), settings)


class SimplePolicy:
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
        suffixes = [model.prompts.detection_suffix(self.after(answer)) for answer in previous]
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

    def after(self, answer: PreviousAnswer) -> PreviousAnswer:
        """Return an answer behind the account of the clip."""
        prompts, task = self._model.prompts, self._model.config.prompts.account_task
        if not task:
            return answer
        numbers = torch.zeros(1, self._settings.max_new_tokens)
        suffixes = [prompts.free_suffix(task)]
        told = generate_simply(
            self._model, self._prefix, suffixes, numbers, 0.0, self._should_stop
        )
        return replace(answer, account=prompts.decode(told[0].tokens))

    def explain(self, previous: Sequence[PreviousAnswer], round_index: int) -> list[Explanation]:
        """Return a sampled explanation given each trajectory's previous answer."""
        settings, prompts = self._settings, self._model.prompts
        numbers = torch.stack(
            [
                uniforms(settings.seed, 'token', round_index, m, settings.max_new_tokens)
                for m in range(len(previous))
            ]
        )
        generated = generate_simply(
            self._model,
            self._prefix,
            [prompts.reasoning_suffix(self.after(answer)) for answer in previous],
            numbers,
            settings.temperature,
            self._should_stop,
        )
        return [Explanation(prompts.decode(text.tokens), text.entropy) for text in generated]


def generate_simply(
    model: ArmorModel,
    prefix: Prefix,
    suffixes: Sequence[Sequence[int]],
    numbers: torch.Tensor,
    temperature: float,
    should_stop: Callable[[], bool],
) -> list[Generated]:
    """
    Continue a prefix by each suffix and sample until an end token.

    ``numbers`` (B, N) holds the uniform number of each token; N is the most tokens generated, the
    end token included. Rows that have ended stay in the batch, so that its shape is fixed.
    Raises Canceled when ``should_stop`` is true before a step, ModelError on bad logits.
    """
    batch = left_pad(suffixes, prefix.next_position, model.prompts.padding_id, model.device)
    cache = prefix.fork(len(suffixes))
    seen = torch.ones((len(suffixes), prefix.length), dtype=torch.bool, device=model.device)
    valid = torch.cat([seen, batch.valid], dim=1)
    ids, positions = batch.ids, batch.positions
    rows = [_Row() for _ in suffixes]
    for step in range(numbers.shape[1]):
        if should_stop():
            raise Canceled
        mask = causal_mask(valid, ids.shape[1])
        output = model.decode(model.embed(ids), positions, mask, cache)
        logits = model.language_logits(output.hidden[:, -1])
        step_entropies = entropies(logits).tolist()
        chosen = choose_tokens(logits, temperature, numbers[:, step])
        for row, token, entropy in zip(rows, chosen.tolist(), step_entropies, strict=True):
            row.add(token, entropy, model.prompts.stop_ids)
        if all(row.ended for row in rows):
            break
        ids, positions = chosen[:, None], positions[:, :, -1:] + 1
        valid = torch.cat([valid, torch.ones_like(valid[:, :1])], dim=1)
    return [row.result() for row in rows]


class _Row:
    """One trajectory's text as it grows."""

    def __init__(self) -> None:
        self.ended = False
        self._tokens: list[int] = []
        self._entropies: list[float] = []

    def add(self, token: int, entropy: float, stop_ids: frozenset[int]) -> None:
        """Take one sampled token, unless the text has ended."""
        if self.ended:
            return
        self._entropies.append(entropy)
        if token in stop_ids:
            self.ended = True
        else:
            self._tokens.append(token)

    def result(self) -> Generated:
        """Return the text so far."""
        mean = sum(self._entropies) / len(self._entropies)
        return Generated(tuple(self._tokens), mean)
