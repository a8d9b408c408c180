# SPDX-License-Identifier: Apache-2.0
"""The robot's own stack: scripted keyframes for a transport, and what little it checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from armor_ros.episodes.task import TaskStatus
from armor_ros.simulation.plan import Plan
from armor_ros.simulation.robot import (
    GRIP_FORCE,
    HOME,
    MAX_WIDTH,
    Cell,
    InverseKinematics,
    Vector,
)
from armor_ros.simulation.scene import SHAPES, TOTE_FLOOR

TICK_STEPS = 5
"""Time steps of the physics between two commands of the policy (20 ms)."""

TICK_SECONDS = 0.020
EMPTY_WIDTH = 0.012
"""Below this opening, metres, the closed gripper is taken to hold nothing."""

ATTEMPTS = 2
_TRACKING_LIMIT = 0.15
_LOWEST_GRASP = TOTE_FLOOR + 0.022
_YAW_LIMIT = 0.9


@dataclass(frozen=True, slots=True)
class Result:
    """What the robot's stack says at the end: SUCCEEDED or ABORTED, and its words."""

    status: TaskStatus
    message: str


class _AbortError(Exception):
    """The stack gives the task up."""


class TransportPolicy:
    """
    Grasp, lift, carry, put down, go home.

    The stack knows the gripper's width and whether a motion ended where it should, nothing else.
    After lifting it checks the width; empty, it looks and tries once more, then gives up. It
    never sees where the item really is at the end.
    """

    def __init__(self, cell: Cell, plan: Plan):
        self._cell = cell
        self._plan = plan
        self._ik = InverseKinematics(cell)
        self._joints = HOME.copy()
        self._yaw = 0.0
        self.closed = False
        self.result = Result(TaskStatus.UNKNOWN, '')

    def run(self) -> Iterator[None]:
        """Command the cell; yields once per tick of 20 ms. ``result`` is set at the end."""
        try:
            yield from self._grasp()
            yield from self._carry()
            yield from self._release()
            self.result = Result(TaskStatus.SUCCEEDED, 'transport finished')
        except _AbortError as reason:
            self._command_grip(MAX_WIDTH, GRIP_FORCE)
            self.result = Result(TaskStatus.ABORTED, str(reason))
        yield from self._go_home(0.9)

    def _grasp(self) -> Iterator[None]:
        for attempt in range(ATTEMPTS):
            point, yaw = self._see_item()
            above = np.array([point[0], point[1], max(self._plan.carry_height - 0.08, 0.2)])
            yield from self._move(above, yaw, 0.5 if attempt else 1.0)
            yield from self._move(point, yaw, 0.7)
            self._command_grip(0.0, GRIP_FORCE)
            yield from self._wait(0.45)
            lifted = np.array([point[0], point[1], self._plan.carry_height])
            yield from self._move(lifted, yaw, 0.75)
            if self._holds_something():
                return
            self._command_grip(MAX_WIDTH, GRIP_FORCE)
            yield from self._wait(0.2)
        raise _AbortError(f'gripper empty after {ATTEMPTS} attempts to grasp')

    def _carry(self) -> Iterator[None]:
        here, _ = self._ik.pose(self._joints)
        over = np.array([*self._plan.place, self._plan.carry_height])
        seconds = 0.5 + 1.5 * float(np.linalg.norm(over - here))
        for progress in self._motion(over, 0.0, seconds):
            if progress >= self._plan.fade_at:
                self._command_grip(0.0, min(GRIP_FORCE, self._plan.fade_force))
            self._watch_grip()
            yield
        self._check_arrival()

    def _release(self) -> Iterator[None]:
        shape = SHAPES[self._cell.scene.items[self._plan.item].shape]
        down = np.array([*self._plan.place, TOTE_FLOOR + shape.grasp + 0.012])
        for _ in self._motion(down, 0.0, 0.75):
            self._watch_grip()
            yield
        self._check_arrival()
        self._command_grip(MAX_WIDTH, GRIP_FORCE)
        yield from self._wait(0.35)
        up = np.array([*self._plan.place, self._plan.carry_height])
        yield from self._move(up, 0.0, 0.5)

    def _watch_grip(self) -> None:
        if self._plan.watches_grip and not self._holds_something():
            raise _AbortError('gripper empty on the way')

    def _see_item(self) -> tuple[Vector, float]:
        """Return where the robot believes that it must grasp: position, metres, and yaw."""
        item = self._plan.item
        shape = SHAPES[self._cell.scene.items[item].shape]
        center = self._cell.item_positions()[item]
        axis = self._cell.item_axis(item)
        if axis[2] > 0.8:
            height = center[2] - shape.height / 2 + shape.grasp
            yaw = 0.0 if shape.round else self._cell.item_yaw(item)
        else:  # lying: close across its length
            height = center[2]
            yaw = float(np.arctan2(axis[1], axis[0]))
        seen = np.array([center[0], center[1], height]) + np.array(self._plan.sight_error)
        seen[2] = max(seen[2], _LOWEST_GRASP)
        yaw = (yaw + np.pi / 2) % np.pi - np.pi / 2
        return seen, float(np.clip(yaw, -_YAW_LIMIT, _YAW_LIMIT))

    def _holds_something(self) -> bool:
        return self._cell.width > EMPTY_WIDTH

    def _command_grip(self, width: float, force: float) -> None:
        self.closed = width == 0.0
        self._cell.command_grip(width, force)

    def _wait(self, seconds: float) -> Iterator[None]:
        for _ in range(self._ticks(seconds)):
            yield

    def _move(self, position: Vector, yaw: float, seconds: float) -> Iterator[None]:
        for _ in self._motion(position, yaw, seconds):
            yield
        self._check_arrival()

    def _motion(self, position: Vector, yaw: float, seconds: float) -> Iterator[float]:
        """Move the fingertips on a straight line; yields the fraction of the way, 0 to 1."""
        start, _ = self._ik.pose(self._joints)
        start_yaw = self._yaw
        ticks = self._ticks(seconds)
        for tick in range(1, ticks + 1):
            s = _minimum_jerk(tick / ticks)
            self._yaw = start_yaw + s * (yaw - start_yaw)
            point = start + s * (position - start)
            self._joints = self._ik.step(self._joints, point, self._yaw)
            self._cell.command_arm(self._joints)
            yield tick / ticks

    def _go_home(self, seconds: float) -> Iterator[None]:
        start = self._joints
        ticks = self._ticks(seconds)
        for tick in range(1, ticks + 1):
            self._joints = start + _minimum_jerk(tick / ticks) * (HOME - start)
            self._cell.command_arm(self._joints)
            yield

    def _check_arrival(self) -> None:
        """Give up when the arm is held off its path, as by a collision."""
        error = float(np.abs(self._cell.joints - self._joints).max())
        if error > _TRACKING_LIMIT:
            raise _AbortError(f'motion not finished: a joint is {error:.2f} rad off its goal')

    def _ticks(self, seconds: float) -> int:
        return max(1, round(seconds / self._plan.speed / TICK_SECONDS))


def _minimum_jerk(s: float) -> float:
    """Map time 0..1 to way 0..1 with zero velocity and acceleration at both ends."""
    return s * s * s * (10.0 + s * (6.0 * s - 15.0))
