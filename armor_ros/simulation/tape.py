# SPDX-License-Identifier: Apache-2.0
"""
Filming after the fact: physics runs once and is kept, pictures are made of what is wanted.

A tape costs next to nothing, so that episodes can be tried and dropped without rendering any.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from armor_ros.datasets.video import Frames
from armor_ros.simulation.engine import mujoco
from armor_ros.simulation.policy import TICK_STEPS
from armor_ros.simulation.recording import Camera
from armor_ros.simulation.robot import Cell

_WHOLE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


class Tape:
    """An observer of an episode that keeps the simulator's whole state every 20 ms."""

    def __init__(self) -> None:
        self._cell: Cell | None = None
        self._times: list[int] = []
        self._states: list[npt.NDArray[np.float64]] = []

    def __call__(self, cell: Cell) -> None:
        """Take down the state at every tick of the policy."""
        self._cell = cell
        if cell.steps % TICK_STEPS == 0:
            state = np.empty(mujoco.mj_stateSize(cell.model, _WHOLE))
            mujoco.mj_getState(cell.model, cell.data, state, _WHOLE)
            self._times.append(cell.time_ns)
            self._states.append(state)

    def extend(self, until_ns: int) -> None:
        """Let the cell stand idle until a time of the episode's clock: nothing is commanded."""
        cell = self._loaded()
        while self._times[-1] < until_ns:
            cell.step()
            self(cell)

    def develop(
        self, times_ns: npt.NDArray[np.int64], size: int, views: Sequence[str]
    ) -> dict[str, Frames]:
        """
        Return each view's pictures, (T, size, size, 3) RGB, at T times of the episode's clock.

        Each shows the last state kept at or before its time. The tape can be extended no more.
        """
        cell = self._loaded()
        rows = np.searchsorted(self._times, times_ns, side='right') - 1
        pictures: dict[str, list[npt.NDArray[np.uint8]]] = {view: [] for view in views}
        camera = Camera(cell, size)
        try:
            for row in rows.clip(0).tolist():
                mujoco.mj_setState(cell.model, cell.data, self._states[row], _WHOLE)
                mujoco.mj_forward(cell.model, cell.data)
                seen = camera.views()
                for view in views:
                    pictures[view].append(seen[view])
        finally:
            camera.close()
        return {view: np.stack(frames) for view, frames in pictures.items()}

    def _loaded(self) -> Cell:
        if self._cell is None:
            raise RuntimeError('the tape is blank: give it to run_episode as its observer')
        return self._cell
