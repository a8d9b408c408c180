# SPDX-License-Identifier: Apache-2.0
"""The robot in the cell: commands down to the simulator, joint and gripper readings up."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from armor_ros.simulation.engine import mujoco
from armor_ros.simulation.scene import Scene
from armor_ros.simulation.world import TIMESTEP_NS, build_model, item_body

Vector = npt.NDArray[np.float64]

ARM_JOINTS = tuple(f'panda_joint{i}' for i in range(1, 8))
FINGER_JOINTS = ('panda_finger_joint1', 'panda_finger_joint2')
HOME = np.array([0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4])
"""The arm's ready pose, radians."""

MAX_WIDTH = 0.08
"""The gripper's largest opening, metres."""

GRIP_FORCE = 40.0
"""Force between the fingers that the gripper is asked for, newtons."""

_DAMPING = 0.05
_POSTURE_GAIN = 0.05
_STEP_LIMIT = 0.06


class Cell:
    """The physics of one episode: model, state, and the readings a judge may look at."""

    def __init__(self, scene: Scene):
        self.scene = scene
        self.model: Any = build_model(scene)
        self.data: Any = mujoco.MjData(self.model)
        self.steps = 0
        self._grip = self.model.actuator('grip').id
        self._tcp = self.model.site('tcp').id
        self._bodies = [self.model.body(item_body(i)).id for i in range(len(scene.items))]
        self._item_of_body = {body: i for i, body in enumerate(self._bodies)}
        self._finger_of_body = {
            self.model.body('left_finger').id: 0,
            self.model.body('right_finger').id: 1,
        }
        first, last = self.model.body('link0').id, self.model.body('right_finger').id
        self._robot_bodies = set(range(first, last + 1))
        self.data.qpos[:7] = HOME
        self.data.qpos[7:9] = MAX_WIDTH / 2
        self.command_arm(HOME)
        self.command_grip(MAX_WIDTH, GRIP_FORCE)
        mujoco.mj_forward(self.model, self.data)

    @property
    def time_ns(self) -> int:
        """Time simulated so far, nanoseconds."""
        return self.steps * TIMESTEP_NS

    def step(self) -> None:
        """Advance by one time step (4 ms)."""
        mujoco.mj_step(self.model, self.data)
        self.steps += 1

    def command_arm(self, joints: Vector) -> None:
        """Set the joint positions that the arm's controllers hold, (7,) radians."""
        self.data.ctrl[:7] = joints

    def command_grip(self, width: float, force: float) -> None:
        """Set the opening that the gripper moves to, metres, and its largest force, newtons."""
        self.data.ctrl[self._grip] = width / 2
        self.model.actuator_forcerange[self._grip] = (-force, force)

    @property
    def joints(self) -> Vector:
        """Positions of the arm's joints, (7,) radians."""
        return np.array(self.data.qpos[:7])

    @property
    def joint_velocities(self) -> Vector:
        """Velocities of the arm's and the fingers' joints, (9,) rad/s and m/s."""
        return np.array(self.data.qvel[:9])

    @property
    def joint_efforts(self) -> Vector:
        """Torques and forces on the arm's and the fingers' joints, (9,) Nm and N."""
        return np.array(self.data.qfrc_actuator[:9])

    @property
    def fingers(self) -> Vector:
        """Positions of both fingers, (2,) metres from the middle."""
        return np.array(self.data.qpos[7:9])

    @property
    def width(self) -> float:
        """The gripper's opening, metres."""
        return float(self.data.qpos[7] + self.data.qpos[8])

    @property
    def tcp(self) -> Vector:
        """Position between the fingertips, (3,) metres."""
        return np.array(self.data.site_xpos[self._tcp])

    def item_positions(self) -> Vector:
        """Return the centres of all items, (N, 3) metres."""
        return np.array(self.data.xpos[self._bodies])

    def item_yaw(self, index: int) -> float:
        """Return an item's rotation about the vertical, radians."""
        matrix = self.data.xmat[self._bodies[index]]
        return float(np.arctan2(matrix[3], matrix[0]))

    def item_axis(self, index: int) -> Vector:
        """Return the direction of an item's height, a unit vector; (0, 0, 1) when it stands."""
        return np.array(self.data.xmat[self._bodies[index]].reshape(3, 3)[:, 2])

    def finger_contacts(self) -> npt.NDArray[np.bool_]:
        """Return which items touch which finger, (N, 2)."""
        touched = np.zeros((len(self._bodies), 2), dtype=np.bool_)
        bodies = self.model.geom_bodyid
        for contact in self.data.contact[: self.data.ncon]:
            first, second = bodies[contact.geom1], bodies[contact.geom2]
            for item, finger in ((first, second), (second, first)):
                if item in self._item_of_body and finger in self._finger_of_body:
                    touched[self._item_of_body[item], self._finger_of_body[finger]] = True
        return touched

    def blow(self) -> tuple[float, int]:
        """
        Return the largest force, newtons, with which the robot bears on something, and the item.

        The item is an index, -1 for furniture. What the fingers do to an item while they close on
        it is no blow.
        """
        strongest, struck = 0.0, -1
        closing = self.data.ctrl[self._grip] == 0.0
        bodies = self.model.geom_bodyid
        force = np.zeros(6)
        for index, contact in enumerate(self.data.contact[: self.data.ncon]):
            pair = (bodies[contact.geom1], bodies[contact.geom2])
            if not any(body in self._robot_bodies for body in pair):
                continue
            grips = any(body in self._finger_of_body for body in pair) and any(
                body in self._item_of_body for body in pair
            )
            if not (grips and closing):
                mujoco.mj_contactForce(self.model, self.data, index, force)
                if force[0] > strongest:
                    strongest = float(force[0])
                    struck = max(self._item_of_body.get(body, -1) for body in pair)
        return strongest, struck


class InverseKinematics:
    """
    Differential inverse kinematics of the arm by damped least squares.

    Works on a state of its own, so that planning never disturbs the physics.
    """

    def __init__(self, cell: Cell):
        self._model = cell.model
        self._data: Any = mujoco.MjData(cell.model)
        self._tcp = cell.model.site('tcp').id
        self._lower, self._upper = cell.model.jnt_range[:7].T
        self._jacobian = np.zeros((6, cell.model.nv))

    def pose(self, joints: Vector) -> tuple[Vector, Vector]:
        """Return the fingertips' position (3,) and rotation matrix (3, 3) at ``joints``."""
        self._data.qpos[:7] = joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        return (
            np.array(self._data.site_xpos[self._tcp]),
            np.array(self._data.site_xmat[self._tcp]).reshape(3, 3),
        )

    def step(self, joints: Vector, position: Vector, yaw: float) -> Vector:
        """
        Return joints one damped step nearer to a pose.

        The gripper points straight down, turned by ``yaw`` about the vertical. The null space
        pulls towards the ready pose; each joint moves at most 0.06 rad and stays in its limits.
        """
        here, rotation = self.pose(joints)
        mujoco.mj_jacSite(
            self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._tcp
        )
        jacobian = self._jacobian[:, :7]
        wanted = downward(yaw)
        turn = 0.5 * sum(np.cross(rotation[:, k], wanted[:, k]) for k in range(3))
        error = np.concatenate([position - here, turn])
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + _DAMPING**2 * np.eye(6))
        posture = _POSTURE_GAIN * (HOME - joints)
        move = inverse @ error + posture - inverse @ (jacobian @ posture)
        limited = np.clip(move, -_STEP_LIMIT, _STEP_LIMIT)
        reached: Vector = np.clip(joints + limited, self._lower, self._upper)
        return reached


def downward(yaw: float) -> Vector:
    """Return the rotation matrix of a gripper that points down, turned by ``yaw`` radians."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])
