# SPDX-License-Identifier: Apache-2.0
"""What the simulator's state says of a clip: at each time step, and in all."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from armor_ros.episodes.collage import sample_indices
from armor_ros.errors import ArmorError
from armor_ros.inference.episode_input import EpisodeInput
from armor_ros.model.armor import ArmorModel
from armor_ros.training.conditioning import PLACE_ASKED_FOR, THING_ASKED_FOR, Facts
from armor_ros.training.narration import narrate

# Words of things' names are told apart by a hash: collisions among a few dozen are rare.
WORDS = 1024
# A question's answer: the gripper's turn (2) and width; whether it closes, or a thing is touched.
VALUES = 4
# What a word can be to a token: see ``StateTargets.tags``.
TAGS = 3
_ROBOT = 'robot gripper'
_TOUCHED = 3
_NEEDED = ('tcp', 'yaw', 'width', 'closing', 'touched')
_NO_WORD = -1


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

    def tags(self) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return what each of the M = ``WORDS`` hashed words is to each token.

        That is (N, 3, M) bool: a word of a thing that the token shows; of one that it shows and
        the gripper touches; of the place that the gripper is above, where the token shows the
        gripper. And (N, 3) whether that is known.
        """
        places, steps = self.places, self.steps
        vocabulary = torch.arange(WORDS, device=places.device)
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
    _check_arrays(arrays, names, _NEEDED)
    steps, height, width = shown.vision.grid
    merge = model.geometry.merge_size
    height, width = height // merge, width // merge
    count = len(arrays['tcp'])
    frames = shown_frames(count, shown, model)
    if shown.views is None:
        views, columns = tuple(cameras[:1]), 1
        owners = torch.arange(steps).repeat_interleave(height * width)
    else:
        views, columns = shown.views, model.config.collage.columns
        column = _middles(width, columns)
        owners = torch.where(column < len(frames), column, -1).repeat(height)
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
    arrays: Mapping[str, npt.NDArray[Any]],
    names: Sequence[str],
    frames: Iterable[int] = (),
    instruction: str = '',
) -> Facts:
    """
    Return what the gripper takes and where it lets go, and what it does at some of the frames.

    An item is taken, and held, when both fingers touch it. The robot lets go above the place
    where it is when it last holds an item, unless that is at the end. ``names`` are those of the
    state's items; without arrays ``above`` and ``regions`` nothing is said of places, nor of
    frames. An ``instruction`` asks for the item that it names first, and for the place that it
    names last.
    """
    _check_arrays(arrays, names, ('touched',))
    fingers = np.asarray(arrays['touched'], np.bool_)
    held: npt.NDArray[np.bool_] = fingers[..., 0] & fingers[..., 1]
    taken = [(name, bool(own.any())) for name, own in zip(names, held.T, strict=True)]
    wanted = _named_in(instruction, names)
    compared = [(THING_ASKED_FOR, dict(taken)[name]) for name in wanted[:1]]
    if not {'above', 'regions'} <= arrays.keys():
        return Facts(tuple(taken), compared=tuple(compared))
    holding = np.flatnonzero(held.any(axis=1))
    lets_go = len(holding) and holding[-1] < len(held) - 1
    place = arrays['above'][holding[-1]] if lets_go else ''
    regions = [str(name) for name in arrays['regions'][0]]
    places = [(f'above the {name}', name == place) for name in regions]
    aims = _named_in(instruction, regions)
    compared += [(PLACE_ASKED_FOR, name == place) for name in aims[-1:]]
    timeline = []
    for frame in frames:
        items = [f'the {name}' for name, own in zip(names, held[frame], strict=True) if own]
        timeline.append(' with '.join([str(arrays['above'][frame]), *items]))
    return Facts((*taken, *places), tuple(timeline), narrate(arrays, names), tuple(compared))


def _check_arrays(
    arrays: Mapping[str, npt.NDArray[Any]], names: Sequence[str], needed: Sequence[str]
) -> None:
    """Raise ArmorError naming what a state lacks to learn from."""
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise ArmorError(
            f'the state has no {", ".join(missing)}; to learn from it takes {", ".join(needed)}. '
            'Set auxiliary to 0 and leave perception and facts out to learn without'
        )
    shape = (len(arrays['touched']), len(names), 2)
    if arrays['touched'].shape != shape:
        raise ArmorError(
            f'touched of the state is {arrays["touched"].shape}; with {len(names)} items it must '
            f'be {shape}: frames, items, fingers'
        )


def _named_in(instruction: str, names: Iterable[str]) -> list[str]:
    """Return those of some names that an instruction has, in its order."""
    return sorted((name for name in names if name in instruction), key=instruction.find)


def shown_frames(count: int, shown: EpisodeInput, model: ArmorModel) -> npt.NDArray[np.int64]:
    """Return which of ``count`` frames the time steps of an input show."""
    if shown.views is None:
        # the last frame of each temporal patch
        frames = np.arange(1, shown.vision.grid[0] + 1) * model.geometry.temporal_patch_size - 1
    else:
        if model.config.collage.selection != 'uniform':
            raise ArmorError(
                f'collage.selection is {model.config.collage.selection!r}; the state supervises '
                'only collages of uniform time steps. Set auxiliary to 0, leave perception and '
                'facts out, or set selection to uniform'
            )
        frames = np.array(sample_indices(count, model.config.collage.columns))
    return np.clip(frames, 0, count - 1)


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


def _values(
    arrays: Mapping[str, npt.NDArray[Any]], frames: npt.NDArray[Any], count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.zeros(len(frames), 1 + count, VALUES)
    known = torch.zeros(1 + count, VALUES, dtype=torch.bool)

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
    words = [zlib.crc32(word.encode()) % WORDS for word in name.split()]
    return [words[0], words[-1]]
