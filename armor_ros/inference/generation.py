# SPDX-License-Identifier: Apache-2.0
"""Sampling explanations, token by token, for all trajectories side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from armor_ros.inference.errors import Canceled
from armor_ros.inference.sampling import choose_tokens, entropies
from armor_ros.model.armor import ArmorModel, Prefix
from armor_ros.model.batch import causal_mask, left_pad


@dataclass(frozen=True, slots=True)
class Generated:
    """Sampled token ids, without the end token, and the mean entropy over them and it."""

    tokens: tuple[int, ...]
    entropy: float


def generate(
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
