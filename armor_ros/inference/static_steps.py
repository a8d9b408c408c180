# SPDX-License-Identifier: Apache-2.0
"""
Decode steps of fixed shapes and addresses, which a GPU can replay without being told each kernel.

A decoder step of a few rows is a thousand small kernels; launching them one by one takes longer
than running them. How much this gains on a GPU has not been measured yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from armor_ros.inference.prefix import SharedPrefix
from armor_ros.model.backbone import rotations
from armor_ros.model.decoder import TokenRun

Work = Callable[[], torch.Tensor]

_logger = logging.getLogger(__name__)


def capture_graph(work: Work) -> Work:
    """Return a function that replays ``work`` as one CUDA graph."""
    current, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(2):  # libraries set themselves up in their first calls
            work()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = work()

    def replay() -> torch.Tensor:
        graph.replay()
        return output

    return replay


@dataclass(frozen=True, slots=True)
class _Step:
    """What a captured step reads, and how to run it."""

    ids: torch.Tensor
    positions: torch.Tensor
    bias: torch.Tensor
    slots: torch.Tensor
    replay: Work


class StaticSteps:
    """
    Steps of one token a row behind a complete prefix, made static by ``capture``.

    They attend to the whole capacity of the cache, so that neither shapes nor addresses change
    from step to step; when the cache has grown, they are captured anew.
    """

    def __init__(self, prefix: SharedPrefix, capture: Callable[[Work], Work]) -> None:
        self._prefix = prefix
        self._capture = capture
        self._is_usable = True
        self._state = (0, 0)
        self._steps: dict[int, _Step] = {}

    def run(
        self, ids: torch.Tensor, positions: torch.Tensor, seen: torch.Tensor, start: int
    ) -> torch.Tensor | None:
        """
        Run one token of each of B rows; return float32 logits (B, vocabulary).

        ``ids`` (B,), ``positions`` (3, B), ``seen`` (B, R) which slots behind the prefix each
        sees, ``start`` the slot of the first. Returns None where steps cannot be captured.
        """
        if not self._is_usable:
            return None
        self._follow_cache()
        rows = len(ids)
        if rows not in self._steps:
            step = self._buffers(rows)
            self._fill(step, ids, positions, seen, start)
            try:
                replay = self._capture(lambda: self._work(step))
            except RuntimeError as error:
                self._is_usable = False
                _logger.warning('decoding step by step: it cannot be captured (%s)', error)
                return None
            self._steps[rows] = _Step(step.ids, step.positions, step.bias, step.slots, replay)
        step = self._steps[rows]
        self._fill(step, ids, positions, seen, start)
        # The next replay overwrites what this one returns.
        return step.replay().clone()

    def _follow_cache(self) -> None:
        """Forget what was captured for another prefix length or capacity."""
        prefix = self._prefix
        state = (prefix.length, prefix.cache.capacity)
        if state == self._state:
            return
        self._state = state
        self._steps.clear()
        for stores in (prefix.cache.keys, prefix.cache.values):
            for store in stores:
                # Never seen, but nothing times not-a-number would still be not a number.
                store[:, prefix.length :].nan_to_num_(0.0, 0.0, 0.0)

    def _buffers(self, rows: int) -> _Step:
        """Return buffers for so many rows."""
        prefix = self._prefix
        device, width = prefix.model.device, prefix.cache.capacity - prefix.length

        def nothing() -> torch.Tensor:
            raise AssertionError('not captured')

        return _Step(
            torch.zeros(rows, dtype=torch.int64, device=device),
            torch.zeros((3, rows), dtype=torch.int64, device=device),
            torch.zeros((rows, width), device=device),
            torch.zeros(rows, dtype=torch.int64, device=device),
            nothing,
        )

    def _fill(
        self,
        step: _Step,
        ids: torch.Tensor,
        positions: torch.Tensor,
        seen: torch.Tensor,
        start: int,
    ) -> None:
        """Write one step's inputs into the buffers."""
        bias = torch.full(step.bias.shape, -torch.inf)
        bias[:, : seen.shape[1]][seen] = 0.0
        step.ids.copy_(ids)
        step.positions.copy_(positions)
        step.bias.copy_(bias)
        step.slots.copy_(torch.arange(start, start + len(ids)))

    def _work(self, step: _Step) -> torch.Tensor:
        """Run the step on its buffers."""
        prefix = self._prefix
        cosines, sines = rotations(prefix.model.backbone, step.positions)
        embeddings = prefix.model.backbone.get_input_embeddings()(step.ids)
        run = TokenRun(step.slots, prefix.cache.capacity, embeddings, cosines, sines, step.bias)
        run, _ = prefix.decoder.early_layers(run, prefix.cache)
        return prefix.decoder.language_logits(prefix.decoder.late_layers(run, prefix.cache))
