# SPDX-License-Identifier: Apache-2.0
"""Push the named item onto a coloured target without grasping it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from armor_ros.simulation import plan as steps
from armor_ros.simulation.domain import DomainSettings, Look
from armor_ros.simulation.events import FLOOR, TABLE, Event, EventKind
from armor_ros.simulation.furniture import add_disc
from armor_ros.simulation.scene import COLORS, SHAPES
from armor_ros.simulation.tasks import push_words
from armor_ros.simulation.tasks.base import Position, register
from armor_ros.simulation.tasks.drawing import on_table
from armor_ros.simulation.tasks.placing import Placing

if TYPE_CHECKING:
    from armor_ros.simulation.policy import Controller
    from armor_ros.simulation.statelog import StateLog

RADIUS = 0.060
"""Radius of a target, metres."""

INSIDE = 0.030
"""An item whose middle is so near to a target's, metres, stands wholly on it."""

# Low enough for the hand to pass above those that are not pushed.
_PUSHABLE = ('block', 'puck')
# Metres: from the item's middle to its side, from the fingertips' middle to theirs; how far behind
# the item the fingers come down; their height above the table and their opening while they push.
_REACH = 0.030
_TIP = 0.0105
_STANDOFF = 0.030
_HEIGHT = 0.020
_OPENING = 0.018
# Metres: other items keep so far away from the way of the push.
_CLEARANCE = 0.10
# Metres: an item has been pushed when it moved so far; it has stopped when it moves less than
# so much more; the fingers are down below so high, and above an item when so near to it.
_MOVED = 0.02
_STOPPED = 0.004
_LOW = 0.07
_ABOVE = 0.03
_UPRIGHT = 0.7
# Metres: an item whose middle is no further from a target's stands partly on it.
_PARTLY = RADIUS + 0.025
_EDGE = 'edge of the '


@dataclass(frozen=True, slots=True)
class Target:
    """A flat disc on the table: colour, middle (x, y) in metres."""

    color: str
    x: float
    y: float

    @property
    def name(self) -> str:
        """The words that identify the target, 'red target'."""
        return f'{self.color} target'


@register
@dataclass(frozen=True, kw_only=True)
class PushToTarget(Placing):
    """
    Push the named item along the table onto one of two flat targets.

    Done when the item stands at the end, wholly on its target, and no other item came to stand on
    one or on the edge of one.
    """

    name: ClassVar[str] = 'push_to_target'
    modes: ClassVar[tuple[str, ...]] = (
        'missed_push',
        'translation_z',
        'goal_offset',
        'push_direction',
        'late_lowering',
        'wrong_object',
        'wrong_destination',
    )
    lifts: ClassVar[bool] = False
    goal_size: ClassVar[float] = 0.050
    shortfall: ClassVar[EventKind] = EventKind.GOAL_NOT_REACHED
    observations: ClassVar[Mapping[EventKind, tuple[str, ...]]] = push_words.OBSERVATIONS
    short_observations: ClassVar[Mapping[EventKind, tuple[str, ...]]] = push_words.SHORT

    targets: tuple[Target, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, domain: DomainSettings) -> PushToTarget:
        """Place three items in a row and two targets beyond it, or on the robot's side of it."""
        shape, other = (str(shape) for shape in rng.permutation(_PUSHABLE))
        colors = [domain.colors[i] for i in rng.permutation(len(domain.colors))[:4]]
        names = [(colors[0], shape), (colors[1], shape), (colors[0], other)]
        near, far = (0.37, 0.43), (0.55, 0.60)
        rows = (near, far) if rng.random() < 0.65 else (far, near)
        while True:
            spots = [
                (float(rng.uniform(*rows[0])), float(y + rng.uniform(-0.03, 0.03)))
                for y in rng.permutation((-0.20, 0.0, 0.20))
            ]
            items, target = on_table(rng, names, spots)
            aims = [
                Target(color, float(rng.uniform(*rows[1])), float(y + rng.uniform(-0.03, 0.03)))
                for color, y in zip(colors[2:4], rng.permutation((-0.11, 0.11)), strict=True)
            ]
            task = cls(items=items, target=target, goal=0, targets=tuple(aims))
            if task._way_is_free():
                return task

    def _way_is_free(self) -> bool:
        """Tell whether no other item stands in the way of the push."""
        start, end = np.array([self.named.x, self.named.y]), np.array(self.drop)
        along = (end - start) / np.linalg.norm(end - start)
        begin = start - (_REACH + _STANDOFF) * along
        for item in (self.items[i] for i in self.others()):
            away = np.array([item.x, item.y]) - begin
            nearest = np.clip(away @ along, 0.0, np.linalg.norm(end - begin))
            if np.linalg.norm(away - nearest * along) < _CLEARANCE:
                return False
        return True

    @property
    def instruction(self) -> str:
        """Name the item and the target."""
        return f'push the {self.named.name} onto the {self._goal.name}'

    @property
    def goals(self) -> tuple[Target, ...]:
        """The targets."""
        return self.targets

    @property
    def done(self) -> str:
        """Item and target."""
        return f'pushed the {self.named.name} onto the {self._goal.name}'

    def furnish(self, spec: Any, look: Look) -> None:
        """Paint the targets on the table."""
        for target in self.targets:
            add_disc(spec, (target.x, target.y), RADIUS, COLORS[target.color])

    def script(self, robot: Controller) -> Iterator[None]:
        """Come down behind the item, push it in a straight line, rise."""
        plan = robot.plan
        seen, _ = robot.see(plan.item)
        goal = np.array(robot.place)
        way = goal - seen[:2]
        direction = float(np.arctan2(way[1], way[0])) + plan.turn_error
        along = np.array([np.cos(direction), np.sin(direction)])
        height = seen[2] - SHAPES[self.items[plan.item].shape].grasp + _HEIGHT
        height = max(height, _HEIGHT)
        start = np.array([*(seen[:2] - (_REACH + _STANDOFF) * along), height])
        length = float(np.linalg.norm(way)) - _REACH - _TIP
        end = np.array([*(seen[:2] + length * along), height])
        yaw = (direction + np.pi / 2) % np.pi - np.pi / 2
        robot.command_grip(_OPENING, plan.grip_force)
        if steps.NO_LOWERING in plan.deviations:
            above = np.array([*start[:2], plan.carry_height])
            yield from robot.move(above, yaw, 1.2)
            start = end
        yield from robot.push(start, end, yaw, 0.6 + 5.0 * length)

    def succeeded(self, log: StateLog) -> bool:
        """Tell whether the item stands wholly on the target and the others where they were."""
        return log.upright(self.target, -1) > _UPRIGHT and super().succeeded(log)

    def place_of(self, position: Position) -> str:
        """Return the target on which, or on the edge of which, an item is: 'table', 'floor'."""
        if position[2] < -0.05:
            return FLOOR
        away = {t.name: np.hypot(position[0] - t.x, position[1] - t.y) for t in self.targets}
        nearest = min(away, key=lambda name: away[name])
        if away[nearest] <= INSIDE:
            return nearest
        return f'{_EDGE}{nearest}' if away[nearest] <= _PARTLY else TABLE

    def at(self, place: str) -> str:
        """Return 'on the red target', 'on the edge of the red target', 'on the table'."""
        return f'on the {place}'

    def hard_contact(self, log: StateLog, sample: int, event: Event) -> Event | None:
        """Leave out what a pushed item does to the table."""
        pushed = bool(log.touched[sample].all(axis=1).any())
        return None if pushed and log.struck[sample] < 0 else event

    def own_events(self, log: StateLog) -> list[Event]:
        """Return which items were set in motion and how the named one's way ended."""
        pushed = {i: _set_off(log, i) for i in range(len(self.items))}
        first = pushed[self.target]
        events = []
        for item in self.others():
            begin = pushed[item]
            if begin is None or (first is not None and first < begin):
                continue
            if log.touched[:, item].any():
                events.append(self.event_at(log, EventKind.WRONG_OBJECT, begin, item))
        events += self._disturbed(log)
        if first is not None:
            return [
                *events,
                self.event_at(log, EventKind.MOVED, first),
                *self._end(log),
            ]
        return events or self._missed(log)

    def _disturbed(self, log: StateLog) -> list[Event]:
        return [
            self.event_at(log, EventKind.DISPLACED, _stop(log, item), item)
            for item in self.others()
            if self.place_of(log.items[0, item]) != self.rest_of(log, item)
        ]

    def _end(self, log: StateLog) -> list[Event]:
        """Return how the way of the pushed item ended, when it is not at its goal."""
        rest = self.rest_of(log, self.target)
        stop = _stop(log, self.target)
        if log.upright(self.target, -1) <= _UPRIGHT:
            return [self.event_at(log, EventKind.TOPPLED, stop)]
        if rest == self._goal.name:
            return []
        others = [goal.name for goal in self._other_goals]
        elsewhere = rest.removeprefix(_EDGE) in others
        kind = EventKind.WRONG_DESTINATION if elsewhere else EventKind.MISPLACED
        return [replace(self.event_at(log, kind, stop), offset=self.goal_offset(log, stop))]

    def _missed(self, log: StateLog) -> list[Event]:
        """Return how the fingers went by when no item was pushed."""
        away = log.tcp - log.items[:, self.target]
        flat = np.hypot(away[:, 0], away[:, 1])
        low = np.flatnonzero(log.tcp[:, 2] < _LOW)
        passed = len(low) and flat[: low[0]].min(initial=np.inf) < _ABOVE
        if passed and flat[low].min() > RADIUS + _REACH:
            return [self.event_at(log, EventKind.WRONG_SEQUENCE, int(low[0]))]
        sides = np.where(log.closing, np.linalg.norm(away, axis=1), np.inf)
        nearest = int(np.argmin(sides))
        dx, dy, dz = away[nearest]
        missed = self.event_at(log, EventKind.MISSED, nearest)
        return [replace(missed, offset=(float(dx), float(dy), float(dz)))]


def _set_off(log: StateLog, item: int) -> int | None:
    """Return the sample at which an item had moved along the table, None when it never did."""
    way = np.linalg.norm(log.items[:, item, :2] - log.items[0, item, :2], axis=1)
    moved = np.flatnonzero(way > _MOVED)
    return int(moved[0]) if len(moved) else None


def _stop(log: StateLog, item: int) -> int:
    """Return the sample at which an item came to rest."""
    left = np.linalg.norm(log.items[:, item] - log.items[-1, item], axis=1)
    moving = np.flatnonzero(left > _STOPPED)
    return min(int(moving[-1]) + 1, len(log) - 1) if len(moving) else 0
