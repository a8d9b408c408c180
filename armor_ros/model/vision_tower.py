# SPDX-License-Identifier: Apache-2.0
"""
Qwen2.5-VL's vision tower, block by block, with everything that depends on sizes alone done once.

transformers' own forward asks the device for the sizes of the windows in each block, and attends
to them one by one. Here windows are padded to one size and attended to together; shapes are fixed
by the grid, so that a GPU can be given the whole forward at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from armor_ros.model.attention import attend_and_learn
from armor_ros.model.preprocessing import VisionInput


@dataclass(frozen=True, slots=True)
class _Plan:
    """
    What N patches of one step need that does not depend on the pixels.

    ``cosines`` and ``sines`` (N, 1, size) float32; ``slots`` (W * K,) the patch in each place of
    the windows, ``places`` (N,) the place of each patch, ``filled`` (W, 1, 1, K) bool which places
    hold one, None when all do.
    """

    cosines: torch.Tensor
    sines: torch.Tensor
    slots: torch.Tensor
    places: torch.Tensor
    filled: torch.Tensor | None
    windows: int


class VisionTower:
    """Runs steps of a clip, or an image, through the modules of a backbone's vision tower."""

    def __init__(self, visual: Any) -> None:
        self._visual = visual
        config = visual.config
        self._heads = config.num_heads
        self._merge = config.spatial_merge_size
        # Merged tokens on a side of a window.
        self._side = config.window_size // config.spatial_merge_size // config.patch_size
        self._whole = frozenset(config.fullatt_block_indexes)
        self._plans: dict[tuple[int, int], _Plan] = {}

    def patches(self, vision: VisionInput) -> torch.Tensor:
        """Return a clip's patches where and in the precision that the tower takes them."""
        weight = self._visual.patch_embed.proj.weight
        return vision.patches.to(weight.device, weight.dtype)

    def encode(self, patches: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        """
        Return the (tokens, H) embeddings of S * N patches.

        ``grid`` is (S, height, width) in patches; N is height * width. Attention stays inside of
        a step. A patch holds the pixels of all frames of its step, or of one, which then stands
        for all: an image's frames are equal.
        """
        visual, steps = self._visual, grid[0]
        plan = self.plan(grid)
        hidden = self._embed(patches)
        for index, block in enumerate(visual.blocks):
            rows = block.norm1(hidden)
            qkv = block.attn.qkv(rows).view(steps, -1, 3, self._heads, plan.cosines.shape[-1])
            if index in self._whole:
                attended = _attend(_rotated(qkv, plan), None)
            else:
                attended = self._in_windows(_rotated(qkv, plan), plan)
            hidden = hidden + block.attn.proj(attended.reshape(len(hidden), -1))
            hidden = hidden + block.mlp(block.norm2(hidden))
        embeddings: torch.Tensor = visual.merger(hidden)
        return embeddings

    def encode_all(self, patches: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
        """
        Return the (tokens, H) embeddings of several clips or images, one after another.

        ``grids`` (C, 3) are their grids. Neighbours of one size go through the tower together.
        """
        runs: list[tuple[int, int, int]] = []
        for steps, height, width in grids.tolist():
            if runs and runs[-1][1:] == (height, width):
                steps += runs.pop()[0]
            runs.append((steps, height, width))
        pieces = patches.split([math.prod(grid) for grid in runs])
        return torch.cat([self.encode(*each) for each in zip(pieces, runs, strict=True)])

    def plan(self, grid: tuple[int, int, int]) -> _Plan:
        """Return what a grid needs, on the tower's device."""
        size = grid[1:]
        if size not in self._plans:
            self._plans[size] = self._make_plan(*size)
        return self._plans[size]

    def _make_plan(self, height: int, width: int) -> _Plan:
        visual, merge = self._visual, self._merge
        device = visual.patch_embed.proj.weight.device
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
        # Patches come in the order of the tokens that they are merged to.
        blocks = (height // merge, merge, width // merge, merge)
        rows = rows.reshape(blocks).transpose(1, 2).flatten()
        columns = columns.reshape(blocks).transpose(1, 2).flatten()
        frequencies = visual.rotary_pos_emb.inv_freq.to('cpu', torch.float32)
        angles = torch.stack([rows, columns], dim=1)[..., None] * frequencies
        angles = torch.cat([angles.flatten(1)] * 2, dim=1)[:, None]
        side = merge * self._side
        across = -(-width // side)
        window = rows // side * across + columns // side
        counts = window.bincount()
        order = window.argsort(stable=True)
        first = counts.cumsum(0) - counts
        inside = torch.arange(len(order)) - first[window[order]]
        places = torch.empty_like(order)
        places[order] = window[order] * int(counts.max()) + inside
        slots = torch.zeros(len(counts) * int(counts.max()), dtype=torch.int64)
        slots[places] = torch.arange(len(places))
        filled = torch.zeros(len(slots), dtype=torch.bool)
        filled[places] = True
        return _Plan(
            angles.cos().to(device),
            angles.sin().to(device),
            slots.to(device),
            places.to(device),
            None if filled.all() else filled.view(len(counts), 1, 1, -1).to(device),
            len(counts),
        )

    def _embed(self, patches: torch.Tensor) -> torch.Tensor:
        """
        Return the (N, vision hidden) rows of patches.

        A convolution whose steps are as long as its kernel is one product of matrices, which is
        faster, most of all backward.
        """
        projection = self._visual.patch_embed.proj
        weight = projection.weight
        if patches.shape[1] * weight.shape[2] == weight[0].numel():
            weight = weight.sum(dim=2)
        return functional.linear(patches, weight.flatten(1), projection.bias)

    def _in_windows(self, qkv: torch.Tensor, plan: _Plan) -> torch.Tensor:
        """Attend inside of windows: (3, S, N, heads, size) to (S, N, heads * size)."""
        steps = qkv.shape[1]
        tiled = qkv[:, :, plan.slots].unflatten(2, (plan.windows, -1)).flatten(1, 2)
        mask = None if plan.filled is None else plan.filled.repeat(steps, 1, 1, 1)
        attended = _attend(tiled, mask)
        return attended.view(steps, len(plan.slots), -1)[:, plan.places]


def _rotated(qkv: torch.Tensor, plan: _Plan) -> torch.Tensor:
    """Rotate queries and keys of (S, N, 3, heads, size); return (3, S, N, heads, size)."""
    queries_keys, values = qkv[:, :, :2].float(), qkv[:, :, 2]
    first, second = queries_keys.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    rotated = queries_keys * plan.cosines[:, None] + turned * plan.sines[:, None]
    return torch.cat([rotated.to(qkv.dtype), values[:, :, None]], dim=2).permute(2, 0, 1, 3, 4)


def _attend(qkv: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Attend among the K tokens of each of B rows: (3, B, K, heads, size) to (B, K, H)."""
    queries, keys, values = qkv.transpose(2, 3).unbind(0)
    attended = attend_and_learn(queries, keys, values, mask, queries.shape[-1] ** -0.5)
    return attended.transpose(1, 2).flatten(2)
