# SPDX-License-Identifier: Apache-2.0
"""Failures of the grip: too weak, not closed, lost on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures.base import Failure, register
from armor_ros.simulation.failures.sight import above_item
from armor_ros.simulation.plan import NO_CHECK, Plan
from armor_ros.simulation.scene import SHAPES
from armor_ros.simulation.tasks.base import Task

_GRAVITY = 9.81
# Metres: further than this is a long way to carry.
_LONG = 0.49


class _Slip(Failure):
    """Let the hold weaken on the way; whether and where the item falls is left to physics."""

    family: ClassVar[str] = 'slip'
    latest: ClassVar[tuple[float, float]]
    """The last fraction of a short and of a long way at which it weakens."""
    kinds: ClassVar[frozenset[EventKind]] = frozenset({EventKind.DROPPED})

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Choose when the hold weakens: soon enough for the item to fall short of its goal."""
        way = float(np.hypot(task.drop[0] - task.named.x, task.drop[1] - task.named.y))
        latest = self.latest[way > _LONG]
        return replace(plan, fade_at=float(rng.uniform(0.1, latest)))


@register
class Slip(_Slip):
    """Let the grip force fade on the way."""

    name: ClassVar[str] = 'slip'
    latest: ClassVar[tuple[float, float]] = (0.28, 0.45)

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Choose what remains of the force."""
        plan = super().spoil(plan, task, rng)
        return replace(plan, fade_force=float(rng.uniform(0.3, 0.9)))


@register
class SlipFriction(_Slip):
    """Let the fingertips turn slippery on the way; the grip is as firm as ever."""

    name: ClassVar[str] = 'slip_friction'
    latest: ClassVar[tuple[float, float]] = (0.20, 0.36)  # a firm grip takes it along for longer

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Choose the friction: some part of what would just hold the item's weight."""
        plan = super().spoil(plan, task, rng)
        just_holds = SHAPES[task.named.shape].mass * _GRAVITY / plan.grip_force
        return replace(plan, fade_friction=just_holds * float(rng.uniform(0.15, 0.6)))

    def applies(self, task: Task) -> bool:
        """Tell whether the item has no lid that would catch on the fingertips."""
        return task.named.shape != 'parcel'


@register
class IncompleteGrasp(Failure):
    """Close the fingers not far enough to hold the item, which the robot takes for a grasp."""

    name: ClassVar[str] = 'incomplete_grasp'
    family: ClassVar[str] = 'incomplete grasp'
    kinds: ClassVar[frozenset[EventKind]] = frozenset(
        {EventKind.INCOMPLETE_GRASP, EventKind.DROPPED}
    )

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Leave the fingers a few millimetres wider than any item."""
        return replace(plan, grip_width=float(rng.uniform(0.068, 0.074)))


@register
class ItemOpened(Failure):
    """Take a parcel by its lid: what is lifted by it opens."""

    name: ClassVar[str] = 'item_opened'
    family: ClassVar[str] = 'item opened'
    kinds: ClassVar[frozenset[EventKind]] = frozenset({EventKind.OPENED})

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """See the parcel as much too high as its lid is above the place to hold it."""
        shape = SHAPES[task.named.shape]
        lid = shape.height - shape.grasp - 0.007 + float(rng.uniform(-0.002, 0.003))
        return replace(plan, sight_error=(*plan.sight_error[:2], lid))

    def applies(self, task: Task) -> bool:
        """Tell whether the item has a lid."""
        return task.named.shape == 'parcel'


@register
class MultiPick(Failure):
    """Let the item stick to the one beside it, so that both are lifted."""

    name: ClassVar[str] = 'multi_pick'
    family: ClassVar[str] = 'multi-pick'
    kinds: ClassVar[frozenset[EventKind]] = frozenset({EventKind.MULTI_PICK})

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Glue the two."""
        return replace(plan, stuck=task.sticky[0])

    def applies(self, task: Task) -> bool:
        """Tell whether an item stands right beside the named one."""
        return bool(task.sticky)


@register
class NothingTransported(Failure):
    """Miss the item and go on all the same: the robot does not look at its gripper."""

    name: ClassVar[str] = 'nothing_transported'
    family: ClassVar[str] = 'nothing transported'
    kinds: ClassVar[frozenset[EventKind]] = frozenset({EventKind.MISSED})

    def spoil(self, plan: Plan, task: Task, rng: np.random.Generator) -> Plan:
        """Grasp above the item, and do not check."""
        return replace(
            plan,
            sight_error=(*plan.sight_error[:2], above_item(task, rng)),
            deviations=plan.deviations | {NO_CHECK},
            watches_grip=False,
        )
