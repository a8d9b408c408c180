# SPDX-License-Identifier: Apache-2.0
"""What the robot believes and how it moves in one episode, and how an injected mode spoils it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from armor_ros.errors import ArmorError
from armor_ros.simulation.robot import GRIP_FORCE
from armor_ros.simulation.scene import TOTE_NAMES, Scene, free_spot


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The transport as the robot will attempt it.

    ``item`` indexes the scene's items, ``place`` is where it will be put down (x, y in metres).
    ``sight_error`` is added to where the robot believes the item to be, metres. ``carry_height``
    is the height of the fingertips on the way, metres; ``speed`` scales all motions.
    ``fade_force`` is the force, newtons, to which the grip weakens at the fraction ``fade_at``
    of the way to the destination. ``watches_grip`` tells whether the robot's stack looks at the
    gripper's width on the way, or once after lifting only.
    """

    item: int
    place: tuple[float, float]
    sight_error: tuple[float, float, float] = (0.0, 0.0, 0.0)
    carry_height: float = 0.30
    speed: float = 1.0
    fade_at: float = 0.0
    fade_force: float = GRIP_FORCE
    watches_grip: bool = False


def sample_plan(rng: np.random.Generator, scene: Scene) -> Plan:
    """Draw an undisturbed plan: a few millimetres of sight error, own height, speed and care."""
    return Plan(
        item=scene.target,
        place=scene.drop,
        sight_error=tuple(rng.normal(0.0, 0.002, 3).tolist()),
        carry_height=float(rng.uniform(0.25, 0.32)),
        speed=float(rng.uniform(0.9, 1.15)),
        watches_grip=bool(rng.random() < 0.3),
    )


Injection = Callable[[Plan, Scene, np.random.Generator], Plan]
INJECTIONS: dict[str, Injection] = {}
"""
Injected modes by name. An injection spoils a plan; whether the task then fails, and how, is for
the judge to say. To add one, decorate a function of plan, scene and random generator.
"""


def injection(function: Injection) -> Injection:
    """Register an injected mode under the function's name."""
    INJECTIONS[function.__name__] = function
    return function


def inject(mode: str, plan: Plan, scene: Scene, rng: np.random.Generator) -> Plan:
    """Return the plan spoiled by a mode. Raises ArmorError on a mode that does not exist."""
    if mode not in INJECTIONS:
        raise ArmorError(f'no mode {mode!r} to inject; choose from: {", ".join(INJECTIONS)}')
    return INJECTIONS[mode](plan, scene, rng)


@injection
def nominal(plan: Plan, scene: Scene, rng: np.random.Generator) -> Plan:
    """Leave the plan as it is."""
    return plan


@injection
def slip(plan: Plan, scene: Scene, rng: np.random.Generator) -> Plan:
    """Let the grip force fade on the way; whether and where the item falls is left to physics."""
    latest = 0.28 if abs(scene.source - scene.destination) == 1 else 0.45
    return replace(
        plan,
        fade_at=float(rng.uniform(0.1, latest)),
        fade_force=float(rng.uniform(0.3, 0.9)),
    )


@injection
def missed_grasp(plan: Plan, scene: Scene, rng: np.random.Generator) -> Plan:
    """Let the robot see the item beside, or above, the place where it stands."""
    sign = float(rng.choice((-1.0, 1.0)))
    shift = sign * float(rng.uniform(0.042, 0.058))
    if rng.random() < 0.25:
        error = (0.0, 0.0, float(rng.uniform(0.06, 0.09)))
    else:
        error = (shift, float(rng.normal(0.0, 0.004)), 0.0)
    return replace(plan, sight_error=error)


@injection
def wrong_destination(plan: Plan, scene: Scene, rng: np.random.Generator) -> Plan:
    """Put the item down in the tote that is neither source nor destination."""
    others = [t for t in range(len(TOTE_NAMES)) if t not in (scene.source, scene.destination)]
    return replace(plan, place=free_spot(rng, scene, int(rng.choice(others))))


@injection
def wrong_object(plan: Plan, scene: Scene, rng: np.random.Generator) -> Plan:
    """Take another item of the source tote for the one that was named."""
    others = [
        i for i, item in enumerate(scene.items) if item.tote == scene.source and i != plan.item
    ]
    return replace(plan, item=int(rng.choice(others)))
