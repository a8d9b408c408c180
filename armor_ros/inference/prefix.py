# SPDX-License-Identifier: Apache-2.0
"""The prefix that all rounds, trajectories and tasks on one episode share, computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from armor_ros.inference.errors import Canceled
from armor_ros.model.armor import ArmorModel
from armor_ros.model.attention import causal_bias
from armor_ros.model.cache import KeyValueCache
from armor_ros.model.decoder import Decoder, TokenRun
from armor_ros.model.head_summary import HeadReader, HeadSummary

if TYPE_CHECKING:
    from armor_ros.inference.static_steps import StaticSteps


class SharedPrefix:
    """
    System prompt, vision tokens and question of one episode, as far as they are known.

    Tokens are appended in chunks. Their first layers run at once, which is all that a detection
    needs; ``complete`` runs the others. Slots behind the prefix are scratch space for branches.
    Nothing is kept on the model, so any number of prefixes may grow side by side.
    """

    def __init__(self, model: ArmorModel, decoder: Decoder, reader: HeadReader) -> None:
        self.model = model
        self.decoder = decoder
        self.reader = reader
        self.cache: KeyValueCache = self.decoder.new_cache()
        self.next_position = 0
        # On a GPU, plain steps are captured once and replayed (see ``static_steps``).
        self.steps: StaticSteps | None = None
        self._deferred: list[TokenRun] = []
        # Length and summary after each chunk: what a prefix can be cut back to.
        self._marks: list[tuple[int, HeadSummary]] = []

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self._marks[-1][0] if self._marks else 0

    @property
    def summary(self) -> HeadSummary:
        """What the classification head needs of all tokens; there must be at least one."""
        return self._marks[-1][1]

    def append(self, embeddings: torch.Tensor, positions: torch.Tensor) -> None:
        """Run (N, H) embeddings at (3, N) positions through the first layers."""
        start = self.length
        self.cache.reserve(start + embeddings.shape[0])
        bias = causal_bias(embeddings.shape[0], embeddings.device)
        run = self.decoder.begin(start, embeddings, positions, bias)
        after, features = self.decoder.early_layers(run, self.cache)
        summary = self.reader.summarize(features)
        if self._marks:
            summary = self.summary.merge(summary)
        self._marks.append((start + embeddings.shape[0], summary))
        self._deferred.append(after)

    def complete(self, should_stop: Callable[[], bool] | None = None) -> bool:
        """
        Run the remaining layers; return whether there was anything left to run.

        Raises Canceled between chunks when asked to stop.
        """
        was_complete = not self._deferred
        while self._deferred:
            if should_stop is not None and should_stop():
                raise Canceled
            self.decoder.late_layers(self._deferred[0], self.cache)
            del self._deferred[0]
        return not was_complete

    def cut(self, length: int) -> int:
        """Forget the chunks that end beyond ``length`` tokens; return the length left."""
        while self.length > length:
            del self._marks[-1]
        self._deferred = [run for run in self._deferred if run.total <= self.length]
        return self.length

    def assume(self, length: int, summary: HeadSummary) -> None:
        """Take slots that were filled from outside for the prefix's own tokens."""
        self._marks.append((length, summary))
