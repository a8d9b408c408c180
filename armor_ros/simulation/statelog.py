# SPDX-License-Identifier: Apache-2.0
"""The simulator's state over an episode: all that the judge may look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from armor_ros.simulation.robot import Cell


@dataclass(frozen=True, slots=True)
class StateLog:
    """
    T samples of the state, N items, A joints of the task's furniture.

    ``times_ns`` (T,) int64; ``items`` (T, N, 3) centres, metres; ``quats`` (T, N, 4) their
    orientations (w, x, y, z); ``touched`` (T, N, 2) whether an item touches the left and the
    right finger; ``meets`` (T, N, N) whether two items touch each other; ``leans`` (T, N)
    whether an item touches furniture or the table; ``lids`` (T, N) angles
    of the items' lids, radians, 0 for items without; ``width`` (T,) the gripper's opening,
    metres; ``closing`` (T,) whether the gripper is commanded to close; ``tcp`` (T, 3) the point
    between the fingertips, metres; ``yaw`` (T,) the gripper's turn about the vertical, radians;
    ``joints`` (T, 7) the arm's, radians; ``articulated`` (T, A) positions, metres or radians;
    ``blow`` (T,) the largest force, newtons, between the robot, or what it holds, and its
    surroundings, gripping left out; ``struck`` (T,) the item that this force acts on, -1 for none.
    ``places`` (T, C, 1 + N, 2) is where the C pictures show the fingertips and each item: see
    ``Cell.image_places``.
    """

    times_ns: npt.NDArray[np.int64]
    items: npt.NDArray[np.float64]
    quats: npt.NDArray[np.float64]
    touched: npt.NDArray[np.bool_]
    meets: npt.NDArray[np.bool_]
    leans: npt.NDArray[np.bool_]
    lids: npt.NDArray[np.float64]
    width: npt.NDArray[np.float64]
    closing: npt.NDArray[np.bool_]
    tcp: npt.NDArray[np.float64]
    yaw: npt.NDArray[np.float64]
    joints: npt.NDArray[np.float64]
    articulated: npt.NDArray[np.float64]
    blow: npt.NDArray[np.float64]
    struck: npt.NDArray[np.int64]
    places: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times_ns)

    def upright(self, item: int, sample: int) -> float:
        """Return the cosine of an item's tilt: 1 when it stands, 0 when it lies."""
        _, x, y, _ = self.quats[sample, item]
        return float(1.0 - 2.0 * (x * x + y * y))

    def item_yaw(self, item: int, sample: int) -> float:
        """Return an item's rotation about the vertical, radians."""
        w, x, y, z = self.quats[sample, item]
        return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (first, last) indices of the stretches of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@dataclass
class StateLogger:
    """Collects samples of a cell's state and makes the log of them."""

    _samples: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def sample(self, cell: Cell, *, closing: bool) -> None:
        """Take down the state as it is now."""
        touched, meets, leans = cell.contacts()
        force, struck = cell.blow(touched)
        state = {
            'times_ns': cell.time_ns,
            'items': cell.item_positions(),
            'quats': cell.item_quats(),
            'touched': touched,
            'meets': meets,
            'leans': leans,
            'lids': cell.lids(),
            'width': cell.width,
            'closing': closing,
            'tcp': cell.tcp,
            'yaw': cell.yaw,
            'joints': cell.joints,
            'articulated': cell.articulated(),
            'blow': force,
            'struck': struck,
            'places': cell.image_places(),
        }
        for name, value in state.items():
            self._samples[name].append(value)

    def finish(self) -> StateLog:
        """Return the log of all samples taken."""
        return StateLog(**{f.name: np.array(self._samples[f.name]) for f in fields(StateLog)})


def state_of(log: StateLog, cameras: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """
    Return a log's arrays by name, for supervision by the state: see ``StateLog``.

    ``times_ns`` (T,) says when each of the T samples was taken, on the episode's clock.
    ``places`` comes by the names of its ``cameras``: ``places_front`` (T, 1 + N, 2) and so on.
    """
    arrays = {f.name: getattr(log, f.name) for f in fields(StateLog)}
    places = np.moveaxis(arrays.pop('places'), 1, 0)
    return arrays | {f'places_{camera}': own for camera, own in zip(cameras, places, strict=True)}
