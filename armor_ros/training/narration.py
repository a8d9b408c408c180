# SPDX-License-Identifier: Apache-2.0
"""
What a gripper does in a clip, in words, told by the simulator's state alone.

Neither the instruction nor the label is known here: "takes the red can above the left bin, lifts
it, lets go of it above the right bin" is a success under one instruction and a failure under
another. It is what a pretrained model can say of a clip before it has learned what failure is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

NEEDED = ('touched', 'closing', 'width', 'tcp', 'items', 'lids', 'above')
"""The arrays of a state that are read; see ``armor_ros.datasets.manifest.read_state``."""

# Metres: an item that rose by so much in the grip is lifted, and one that is not further away
# than this is what the fingers closed beside.
_LIFT = 0.03
_BESIDE = 0.12
# Metres: fingers that are further apart than this have not met.
_APART = 0.012
# Radians: a lid that is open so far has come open.
_LID_OPEN = 0.5


def narrate(arrays: Mapping[str, npt.NDArray[Any]], names: Sequence[str]) -> str:
    """
    Return what happens in a clip, in order; '' where nothing does or the state does not tell.

    ``arrays`` are those of a state file, T rows each, of which ``NEEDED`` are read; ``names`` are
    those of its N items. A hold that ends a frame or more before the fingers are told to open is
    one that was lost.
    """
    if not set(NEEDED) <= arrays.keys():
        return ''
    told = [*_closings(arrays, names), *_lids(arrays, names)]
    # of one frame, in the order in which they were found
    return ', '.join(words for _, words in sorted(told, key=lambda each: each[0]))


def _closings(
    arrays: Mapping[str, npt.NDArray[Any]], names: Sequence[str]
) -> Iterator[tuple[int, str]]:
    """Yield the frame and the words of what each closing of the fingers leads to."""
    closing = np.concatenate([[False], np.asarray(arrays['closing'], np.bool_), [False]])
    edges = np.flatnonzero(closing[1:] != closing[:-1])
    fingers = np.asarray(arrays['touched'], np.bool_)
    both: npt.NDArray[np.bool_] = fingers[..., 0] & fingers[..., 1]
    for begin, end in edges.reshape(-1, 2).tolist():
        held = both[begin:end]
        if held.any():
            yield from _hold(arrays, names, held, begin)
        else:
            yield begin, _miss(arrays, names, begin, end)


def _hold(
    arrays: Mapping[str, npt.NDArray[Any]],
    names: Sequence[str],
    held: npt.NDArray[np.bool_],
    begin: int,
) -> Iterator[tuple[int, str]]:
    """Yield what becomes of items that the fingers hold in frames of a closing, (n, N)."""
    above = arrays['above']
    taken = np.flatnonzero(held.any(axis=0))
    holding = begin + np.flatnonzero(held.any(axis=1))
    first, last, end = int(holding[0]), int(holding[-1]), begin + len(held)
    what = ' and '.join(f'the {names[item]}' for item in taken.tolist())
    yield first, f'takes {what} above the {above[first]}'
    height = arrays['items'][first : end + 1, taken, 2]
    risen = np.flatnonzero((height - height[0]).max(axis=1) > _LIFT)
    if len(risen):
        yield first + int(risen[0]), 'lifts it'
    if last + 1 < end - 1:
        yield last, f'loses it above the {above[last]}'
    elif end < len(above):
        yield end, f'lets go of it above the {above[end]}'
    else:
        yield end, 'holds it at the end'


def _miss(
    arrays: Mapping[str, npt.NDArray[Any]], names: Sequence[str], begin: int, end: int
) -> str:
    """Return the words for a closing of the fingers in which they hold nothing."""
    met = arrays['width'][begin:end].min() <= _APART
    words = 'closes on nothing' if met else 'stays open'
    away = np.linalg.norm(arrays['items'][begin, :, :2] - arrays['tcp'][begin, :2], axis=1)
    beside = f' beside the {names[int(away.argmin())]}' if away.min() <= _BESIDE else ''
    return f'{words}{beside} above the {arrays["above"][begin]}'


def _lids(
    arrays: Mapping[str, npt.NDArray[Any]], names: Sequence[str]
) -> Iterator[tuple[int, str]]:
    """Yield the frame in which each lid comes open."""
    opened = np.abs(arrays['lids']) > _LID_OPEN
    for item in np.flatnonzero(opened.any(axis=0)).tolist():
        yield int(opened[:, item].argmax()), f'the lid of the {names[item]} comes open'
