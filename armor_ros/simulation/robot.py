# SPDX-License-Identifier: Apache-2.0
"""The robot in the cell: commands down to the simulator, joint and gripper readings up."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from armor_ros.simulation.domain import PLAIN_LOOK, Look
from armor_ros.simulation.engine import mujoco
from armor_ros.simulation.items import item_body, lid_body, lid_joint
from armor_ros.simulation.plan import GRIP_FORCE
from armor_ros.simulation.tasks.base import Task
from armor_ros.simulation.world import CAMERAS, TIMESTEP_NS, build_model, glue

Vector = npt.NDArray[np.float64]

ARM_JOINTS = tuple(f'panda_joint{i}' for i in range(1, 8))
FINGER_JOINTS = ('panda_finger_joint1', 'panda_finger_joint2')
HOME = np.array([0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4])
"""The arm's ready pose, radians."""

MAX_WIDTH = 0.08
"""The gripper's largest opening, metres."""

_PADS = ('left_pad', 'right_pad')
# Of sliding, spinning and rolling, as items have them; and what makes a fingertip's own friction
# rule instead of the item's.
_FRICTION_RATIOS = np.array([1.0, 0.0125, 0.0025])
_ABOVE_ITEMS = 2
_DAMPING = 0.05
_POSTURE_GAIN = 0.05
_STEP_LIMIT = 0.06


class Cell:
    """The physics of one episode: model, state, and the readings a judge may look at."""

    def __init__(self, scene: Task, look: Look = PLAIN_LOOK):
        self.scene = scene
        self.model: Any = build_model(scene, look)
        self.data: Any = mujoco.MjData(self.model)
        self.steps = 0
        self._grip = self.model.actuator('grip').id
        self._tcp = self.model.site('tcp').id
        self._bodies = [self.model.body(item_body(i)).id for i in range(len(scene.items))]
        self._item_of_body = {body: i for i, body in enumerate(self._bodies)}
        for i in range(len(scene.items)):
            lid = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, lid_body(i))
            if lid >= 0:
                self._item_of_body[lid] = i
        self._finger_of_body = {
            self.model.body('left_finger').id: 0,
            self.model.body('right_finger').id: 1,
        }
        self._lids = [_joint_address(self.model, lid_joint(i)) for i in range(len(scene.items))]
        self._articulated = [_joint_address(self.model, name) for name in scene.articulations]
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

    def slicken_fingertips(self, friction: float) -> None:
        """
        Let the fingertips have this coefficient of friction from now on, as if greased.

        It rules the grip alone: an item that falls lies on the table as it always did.
        """
        for pad in _PADS:
            geom = self.model.geom(pad).id
            self.model.geom_friction[geom] = friction * _FRICTION_RATIOS
            self.model.geom_priority[geom] = _ABOVE_ITEMS

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

    @property
    def yaw(self) -> float:
        """The gripper's turn about the vertical, radians; 0 in the ready pose."""
        matrix = self.data.site_xmat[self._tcp]
        return float(np.arctan2(matrix[3], matrix[0]))

    def articulated(self) -> Vector:
        """Return the positions of the task's articulated furniture, (A,) metres or radians."""
        return np.array([self.data.qpos[a] for a in self._articulated], dtype=float)

    def lids(self) -> Vector:
        """Return the angles of the items' lids, (N,) radians; 0 for items without a lid."""
        return np.array([0.0 if a < 0 else self.data.qpos[a] for a in self._lids])

    def stick(self, first: int, second: int) -> None:
        """Let two items that stand side by side hang together from now on."""
        self.data.eq_active[self.model.equality(glue(first, second)).id] = 1

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

    def item_quats(self) -> Vector:
        """Return the orientations of all items, (N, 4) quaternions (w, x, y, z)."""
        return np.array(self.data.xquat[self._bodies])

    def image_places(self) -> Vector:
        """
        Return where the pictures show the point between the fingertips, and then each item.

        (C, 1 + N, 2) for the C of ``CAMERAS``: from the left and from the top, in parts of the
        picture's side; outside of 0 to 1 is outside of the picture, NaN behind the camera.
        Nothing is said of what stands in front.
        """
        points = np.vstack([self.tcp, self.item_positions()])
        return np.stack([self._image_places(camera, points) for camera in CAMERAS])

    def _image_places(self, camera: str, points: Vector) -> Vector:
        index = self.model.camera(camera).id
        turn = self.data.cam_xmat[index].reshape(3, 3)
        right, up, back = ((points - self.data.cam_xpos[index]) @ turn).T
        depth = np.where(back < 0, -back, np.nan)
        side = 2 * np.tan(np.radians(self.model.cam_fovy[index]) / 2) * depth
        return np.stack([0.5 + right / side, 0.5 - up / side], axis=1)

    def contacts(
        self,
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which items touch which finger (N, 2), each other (N, N), and furniture (N,)."""
        count = len(self._bodies)
        touched = np.zeros((count, 2), dtype=np.bool_)
        meets = np.zeros((count, count), dtype=np.bool_)
        leans = np.zeros(count, dtype=np.bool_)
        for first, second in self._contact_bodies():
            for item, other in ((first, second), (second, first)):
                if item not in self._item_of_body:
                    continue
                index = self._item_of_body[item]
                if other in self._finger_of_body:
                    touched[index, self._finger_of_body[other]] = True
                elif other in self._item_of_body:
                    meets[index, self._item_of_body[other]] = True
                elif other not in self._robot_bodies:
                    leans[index] = True
        return touched, meets, leans

    def _contact_bodies(self) -> list[list[int]]:
        """Return the two bodies of each contact."""
        pairs: list[list[int]] = self.model.geom_bodyid[self.data.contact.geom].tolist()
        return pairs

    def blow(self, touched: npt.NDArray[np.bool_]) -> tuple[float, int]:
        """
        Return the largest force, newtons, with which the robot bears on something, and the item.

        The item is an index, -1 for furniture. What the robot holds (both fingers touch it while
        they close, ``touched`` (N, 2)) counts as the robot. What the fingers do to an item while
        they close on it is no blow.
        """
        closing = self.data.ctrl[self._grip] < 0.95 * MAX_WIDTH / 2
        held = {self._bodies[i] for i in np.flatnonzero(touched.all(axis=1))} if closing else set()
        strongest, struck = 0.0, -1
        force = np.zeros(6)
        bearing = self._robot_bodies | held
        for index, bodies in enumerate(self._contact_bodies()):
            if bearing.isdisjoint(bodies):
                continue
            pair = set(bodies)
            robot = pair & self._robot_bodies
            grips = robot & self._finger_of_body.keys() and pair & self._item_of_body.keys()
            if grips and closing:
                continue
            mujoco.mj_contactForce(self.model, self.data, index, force)
            if force[0] > strongest:
                strongest = float(force[0])
                hit = pair - robot if robot else pair - held
                struck = max((self._item_of_body.get(body, -1) for body in hit), default=-1)
        return strongest, struck


def _joint_address(model: Any, name: str) -> int:
    """Return where a joint's position stands in qpos; -1 when there is no such joint."""
    joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name)
    return int(model.jnt_qposadr[joint]) if joint >= 0 else -1


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
        # the cross products of the columns; numpy's own costs more than all the rest here
        cross = rotation[[1, 2, 0]] * wanted[[2, 0, 1]] - rotation[[2, 0, 1]] * wanted[[1, 2, 0]]
        turn = 0.5 * (cross[:, 0] + cross[:, 1] + cross[:, 2])
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
