# SPDX-License-Identifier: Apache-2.0
"""
Supervision by the simulator's state, for backbones that start from random weights.

A small vision tower does not find out by itself that a can of ten pixels matters; asked where each
named thing is at each time step, it does. Every vision token of a time step is asked, most of all
whether it shows the thing: asked only where things are in the room, a tower needs many times as
long to find out which pixels a name means. The head that asks is thrown away after training.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
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
# A question's answer: the gripper's turn (2) and width; whether it closes, or a thing is touched.
_VALUES = 4
_TOUCHED = 3
# Tokens of one time step that have a place of their own, and the width of what is asked.
_PLACES = 1024
_INNER = 128
_NEVER = -1e4
# What a word can be to a token: of a thing that it shows, or shows to be touched, or of the place
# that the gripper, which it shows, is above. As rare as the latter are, they count more.
_TAGS = 3
_TAG_WEIGHTS = (1.0, 3.0, 3.0)
_NO_WORD = -1
# The logit of one word of all to a token, before anything is known.
_RARE = -7.0


@dataclass(frozen=True, slots=True)
class StateTargets:
    """
    What is true of K things at S time steps of a clip.

    ``steps`` (N,) int64 says which step each of the N vision tokens shows, -1 for none; ``words``
    (K, 2) int64 are hashed words of the things' names, the robot's first; ``values`` (S, K, 4)
    what is asked about each, in units near 1, and ``known`` (K, 4) which of these apply.
    ``seen`` (V, S, K, 2) is where the V views show each thing, from the left and from the top, in
    sides of the view: from 0 to 1 inside of it; NaN where that is not known. ``views`` (N,) int64
    is the view that a token shows, ``corners`` (N, 2) where in it the token begins, and ``sides``
    (2,) how much of it a token covers. ``above`` (S, 2) are hashed words of the place that the
    gripper is above, -1 where that is not known.
    """

    steps: torch.Tensor
    words: torch.Tensor
    values: torch.Tensor
    known: torch.Tensor
    seen: torch.Tensor
    views: torch.Tensor
    corners: torch.Tensor
    sides: torch.Tensor
    above: torch.Tensor

    @property
    def places(self) -> torch.Tensor:
        """Where each token (N, K, 2) shows each thing, in its sides: 0 to 1 inside of it."""
        return (self.seen[self.views, self.steps] - self.corners[:, None]) / self.sides

    @property
    def questions(self) -> int:
        """How often something is asked about a thing: at each step about each."""
        return self.values.shape[0] * self.values.shape[1]

    def tags(self, vocabulary: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return what each of M hashed words is to each token.

        That is (N, 3, M) bool: a word of a thing that the token shows; of one that it shows and
        the gripper touches; of the place that the gripper is above, where the token shows the
        gripper. And (N, 3) whether that is known.
        """
        places, steps = self.places, self.steps
        finite = torch.isfinite(places).all(dim=-1)
        inside = finite & (places >= 0).all(dim=-1) & (places < 1).all(dim=-1)
        touched = self.values[..., _TOUCHED] > 0.5
        touched[:, 0] = False
        named = (self.words[..., None] == vocabulary).any(dim=1).float()
        above = (self.above[..., None] == vocabulary).any(dim=1)
        tags = [
            inside.float() @ named > 0,
            (inside & touched[steps]).float() @ named > 0,
            inside[:, :1] & above[steps],
        ]
        seen = finite.any(dim=1) & (steps >= 0)
        has_place = seen & (self.above[steps] != _NO_WORD).all(dim=1)
        return torch.stack(tags, dim=1), torch.stack([seen, seen, has_place], dim=1)

    def to(self, device: torch.device) -> StateTargets:
        """Return the targets on another device."""
        moved = {each.name: getattr(self, each.name).to(device) for each in fields(self)}
        return StateTargets(**moved)


def state_targets(
    arrays: Mapping[str, npt.NDArray[Any]],
    names: Sequence[str],
    shown: EpisodeInput,
    model: ArmorModel,
    cameras: Sequence[str],
) -> StateTargets:
    """
    Return the state at the time steps of an input.

    ``arrays`` are those of the manifest's state file, a row a frame; ``names`` those of its
    items; ``cameras`` the sample's, of which a clip shows the first.
    """
    steps, height, width = shown.vision.grid
    merge = model.geometry.merge_size
    height, width = height // merge, width // merge
    count = len(arrays['tcp'])
    if shown.views is None:
        frames = _clip_frames(count, steps, model.geometry.temporal_patch_size)
        views, columns = tuple(cameras[:1]), 1
        owners = torch.arange(steps).repeat_interleave(height * width)
    else:
        views, columns = shown.views, model.config.collage.columns
        if model.config.collage.selection != 'uniform':
            raise ArmorError(
                f'collage.selection is {model.config.collage.selection!r}; the state supervises '
                'only collages of uniform time steps. Set auxiliary to 0, or selection to uniform'
            )
        frames = np.array(sample_indices(count, columns))
        column = _middles(width, columns)
        owners = torch.where(column < len(frames), column, -1).repeat(height)
    frames = np.clip(frames, 0, count - 1)
    values, known = _values(arrays, frames, len(names))
    words = torch.tensor([_hash(name) for name in (_ROBOT, *names)])
    unknown = np.full((count, len(words), 2), np.nan)
    seen = np.stack([arrays.get(f'places_{view}', unknown)[frames] for view in views])
    tokens, corners, sides = _cells(height, width, len(views), columns)
    repeats = len(owners) // len(tokens)
    return StateTargets(
        owners,
        words,
        values,
        known,
        torch.from_numpy(seen.astype(np.float32)),
        tokens.repeat(repeats),
        corners.repeat(repeats, 1),
        sides,
        _above(arrays, frames),
    )


def state_facts(
    arrays: Mapping[str, npt.NDArray[Any]], names: Sequence[str]
) -> tuple[tuple[str, bool], ...]:
    """
    Return what the gripper takes and where it lets go: each name, and whether it is one of those.

    An item is taken when both fingers touch it. The robot lets go above the place where it is
    when it last holds an item, unless that is at the end. ``names`` are those of the state's
    items; without arrays ``above`` and ``regions`` nothing is said of places.
    """
    fingers = np.asarray(arrays['touched'], np.bool_)
    held: npt.NDArray[np.bool_] = fingers[..., 0] & fingers[..., 1]
    facts = [(name, bool(own.any())) for name, own in zip(names, held.T, strict=True)]
    if 'above' not in arrays:
        return tuple(facts)
    holding = np.flatnonzero(held.any(axis=1))
    lets_go = len(holding) and holding[-1] < len(held) - 1
    place = arrays['above'][holding[-1]] if lets_go else ''
    return (
        *facts,
        *((f'above the {name}', bool(name == place)) for name in arrays['regions'][0]),
    )


class StateHead(nn.Module):
    """
    Answers questions about the state from the vision tokens of a time step.

    Each token is asked whether it shows a thing, where in it, and what is true of the thing; the
    tokens' word on the latter counts by how sure they are to show it. Tokens are told apart by
    their places in the step, so that they need not say where in the picture they are.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(_WORDS, _INNER)
        self.places = nn.Embedding(_PLACES, _INNER)
        for table in (self.words, self.places):
            nn.init.normal_(table.weight, std=0.3)
        self.norm = nn.LayerNorm(hidden_size)
        self.token = nn.Linear(hidden_size, _INNER)
        self.gate = nn.Linear(_INNER, _INNER)
        self.mix = nn.Linear(_INNER, _INNER)
        self.answer = nn.Linear(_INNER, _VALUES + 3)
        self.tags = nn.Embedding(_WORDS, _TAGS * hidden_size)
        self.rare = nn.Parameter(torch.full((_TAGS, 1), _RARE))
        nn.init.normal_(self.tags.weight, std=hidden_size**-0.5)

    def loss(
        self, vision: torch.Tensor, states: Sequence[StateTargets]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the summed loss over all questions, and their number.

        A question's loss is the mean smooth-L1 error of the values that are known, and where the
        places are, twice the mean cross-entropy of "this token shows it" and the mean error of
        its place in the tokens that do. To a clip's mean comes its ``tag_loss``. ``vision``
        (N, H) are the embeddings of all clips of the batch, one after another.
        """
        counts = torch.tensor([len(state.values) for state in states])
        order, filled, slots = _by_step(states, counts)
        things = max(len(state.words) for state in states)
        words = torch.stack([_padded(state.words, things, 0) for state in states])
        known = torch.stack([_padded(state.known, things, 0) for state in states])
        values = torch.cat([_padded(state.values, things, 1) for state in states])
        places = torch.cat([_padded(state.places, things, 1) for state in states])
        owner = torch.arange(len(states)).repeat_interleave(counts).to(vision.device)
        tokens = self.token(self.norm(vision[order])) + self.places(slots[1] % _PLACES)
        tokens = _spread(tokens, slots, filled)
        answers = self._ask(tokens, self.words(words).sum(dim=2)[owner]).float()
        said, sure, seen = answers.split([_VALUES, 1, 2], dim=-1)
        sure = sure[..., 0].masked_fill(~filled[:, None], _NEVER)
        found = (sure.softmax(dim=-1)[..., None] * said).sum(dim=2)
        errors = functional.smooth_l1_loss(found, values, reduction='none', beta=0.1)
        asked = known[owner]
        loss = (errors * asked).sum(dim=-1) / asked.sum(dim=-1).clamp(min=1)
        places = _spread(places[order], slots, filled).transpose(1, 2)
        loss = loss + 2.0 * _place_loss(sure, seen, places, filled)
        real = asked.any(dim=-1)
        questions, total = real.sum().float(), (loss * real).sum()
        tagged = vision.split([len(state.steps) for state in states])
        for tokens, state in zip(tagged, states, strict=True):
            total = total + self.tag_loss(tokens, state) * state.questions
        return total, questions

    def tag_loss(self, vision: torch.Tensor, state: StateTargets) -> torch.Tensor:
        """
        Return the mean loss over the (N, H) tokens of a clip that are asked for words.

        A linear layer answers. For a token it is the weighted sum of cross-entropies over what
        words can be to it (see ``StateTargets.tags``) and over all words that there are, so that
        it does not depend on the company in which a clip comes.
        """
        true, known = state.tags(torch.arange(_WORDS, device=vision.device))
        tags = self.tags.weight.unflatten(-1, (_TAGS, -1))
        said = torch.einsum('nh,mth->ntm', self.norm(vision), tags).float() + self.rare
        wrong = functional.binary_cross_entropy_with_logits(said, true.float(), reduction='none')
        weights = wrong.new_tensor(_TAG_WEIGHTS) * known
        return (wrong.sum(dim=-1) * weights).sum() / known.any(dim=1).sum().clamp(min=1)

    def _ask(self, tokens: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Return the (S, K, n, 7) answers of (S, n, I) tokens to (S, K, I) queries."""
        mixed = functional.gelu(tokens[:, None] + queries[:, :, None])
        mixed = mixed * (1.0 + self.gate(queries))[:, :, None]
        answers: torch.Tensor = self.answer(functional.gelu(self.mix(mixed)))
        return answers


def _place_loss(
    sure: torch.Tensor, seen: torch.Tensor, places: torch.Tensor, filled: torch.Tensor
) -> torch.Tensor:
    """Return the (S, K) loss on where things are seen; see ``StateHead.loss``."""
    known = torch.isfinite(places).all(dim=-1) & filled[:, None]
    inside = known & (places >= 0).all(dim=-1) & (places < 1).all(dim=-1)
    wrong = functional.binary_cross_entropy_with_logits(sure, inside.float(), reduction='none')
    shown = (wrong * known).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)
    target = torch.where(inside[..., None], places, seen.detach())
    apart = functional.smooth_l1_loss(seen, target, reduction='none', beta=0.1).mean(dim=-1)
    return shown + (apart * inside).sum(dim=-1) / inside.sum(dim=-1).clamp(min=1)


def _by_step(
    states: Sequence[StateTargets], counts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """
    Return how the batch's tokens are laid out in a grid of S time steps and n places.

    That is the order of those that belong to a step, (S, n) where the grid is filled, and the
    step and the place of each.
    """
    first = counts.cumsum(0) - counts
    steps = torch.cat([
        torch.where(state.steps < 0, -1, state.steps + start.to(state.steps))
        for state, start in zip(states, first, strict=True)
    ])  # fmt: skip
    shown = (steps >= 0).nonzero()[:, 0]
    order = shown[steps[shown].argsort(stable=True)]
    step = steps[order]
    of_step = step.bincount(minlength=int(counts.sum()))
    place = torch.arange(len(order), device=order.device) - (of_step.cumsum(0) - of_step)[step]
    filled = torch.arange(int(of_step.max()), device=order.device) < of_step[:, None]
    return order, filled, (step, place)


def _spread(
    rows: torch.Tensor, slots: tuple[torch.Tensor, torch.Tensor], filled: torch.Tensor
) -> torch.Tensor:
    """Lay rows out in a grid of steps and places, zeros where it is not filled."""
    return rows.new_zeros(*filled.shape, *rows.shape[1:]).index_put(slots, rows)


def _padded(rows: torch.Tensor, size: int, axis: int) -> torch.Tensor:
    """Lengthen an axis with zeros."""
    missing = list(rows.shape)
    missing[axis] = size - rows.shape[axis]
    return torch.cat([rows, rows.new_zeros(missing)], dim=axis)


def _cells(
    height: int, width: int, rows: int, columns: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Return how height x width tokens show the cells of a picture, one view a row.

    That is the view (N,) of each token, its corner (N, 2) in sides of its cell, and how much of a
    cell's sides a token covers, (2,).
    """
    sides = torch.tensor([columns / width, rows / height])
    row, column = _middles(height, rows), _middles(width, columns)
    left = torch.arange(width) * sides[0] - column
    top = torch.arange(height) * sides[1] - row
    corners = torch.stack([left.repeat(height), top.repeat_interleave(width)], dim=1)
    return row.repeat_interleave(width), corners, sides


def _middles(tokens: int, cells: int) -> torch.Tensor:
    """Return the cell that holds the middle of each of a row of tokens, which may show a seam."""
    return ((torch.arange(tokens) + 0.5) * cells / tokens).long()


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
    values[:, 0] = torch.stack(
        [yaw.cos(), yaw.sin(), column('width') * 20, column('closing')], dim=1
    )
    known[0] = True
    values[:, 1:, _TOUCHED] = column('touched').amax(dim=-1)
    known[1:, _TOUCHED] = True
    return values, known


def _above(arrays: Mapping[str, npt.NDArray[Any]], frames: npt.NDArray[Any]) -> torch.Tensor:
    """Return the words (S, 2) of the place that the gripper is above at each step."""
    if 'above' not in arrays:
        return torch.full((len(frames), 2), _NO_WORD)
    return torch.tensor([_hash(str(name)) for name in arrays['above'][frames]])


def mirrored(words: torch.Tensor) -> torch.Tensor:
    """Return hashed words of places as a mirror shows them: left for right."""
    left, right = _hash('left right')
    swapped = torch.where(words == left, right, words)
    return torch.where(words == right, left, swapped)


def _hash(name: str) -> list[int]:
    words = [zlib.crc32(word.encode()) % _WORDS for word in name.split()]
    return [words[0], words[-1]]
