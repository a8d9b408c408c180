# SPDX-License-Identifier: Apache-2.0
"""Frames of the arm and of the cameras: chained from the base they end where they really are."""

from __future__ import annotations

import numpy as np
import pytest

from armor_ros.simulation.engine import mujoco
from armor_ros.simulation.episode import draw_setup
from armor_ros.simulation.robot import Cell
from armor_ros.simulation.transforms import BASE_FRAME, transforms_of


@pytest.fixture
def cell() -> Cell:
    cell = Cell(draw_setup(0, 'nominal').scene)
    cell.data.qpos[:7] = [0.3, -0.5, 0.2, -2.0, 0.4, 1.9, 0.1]
    mujoco.mj_forward(cell.model, cell.data)
    return cell


def matrix(quat: np.ndarray) -> np.ndarray:
    flat = np.zeros(9)
    mujoco.mju_quat2Mat(flat, np.array(quat))
    return flat.reshape(3, 3)


def poses(cell: Cell) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (rotation, position) of each frame in the base, by following the chain."""
    found = {BASE_FRAME: (np.eye(3), np.zeros(3))}
    for frame in transforms_of(cell):
        rotation, position = found[frame.parent]
        found[frame.child] = (
            rotation @ matrix(frame.quat),
            position + rotation @ frame.position,
        )
    return found


def test_the_chain_ends_at_the_hand(cell: Cell) -> None:
    found = poses(cell)
    base, hand = cell.model.body('link0').id, cell.model.body('hand').id
    np.testing.assert_allclose(
        found['panda_hand'][1], cell.data.xpos[hand] - cell.data.xpos[base], atol=1e-9
    )
    np.testing.assert_allclose(
        found['panda_hand'][0], cell.data.xmat[hand].reshape(3, 3), atol=1e-9
    )
    assert {'panda_link7', 'panda_leftfinger', 'panda_rightfinger'} <= set(found)


def test_optical_frames_look_along_z_with_y_down(cell: Cell) -> None:
    rotation, position = poses(cell)['overhead']
    assert rotation[2, 2] < -0.9  # it looks down
    assert position[2] > 1.0
    front, place = poses(cell)['front']
    assert front[2, 1] < -0.5  # the picture's down is the world's down
    aim = place + front[:, 2] * np.linalg.norm(place - [0.38, 0.0, 0.245])
    np.testing.assert_allclose(aim, [0.38, 0.0, 0.245], atol=0.05)
