# SPDX-License-Identifier: Apache-2.0
"""
The vision tower on grids that come again and again, which a GPU can replay as one graph.

How much this gains on a GPU has not been measured yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from armor_ros.inference.static_steps import Work
from armor_ros.model.preprocessing import VisionInput
from armor_ros.model.vision_tower import VisionTower

# A stream has one grid for each number of steps at once, a collage one more.
_MOST_GRIDS = 8

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Graph:
    """The patches that a captured forward reads, and how to run it."""

    patches: torch.Tensor
    replay: Work


class StaticVision:
    """The vision tower, captured once for each grid by ``capture``."""

    def __init__(self, tower: VisionTower, capture: Callable[[Work], Work]) -> None:
        self._tower = tower
        self._capture = capture
        self._is_usable = True
        self._graphs: dict[tuple[int, int, int], _Graph] = {}

    def encode(self, vision: VisionInput) -> torch.Tensor:
        """Return the (tokens, H) embeddings of a clip or an image."""
        patches, grid = self._tower.patches(vision), vision.grid
        graph = self._graph(patches, grid)
        if graph is None:
            return self._tower.encode(patches, grid)
        graph.patches.copy_(patches)
        # The next replay overwrites what this one returns.
        return graph.replay().clone()

    def _graph(self, patches: torch.Tensor, grid: tuple[int, int, int]) -> _Graph | None:
        """Return the graph of a grid, captured now if need be; None where there is none."""
        if grid in self._graphs or not self._is_usable or len(self._graphs) == _MOST_GRIDS:
            return self._graphs.get(grid)
        self._tower.plan(grid)  # waits for the device, which a capture must not
        own = patches.clone()
        try:
            replay = self._capture(lambda: self._tower.encode(own, grid))
        except RuntimeError as error:
            self._is_usable = False
            _logger.warning('encoding frames kernel by kernel: it cannot be captured (%s)', error)
            return None
        self._graphs[grid] = _Graph(own, replay)
        return self._graphs[grid]
