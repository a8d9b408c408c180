# SPDX-License-Identifier: Apache-2.0
"""The simulator's state over an episode: all that the judge may look at."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from armor_ros.simulation.robot import Cell


@dataclass(frozen=True, slots=True)
class StateLog:
    """
    T samples of the state, N items.

    ``times_ns`` (T,) int64; ``items`` (T, N, 3) centres, metres; ``touched`` (T, N, 2) whether an
    item touches the left and the right finger; ``width`` (T,) the gripper's opening, metres;
    ``closing`` (T,) whether the gripper is commanded to close; ``tcp`` (T, 3) the point between
    the fingertips, metres; ``blow`` (T,) the largest force, newtons, between the robot and its
    surroundings, gripping left out; ``struck`` (T,) the item that this force acts on, -1 for none.
    """

    times_ns: npt.NDArray[np.int64]
    items: npt.NDArray[np.float64]
    touched: npt.NDArray[np.bool_]
    width: npt.NDArray[np.float64]
    closing: npt.NDArray[np.bool_]
    tcp: npt.NDArray[np.float64]
    blow: npt.NDArray[np.float64]
    struck: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.times_ns)


@dataclass
class StateLogger:
    """Collects samples of a cell's state and makes the log of them."""

    _times: list[int] = field(default_factory=list)
    _items: list[npt.NDArray[np.float64]] = field(default_factory=list)
    _touched: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    _width: list[float] = field(default_factory=list)
    _closing: list[bool] = field(default_factory=list)
    _tcp: list[npt.NDArray[np.float64]] = field(default_factory=list)
    _blow: list[float] = field(default_factory=list)
    _struck: list[int] = field(default_factory=list)

    def sample(self, cell: Cell, *, closing: bool) -> None:
        """Take down the state as it is now."""
        self._times.append(cell.time_ns)
        self._items.append(cell.item_positions())
        self._touched.append(cell.finger_contacts())
        self._width.append(cell.width)
        self._closing.append(closing)
        self._tcp.append(cell.tcp)
        force, struck = cell.blow()
        self._blow.append(force)
        self._struck.append(struck)

    def finish(self) -> StateLog:
        """Return the log of all samples taken."""
        return StateLog(
            times_ns=np.array(self._times, dtype=np.int64),
            items=np.array(self._items),
            touched=np.array(self._touched),
            width=np.array(self._width),
            closing=np.array(self._closing),
            tcp=np.array(self._tcp),
            blow=np.array(self._blow),
            struck=np.array(self._struck, dtype=np.int64),
        )
