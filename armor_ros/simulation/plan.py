# SPDX-License-Identifier: Apache-2.0
"""What the robot believes and how it moves in one episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from armor_ros.simulation.domain import PLAIN, DomainSettings

if TYPE_CHECKING:
    from armor_ros.simulation.tasks.base import Task

GRIP_FORCE = 40.0
"""Force between the fingers that the gripper is asked for, newtons."""

GRIP_FRICTION = 0.8
"""Coefficient of friction between the fingers and what they hold."""

CLOSE_FIRST = 'close_first'
LET_GO_EARLY = 'let_go_early'
NO_TURN = 'no_turn'
NO_CHECK = 'no_check'
NO_LOWERING = 'no_lowering'


@dataclass(frozen=True, slots=True)
class Plan:
    """
    A task as the robot will attempt it; lengths in metres, angles in radians.

    ``item`` indexes the scene's items, ``place`` is where it will be put down (x, y).
    ``sight_error`` is added to where the robot believes the item to be and ``turn_error`` to how
    it believes it to be turned; ``second_sight``, where given, takes the place of ``sight_error``
    from the second look on. ``goal_error`` and ``goal_turn_error`` are the same for the goal.
    ``grip_width`` is how far the fingers close (0: until they meet something), ``grip_force``
    their force, newtons. ``carry_height`` is the height of the fingertips on the way; ``speed``
    scales all motions; ``pause`` is a wait, seconds, before the item is carried.
    ``fade_force`` is the force, newtons, to which the grip weakens at the fraction ``fade_at``
    of the way to the destination, ``fade_friction`` the coefficient to which the friction of the
    fingertips falls there. ``watches_grip`` tells whether the robot's stack looks at the
    gripper's width on the way, or once after lifting only. ``stuck`` are two
    items that hang together, by accident. ``deviations`` names steps that go
    otherwise than they should: the constants of this module.
    """

    item: int
    place: tuple[float, float]
    sight_error: tuple[float, float, float] = (0.0, 0.0, 0.0)
    carry_height: float = 0.30
    speed: float = 1.0
    fade_at: float = 0.0
    fade_force: float = GRIP_FORCE
    fade_friction: float = GRIP_FRICTION
    watches_grip: bool = False
    turn_error: float = 0.0
    goal_error: tuple[float, float, float] = (0.0, 0.0, 0.0)
    goal_turn_error: float = 0.0
    grip_width: float = 0.0
    grip_force: float = GRIP_FORCE
    pause: float = 0.0
    stuck: tuple[int, int] | None = None
    deviations: frozenset[str] = frozenset()
    second_sight: tuple[float, float, float] | None = None


def sample_plan(rng: np.random.Generator, task: Task, domain: DomainSettings = PLAIN) -> Plan:
    """Draw an undisturbed plan: a few millimetres of sight error, own height, speed and care."""
    return Plan(
        item=task.target,
        place=task.drop,
        sight_error=tuple(rng.normal(0.0, 0.002, 3).tolist()),
        carry_height=float(rng.uniform(*domain.carry_height)),
        speed=float(rng.uniform(0.9, 1.15)),
        watches_grip=bool(rng.random() < 0.3),
        pause=domain.pause * float(rng.random()),
    )
