# SPDX-License-Identifier: Apache-2.0
"""The robot's own stack: motions that the tasks' scripts are made of, and its few checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from armor_ros.episodes.task import TaskStatus
from armor_ros.simulation import plan as steps
from armor_ros.simulation.plan import GRIP_FRICTION, Plan
from armor_ros.simulation.robot import (
    HOME,
    MAX_WIDTH,
    Cell,
    InverseKinematics,
    Vector,
)
from armor_ros.simulation.scene import SHAPES

TICK_STEPS = 5
"""Time steps of the physics between two commands of the policy (20 ms)."""

TICK_SECONDS = 0.020
EMPTY_WIDTH = 0.012
"""Below this opening, metres, the closed gripper is taken to hold nothing."""

ATTEMPTS = 2
_TRACKING_LIMIT = 0.15
_LOWEST_GRASP = 0.022
_YAW_LIMIT = 0.9
_DRAW_BACK = 0.02


@dataclass(frozen=True, slots=True)
class Result:
    """What the robot's stack says at the end: SUCCEEDED or ABORTED, and its words."""

    status: TaskStatus
    message: str


class AbortError(Exception):
    """The stack gives the task up."""


class Controller:
    """
    Runs a task's script: the vocabulary of motions, and the robot's limited self-check.

    Composite motions: ``grasp``, ``carry``, ``put_down``. Single ones: ``see`` where an item is
    (as the plan has it: with its errors), ``move`` on a straight line, ``grip``, ``release``,
    ``wait``, ``push``. All but ``see`` and ``holds_something`` are iterators that yield once a
    tick of 20 ms. The plan's errors and deviations act in here, so that a script says only what
    should be done.

    The stack knows the gripper's width and whether a motion ended where it should, nothing else.
    After lifting it checks the width; empty, it looks and tries once more, then gives up. It
    never sees where the item really is at the end.
    """

    def __init__(self, cell: Cell, plan: Plan):
        self.task = cell.scene
        self.plan = plan
        self._cell = cell
        self._ik = InverseKinematics(cell)
        self._joints = HOME.copy()
        self._yaw = 0.0
        self._hold_height = 0.0
        self._looks = 0
        self.closed = False
        self.result = Result(TaskStatus.UNKNOWN, '')

    def run(self) -> Iterator[None]:
        """Do the task; yields once per tick of 20 ms. ``result`` is set at the end."""
        try:
            yield from self.task.script(self)
            self.result = Result(TaskStatus.SUCCEEDED, f'{self.task.name} finished')
        except AbortError as reason:
            self.command_grip(MAX_WIDTH, self.plan.grip_force)
            self.result = Result(TaskStatus.ABORTED, str(reason))
        if self.task.ends_at_home:
            yield from self._go_home(0.9)

    # Composite motions

    def grasp(self) -> Iterator[None]:
        """Look, come down on the item, close, lift and check; twice at most, then give up."""
        plan = self.plan
        for attempt in range(ATTEMPTS):
            point, yaw = self.see(plan.item)
            self._hold_height = point[2] - self.task.items[plan.item].z
            above = np.array([point[0], point[1], max(plan.carry_height - 0.08, 0.2)])
            yield from self.move(above, yaw, 0.5 if attempt else 1.0)
            if steps.CLOSE_FIRST in plan.deviations:
                yield from self.grip()
            yield from self.move(point, yaw, 0.7)
            if steps.CLOSE_FIRST not in plan.deviations:
                yield from self.grip()
            lifted = np.array([point[0], point[1], plan.carry_height])
            yield from self.move(lifted, yaw, 0.75)
            if self.holds_something() or steps.NO_CHECK in plan.deviations:
                break
            self.command_grip(MAX_WIDTH, plan.grip_force)
            yield from self.wait(0.2)
        else:
            raise AbortError(f'gripper empty after {ATTEMPTS} attempts to grasp')
        if steps.LET_GO_EARLY in plan.deviations:
            yield from self.release()
        yield from self.wait(plan.pause)

    def carry(self, yaw: float = 0.0, over: Vector | None = None) -> Iterator[None]:
        """Carry the item over the place where it will be put down, or to the point ``over``."""
        plan = self.plan
        here = self.position
        if over is None:
            over = np.array([*self._place(), plan.carry_height])
        seconds = 0.5 + 1.5 * float(np.linalg.norm(over - here))
        for progress in self.motion(over, self._turned(yaw), seconds):
            if progress >= plan.fade_at and self.closed:
                self._fade_grip()
            self._watch_grip()
            yield
        self._check_arrival()

    def put_down(self, bottom: float, yaw: float = 0.0, gap: float = 0.012) -> Iterator[None]:
        """Lower the item until its bottom is ``gap`` above ``bottom``, metres; open; rise."""
        plan = self.plan
        turned = self._turned(yaw)
        height = bottom + self._hold_height + gap + plan.goal_error[2]
        if steps.NO_LOWERING in plan.deviations:
            height = plan.carry_height
        for _ in self.motion(np.array([*self._place(), height]), turned, 0.75):
            self._watch_grip()
            yield
        self._check_arrival()
        yield from self.release()
        yield from self.move(np.array([*self._place(), plan.carry_height]), turned, 0.5)

    # Single motions

    def check_grip(self) -> None:
        """Give up when the gripper is empty, if this robot looks at it at all."""
        self._watch_grip()

    def see(self, item: int) -> tuple[Vector, float]:
        """Return where the robot believes that it must grasp: position, metres, and yaw."""
        shape = SHAPES[self.task.items[item].shape]
        center = self._cell.item_positions()[item]
        axis = self._cell.item_axis(item)
        if axis[2] > 0.8:
            height = center[2] - shape.height / 2 + shape.grasp
            yaw = 0.0 if shape.round else self._cell.item_yaw(item)
        else:  # lying: close across its length
            height = center[2]
            yaw = float(np.arctan2(axis[1], axis[0]))
        error = self.plan.sight_error
        if self._looks and self.plan.second_sight is not None:
            error = self.plan.second_sight
        self._looks += 1
        seen = np.array([center[0], center[1], height]) + np.array(error)
        seen[2] = max(seen[2], self.task.items[item].z + _LOWEST_GRASP)
        yaw = (yaw + np.pi / 2) % np.pi - np.pi / 2
        if steps.NO_TURN in self.plan.deviations:
            yaw = 0.0
        return seen, float(np.clip(yaw, -_YAW_LIMIT, _YAW_LIMIT)) + self.plan.turn_error

    def grip(self) -> Iterator[None]:
        """Close the fingers until they meet something, or as far as the plan closes them."""
        self.command_grip(self.plan.grip_width, self.plan.grip_force)
        yield from self.wait(0.45)

    def release(self) -> Iterator[None]:
        """Open the fingers."""
        self.command_grip(MAX_WIDTH, self.plan.grip_force)
        yield from self.wait(0.35)

    def move(self, position: Vector, yaw: float, seconds: float) -> Iterator[None]:
        """Move the fingertips on a straight line; give up when they did not get there."""
        for _ in self.motion(position, yaw, seconds):
            yield
        self._check_arrival()

    def push(self, start: Vector, end: Vector, yaw: float, seconds: float) -> Iterator[None]:
        """Come down at ``start``, push in a line to ``end``, draw back a little, and rise."""
        above = np.array([start[0], start[1], self.plan.carry_height])
        yield from self.move(above, yaw, 1.0)
        yield from self.move(start, yaw, 0.7)
        yield from self.wait(self.plan.pause)
        yield from self.move(end, yaw, seconds)
        length = float(np.linalg.norm(end - start))
        back = end + min(1.0, _DRAW_BACK / max(length, 1e-6)) * (start - end)
        yield from self.move(back, yaw, 0.3)
        yield from self.move(np.array([back[0], back[1], self.plan.carry_height]), yaw, 0.6)

    def wait(self, seconds: float) -> Iterator[None]:
        """Stand still; not at all for zero seconds."""
        if seconds <= 0.0:
            return
        for _ in range(self._ticks(seconds)):
            yield

    def motion(self, position: Vector, yaw: float, seconds: float) -> Iterator[float]:
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

    @property
    def position(self) -> Vector:
        """Where the fingertips are commanded to be, (3,) metres."""
        here, _ = self._ik.pose(self._joints)
        return here

    def holds_something(self) -> bool:
        """Tell whether the fingers, as far as their width says, hold something."""
        return self._cell.width > EMPTY_WIDTH

    def command_grip(self, width: float, force: float) -> None:
        """Command the fingers, metres and newtons, without waiting for them."""
        self.closed = width < MAX_WIDTH
        self._cell.command_grip(width, force)

    @property
    def place(self) -> tuple[float, float]:
        """Where the robot believes the goal to be (x, y), metres."""
        return self._place()

    def _place(self) -> tuple[float, float]:
        x, y = self.plan.place
        return x + self.plan.goal_error[0], y + self.plan.goal_error[1]

    def _turned(self, yaw: float) -> float:
        """Return how the robot turns for a goal that is turned by ``yaw``, radians."""
        known = 0.0 if steps.NO_TURN in self.plan.deviations else yaw
        return known + self.plan.goal_turn_error

    def _fade_grip(self) -> None:
        plan = self.plan
        self.command_grip(plan.grip_width, min(plan.grip_force, plan.fade_force))
        if plan.fade_friction < GRIP_FRICTION:
            self._cell.slicken_fingertips(plan.fade_friction)

    def _watch_grip(self) -> None:
        if self.plan.watches_grip and not self.holds_something():
            raise AbortError('gripper empty on the way')

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
            raise AbortError(f'motion not finished: a joint is {error:.2f} rad off its goal')

    def _ticks(self, seconds: float) -> int:
        return max(1, round(seconds / self.plan.speed / TICK_SECONDS))


def _minimum_jerk(s: float) -> float:
    """Map time 0..1 to way 0..1 with zero velocity and acceleration at both ends."""
    return s * s * s * (10.0 + s * (6.0 * s - 15.0))
