# SPDX-License-Identifier: Apache-2.0
"""
Supervision by the simulator's state, for backbones that start from random weights.

A small vision tower does not find out by itself that a can of ten pixels matters; asked where each
named thing is at each time step, it does. The questions are put to the vision tokens of one time
step by cross-attention; the head that asks is thrown away after training.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from armor_ros.episodes.collage import sample_indices
from armor_ros.errors import ArmorError
from armor_ros.inference.episode_input import EpisodeInput
from armor_ros.model.armor import ArmorModel

# Words of things' names are told apart by a hash: collisions among a few dozen are rare.
_WORDS = 1024
_ROBOT = 'robot gripper'
# A question's answer: place (3), turn (2) or width and closing of the gripper, touched.
_VALUES = 7
# Tokens of one time step that have a place of their own.
_PLACES = 1024


@dataclass(frozen=True, slots=True)
class StateTargets:
    """
    What is true of K things at S time steps of a clip.

    ``steps`` (N,) int64 says which step each of the N vision tokens shows, -1 for none; ``words``
    (K, 2) int64 are hashed words of the things' names, the robot's first; ``values`` (S, K, 7)
    what is asked about each, in units near 1, and ``known`` (K, 7) which of these apply.
    """

    steps: torch.Tensor
    words: torch.Tensor
    values: torch.Tensor
    known: torch.Tensor

    def to(self, device: torch.device) -> StateTargets:
        """Return the targets on another device."""
        return StateTargets(
            self.steps.to(device),
            self.words.to(device),
            self.values.to(device),
            self.known.to(device),
        )


def state_targets(
    arrays: Mapping[str, npt.NDArray[Any]],
    names: Sequence[str],
    shown: EpisodeInput,
    model: ArmorModel,
) -> StateTargets:
    """
    Return the state at the time steps of an input.

    ``arrays`` are those of the manifest's state file, a row a frame; ``names`` those of its items.
    """
    steps, height, width = shown.vision.grid
    merge = model.geometry.merge_size
    height, width = height // merge, width // merge
    if shown.views is None:
        frames = _clip_frames(len(arrays['tcp']), steps, model.geometry.temporal_patch_size)
        owners = torch.arange(steps).repeat_interleave(height * width)
    else:
        columns = model.config.collage.columns
        if model.config.collage.selection != 'uniform':
            raise ArmorError(
                f'collage.selection is {model.config.collage.selection!r}; the state supervises '
                'only collages of uniform time steps. Set auxiliary to 0, or selection to uniform'
            )
        frames = np.array(sample_indices(len(arrays['tcp']), columns))
        # A token may show the seam of two columns: it belongs to the one of its middle.
        column = ((torch.arange(width) + 0.5) * columns / width).long()
        column = torch.where(column < len(frames), column, -1)
        owners = column.repeat(height)
    values, known = _values(arrays, np.clip(frames, 0, len(arrays['tcp']) - 1), len(names))
    words = torch.tensor([_hash(name) for name in (_ROBOT, *names)])
    return StateTargets(owners, words, values, known)


class StateHead(nn.Module):
    """
    Answers questions about the state from the vision tokens of a time step.

    The tokens are told apart by their places in the step, so that they need not say where in the
    picture they are, only what they show.
    """

    def __init__(self, hidden_size: int, heads: int = 4) -> None:
        super().__init__()
        self.words = nn.Embedding(_WORDS, hidden_size)
        self.places = nn.Embedding(_PLACES, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.attention = nn.MultiheadAttention(hidden_size, heads, batch_first=True)
        self.answer = nn.Sequential(
            nn.LayerNorm(hidden_size),
            nn.Linear(hidden_size, 2 * hidden_size),
            nn.GELU(),
            nn.Linear(2 * hidden_size, _VALUES),
        )

    def loss(
        self, vision: torch.Tensor, states: Sequence[StateTargets]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the summed smooth-L1 loss over all questions, and their number.

        ``vision`` (N, H) are the embeddings of all clips of the batch, one after another.
        """
        counts = torch.tensor([len(state.values) for state in states])
        tokens, filled = self._by_step(vision, states, counts)
        things = max(len(state.words) for state in states)
        words = torch.stack([_padded(state.words, things, 0) for state in states])
        known = torch.stack([_padded(state.known, things, 0) for state in states])
        values = torch.cat([_padded(state.values, things, 1) for state in states])
        owner = torch.arange(len(states)).repeat_interleave(counts).to(vision.device)
        queries = self.words(words).sum(dim=2)[owner]
        heard, _ = self.attention(
            queries, tokens, tokens, key_padding_mask=~filled, need_weights=False
        )
        found = self.answer(heard + queries).float()
        errors = functional.smooth_l1_loss(found, values, reduction='none', beta=0.1)
        asked = known[owner]
        return (errors * asked).sum(), asked.sum().float()

    def _by_step(
        self, vision: torch.Tensor, states: Sequence[StateTargets], counts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the (S, n, H) tokens of all S time steps, and (S, n) which of them are there."""
        first = counts.cumsum(0) - counts
        steps = torch.cat([
            torch.where(state.steps < 0, -1, state.steps + start.to(state.steps))
            for state, start in zip(states, first, strict=True)
        ])  # fmt: skip
        shown = (steps >= 0).nonzero()[:, 0]
        order = shown[steps[shown].argsort(stable=True)]
        of_step = steps[order].bincount(minlength=int(counts.sum()))
        begin = of_step.cumsum(0) - of_step
        place = torch.arange(len(order), device=order.device) - begin[steps[order]]
        size = (len(of_step), int(of_step.max()))
        tokens = self.norm(vision[order]) + self.places(place % _PLACES)
        grid = tokens.new_zeros(*size, vision.shape[1])
        grid = grid.index_put((steps[order], place), tokens)
        filled = torch.zeros(size, dtype=torch.bool, device=order.device)
        filled[steps[order], place] = True
        return grid, filled


def _padded(rows: torch.Tensor, size: int, axis: int) -> torch.Tensor:
    """Lengthen an axis with zeros."""
    missing = list(rows.shape)
    missing[axis] = size - rows.shape[axis]
    return torch.cat([rows, rows.new_zeros(missing)], dim=axis)


def _clip_frames(count: int, steps: int, per_step: int) -> npt.NDArray[np.int64]:
    """Return the last frame of each temporal patch."""
    last = np.arange(1, steps + 1) * per_step - 1
    return np.minimum(last, count - 1)


def _values(
    arrays: Mapping[str, npt.NDArray[Any]], frames: npt.NDArray[Any], count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.zeros(len(frames), 1 + count, _VALUES)
    known = torch.zeros(1 + count, _VALUES, dtype=torch.bool)

    def column(name: str) -> torch.Tensor:
        return torch.from_numpy(np.asarray(arrays[name][frames], np.float32))

    yaw = column('yaw')
    values[:, 0, :3] = column('tcp') * 5
    values[:, 0, 3], values[:, 0, 4] = yaw.cos(), yaw.sin()
    values[:, 0, 5] = column('width') * 20
    values[:, 0, 6] = column('closing')
    known[0] = True
    values[:, 1:, :3] = column('items') * 5
    values[:, 1:, 6] = column('touched').amax(dim=-1)
    known[1:, :3] = known[1:, 6] = True
    return values, known


def _hash(name: str) -> list[int]:
    words = [zlib.crc32(word.encode()) % _WORDS for word in name.split()]
    return [words[0], words[-1]]
