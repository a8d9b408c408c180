# SPDX-License-Identifier: Apache-2.0
"""Where the arm's links and the cameras are, as ``/tf`` tells it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from armor_ros.simulation.engine import mujoco
from armor_ros.simulation.robot import Cell
from armor_ros.simulation.world import CAMERAS

BASE_FRAME = 'panda_link0'

_PARENTS = {f'link{i}': f'link{i - 1}' for i in range(1, 8)} | {
    'hand': 'link7',
    'left_finger': 'hand',
    'right_finger': 'hand',
}
_FRAMES = {'left_finger': 'panda_leftfinger', 'right_finger': 'panda_rightfinger'}

# MuJoCo's cameras look along -z with y up, optical frames along z with y down.
_OPTICAL = np.array([0.0, 1.0, 0.0, 0.0])


@dataclass(frozen=True, slots=True)
class Transform:
    """A frame in its parent: position (3,) in metres, unit quaternion (w, x, y, z)."""

    parent: str
    child: str
    position: npt.NDArray[np.float64]
    quat: npt.NDArray[np.float64]


def transforms_of(cell: Cell) -> list[Transform]:
    """Return the arm's links, each in the one before, and the cameras' optical frames."""
    poses = {}
    for body in ('link0', *_PARENTS):
        row = cell.model.body(body).id
        poses[body] = (np.array(cell.data.xpos[row]), np.array(cell.data.xquat[row]))
    found = [
        Transform(frame_name(parent), frame_name(body), *_relative(poses[parent], poses[body]))
        for body, parent in _PARENTS.items()
    ]
    for camera in CAMERAS:
        row = cell.model.camera(camera).id
        quat, optical = np.zeros(4), np.zeros(4)
        mujoco.mju_mat2Quat(quat, np.array(cell.data.cam_xmat[row]))
        mujoco.mju_mulQuat(optical, quat, _OPTICAL)
        pose = (np.array(cell.data.cam_xpos[row]), optical)
        found.append(Transform(BASE_FRAME, camera, *_relative(poses['link0'], pose)))
    return found


def frame_name(body: str) -> str:
    """Return the name that a Panda's driver gives to the frame of a body."""
    return _FRAMES.get(body, f'panda_{body}')


Pose = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _relative(parent: Pose, child: Pose) -> Pose:
    back, position, quat = np.zeros(4), np.zeros(3), np.zeros(4)
    mujoco.mju_negQuat(back, parent[1])
    mujoco.mju_rotVecQuat(position, child[0] - parent[0], back)
    mujoco.mju_mulQuat(quat, back, child[1])
    return position, quat
