# SPDX-License-Identifier: Apache-2.0
"""
Several continuations of one clip in one sequence, behind the prefix that they share.

The two tasks and all rounds of a sample differ only in what follows the prefix. They are laid out
one after another as branches; a mask lets each see the prefix and itself, and its positions go on
where the prefix ends. Losses and gradients are those of separate sequences, at a fraction of the
work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from armor_ros.errors import ArmorError
from armor_ros.model.preprocessing import VisionInput
from armor_ros.model.prompts import PrefixTokens

# What cross_entropy leaves out.
IGNORED = -100
# Branch numbers: of the prefix, and of padding.
_PREFIX, _PADDING = 0, -1


@dataclass(frozen=True, slots=True)
class Branch:
    """
    One prompt behind a clip's prefix, and what the model should answer to it.

    ``failed`` is the true label where the classification head is asked. ``answer`` holds the
    tokens, the end token included, that the language head should say. ``round`` tells refinement
    rounds apart in the figures. Exactly one of ``failed`` and ``answer`` is given. ``asked`` tells
    which tokens of the answer the language head should say where it is told the others; empty
    means all.
    """

    suffix: tuple[int, ...]
    failed: bool | None = None
    answer: tuple[int, ...] = ()
    round: int = 0
    asked: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if (self.failed is None) == (not self.answer):
            raise ArmorError('a branch needs either a label or an answer')
        if not self.suffix:
            raise ArmorError('a branch needs a prompt of at least one token')
        if self.asked and (len(self.asked) != len(self.answer) or not any(self.asked)):
            raise ArmorError('a branch tells of each token of its answer whether it is asked for')


@dataclass(frozen=True, slots=True)
class Clip:
    """
    What a sample shows and asks, before any branch.

    ``vision`` is for the vision tower; ``embeddings`` (tokens, H) stand in its place where the
    tower is frozen and its answers are kept. ``positions`` (3, L) and ``next_position`` are those
    of ``ArmorModel.prefix_positions``.
    """

    prefix: PrefixTokens
    vision: VisionInput
    positions: torch.Tensor
    next_position: int
    embeddings: torch.Tensor | None = None

    @property
    def vision_tokens(self) -> int:
        """Tokens that stand for pictures."""
        return self.length - len(self.prefix.before) - len(self.prefix.after)

    @property
    def length(self) -> int:
        """Tokens of the prefix."""
        return int(self.positions.shape[1])


@dataclass(frozen=True, slots=True)
class PackedSample:
    """A clip and its branches."""

    clip: Clip
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """
    B samples, padded at the end to S tokens.

    ``ids`` (B, S) with 0 where pictures and padding stand; ``pictures`` (B, S) bool; ``positions``
    (3, B, S); ``branch`` (B, S): 0 prefix, k the k-th branch, -1 padding; ``targets`` (B, S) the
    token that should follow, IGNORED elsewhere. ``patches`` (P, D) and ``grids`` (C, 3) are the
    input of the vision tower for all rows whose pictures are not in ``embeddings`` (N, H), which
    is None where none are; either all rows are kept or none. Patches of images hold one frame,
    which stands for all of its step.

    ``detections`` (D, 3) int64: row, branch, round of each question to the classification head;
    ``failed`` (D,) bool its answer. ``reasonings`` (E, 3) likewise for the language head.
    """

    ids: torch.Tensor
    pictures: torch.Tensor
    positions: torch.Tensor
    branch: torch.Tensor
    targets: torch.Tensor
    patches: torch.Tensor
    grids: torch.Tensor
    embeddings: torch.Tensor | None
    detections: torch.Tensor
    failed: torch.Tensor
    reasonings: torch.Tensor

    @property
    def target_tokens(self) -> int:
        """Tokens that the language head should say."""
        return int((self.targets != IGNORED).sum())

    def to(self, device: torch.device) -> PackedBatch:
        """Return the batch on another device."""
        moved = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in ((name, getattr(self, name)) for name in self.__slots__)
        }
        return PackedBatch(**moved)


def pack(samples: Sequence[PackedSample]) -> PackedBatch:
    """Lay out samples side by side; raises ArmorError when there are none."""
    if not samples:
        raise ArmorError('a batch needs at least one sample')
    rows = [_Row(sample) for sample in samples]
    longest = max(len(row.ids) for row in rows)
    kept = [row.clip.embeddings for row in rows]
    if any(each is None for each in kept) and any(each is not None for each in kept):
        raise ArmorError('a batch mixes clips with and without kept embeddings')
    cached = [each for each in kept if each is not None]
    shown = [] if cached else [row.clip.vision for row in rows]
    return PackedBatch(
        ids=_stack([row.ids for row in rows], longest, 0),
        pictures=_stack([row.pictures for row in rows], longest, 0).bool(),
        positions=torch.stack(
            [_pad(torch.cat(row.positions, dim=1), longest) for row in rows], dim=1
        ),
        branch=_stack([row.branch for row in rows], longest, _PADDING),
        targets=_stack([row.targets for row in rows], longest, IGNORED),
        patches=_patches(shown),
        grids=torch.tensor([each.grid for each in shown]).view(-1, 3),
        embeddings=torch.cat(cached) if cached else None,
        detections=_questions(rows, asks_label=True),
        failed=torch.tensor(
            [b.failed for row in rows for b in row.branches if b.failed is not None],
            dtype=torch.bool,
        ),
        reasonings=_questions(rows, asks_label=False),
    )


def tree_mask(branch: torch.Tensor) -> torch.Tensor:
    """
    Return the (B, 1, S, S) boolean mask of ``PackedBatch.branch``; True means attend.

    A token sees those of the prefix and of its own branch at or before it. Padding sees itself.
    """
    size = branch.shape[1]
    keys, queries = branch[:, None, None, :], branch[:, None, :, None]
    order = torch.arange(size, device=branch.device)
    before = order <= order[:, None]
    visible = ((keys == _PREFIX) | (keys == queries)) & (keys != _PADDING) & before
    return visible | (order == order[:, None])


class _Row:
    """One sample's tokens in their order."""

    def __init__(self, sample: PackedSample) -> None:
        clip = sample.clip
        self.clip = clip
        self.branches = sample.branches
        before, after = list(clip.prefix.before), list(clip.prefix.after)
        shown = clip.vision_tokens
        self.ids = [*before, *[0] * shown, *after]
        self.pictures = [*[0] * len(before), *[1] * shown, *[0] * len(after)]
        self.branch = [_PREFIX] * len(self.ids)
        self.targets = [IGNORED] * len(self.ids)
        self.positions = [clip.positions.cpu()]
        for number, branch in enumerate(sample.branches, 1):
            self._add(number, branch)

    def _add(self, number: int, branch: Branch) -> None:
        # The last token of an answer is only ever predicted.
        spoken = branch.answer[:-1]
        ids = [*branch.suffix, *spoken]
        silent = [IGNORED] * (len(branch.suffix) - 1)
        self.ids += ids
        self.pictures += [0] * len(ids)
        self.branch += [number] * len(ids)
        asked = branch.asked or (True,) * len(branch.answer)
        said = [
            token if wanted else IGNORED
            for token, wanted in zip(branch.answer, asked, strict=True)
        ]
        self.targets += [*silent, *(said or [IGNORED])]
        start = self.clip.next_position
        self.positions.append(torch.arange(start, start + len(ids)).expand(3, -1))


def _patches(shown: Sequence[VisionInput]) -> torch.Tensor:
    if not shown:
        return torch.zeros(0, 0)
    if any(each.is_video for each in shown):
        return torch.cat([each.patches for each in shown])
    return torch.cat([each.first_frame() for each in shown])


def _questions(rows: Sequence[_Row], *, asks_label: bool) -> torch.Tensor:
    found = [
        (index, number, branch.round)
        for index, row in enumerate(rows)
        for number, branch in enumerate(row.branches, 1)
        if (branch.failed is not None) == asks_label
    ]
    return torch.tensor(found, dtype=torch.int64).view(-1, 3)


def _stack(rows: Sequence[Sequence[int]], longest: int, filler: int) -> torch.Tensor:
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


def _pad(positions: torch.Tensor, longest: int) -> torch.Tensor:
    missing = longest - positions.shape[1]
    return torch.cat([positions, positions.new_zeros((3, missing))], dim=1)
