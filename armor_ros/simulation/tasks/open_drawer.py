# SPDX-License-Identifier: Apache-2.0
"""Open the named drawer of a cabinet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from armor_ros.simulation import plan as steps
from armor_ros.simulation.domain import DomainSettings, Look
from armor_ros.simulation.events import FLOOR, TABLE, Event, EventKind
from armor_ros.simulation.furniture import CABINET_HALF, CABINET_PITCH, add_cabinet
from armor_ros.simulation.scene import HANDLE_X, ON_TABLE, SHAPES, Item
from armor_ros.simulation.statelog import runs
from armor_ros.simulation.tasks import drawer_words
from armor_ros.simulation.tasks.base import GRASP_MODES, Position, Task, register

if TYPE_CHECKING:
    from armor_ros.simulation.policy import Controller
    from armor_ros.simulation.statelog import StateLog

_DRAWER = 'drawer'
_CABINET = 'cabinet'
_CLOSED, _PARTLY, _OPEN = 'closed', 'partly open', 'open'
# Metres: the drawers' bottom above the table, how far they slide, how far one is pulled.
_BOTTOM = 0.008
_STROKE = 0.150
_PULL = 0.130
# Metres: how far above the handle the fingers come and go.
_RISE = 0.120
# Metres: a drawer is open from here on, and closed up to there.
_OPEN_FROM = 0.090
_CLOSED_TO = 0.020
# Metres: the fingers slipped along the handle so far; they closed so high above it; they left it
# so far behind.
_SLIP = 0.012
_HIGH = 0.06
_LEFT = 0.04
_EMPTY = 0.012


@register
@dataclass(frozen=True, kw_only=True)
class OpenDrawer(Task):
    """
    Pull the named drawer open by its handle; three drawers are side by side in a cabinet.

    The drawers are the items: they slide along x. Done when the named one is open by 9 cm or more
    at the end and the others are closed. ``cabinet`` is its middle (x, y), metres.
    """

    name: ClassVar[str] = 'open_drawer'
    modes: ClassVar[tuple[str, ...]] = (
        *GRASP_MODES,
        'short_pull',
        'wrong_sequence',
        'wrong_object',
        'nothing_transported',
    )
    lifts: ClassVar[bool] = False
    shortfall: ClassVar[EventKind] = EventKind.GOAL_NOT_REACHED
    observations: ClassVar[Mapping[EventKind, tuple[str, ...]]] = drawer_words.OBSERVATIONS
    short_observations: ClassVar[Mapping[EventKind, tuple[str, ...]]] = drawer_words.SHORT

    cabinet: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator, domain: DomainSettings) -> OpenDrawer:
        """Place the cabinet, and give its drawers different colours."""
        colors = [domain.colors[i] for i in rng.permutation(len(domain.colors))[:3]]
        x, y = float(rng.uniform(0.33, 0.38)), float(rng.uniform(-0.06, 0.06))
        items = tuple(
            Item(
                color,
                _DRAWER,
                ON_TABLE,
                x,
                y + (k - 1) * CABINET_PITCH,
                0.0,
                z=_BOTTOM,
                stroke=_STROKE,
            )
            for k, color in enumerate(colors)
        )
        return cls(items=items, target=int(rng.integers(len(items))), cabinet=(x, y))

    @property
    def instruction(self) -> str:
        """Name the drawer."""
        return f'open the {self.named.name}'

    @property
    def origin(self) -> str:
        """The cabinet."""
        return f'the {_CABINET}'

    @property
    def aim(self) -> str:
        """Open."""
        return _OPEN

    @property
    def done(self) -> str:
        """The drawer."""
        return f'opened the {self.named.name}'

    @property
    def drop(self) -> tuple[float, float]:
        """Where the middle of the drawer is once it was pulled."""
        return self.named.x + _PULL, self.named.y

    def furnish(self, spec: Any, look: Look) -> None:
        """Add the cabinet."""
        add_cabinet(spec, self.cabinet, len(self.items), look.tote)

    def script(self, robot: Controller) -> Iterator[None]:
        """Take hold of the handle, pull, let go, rise."""
        from armor_ros.simulation.policy import ATTEMPTS, AbortError  # it imports tasks

        plan = robot.plan
        for attempt in range(ATTEMPTS):
            yield from self._take_hold(robot, 0.6 if attempt else 1.0)
            if robot.holds_something() or steps.NO_CHECK in plan.deviations:
                break
            yield from robot.release()
            yield from robot.move(robot.position + np.array([0.0, 0.0, 0.1]), 0.0, 0.4)
        else:
            raise AbortError(f'gripper empty after {ATTEMPTS} attempts to take hold')
        if steps.LET_GO_EARLY in plan.deviations:
            yield from robot.release()
        yield from robot.wait(plan.pause)
        pull = robot.place[0] - self.named.x
        yield from robot.carry(over=robot.position + np.array([pull, 0.0, 0.0]))
        if steps.CLOSE_FIRST in plan.deviations:
            yield from robot.move(robot.position - np.array([0.0, 0.0, _RISE]), 0.0, 0.8)
        yield from robot.wait(0.3)
        yield from robot.release()
        yield from robot.move(robot.position + np.array([0.0, 0.0, _RISE]), 0.0, 0.6)

    def _take_hold(self, robot: Controller, seconds: float) -> Iterator[None]:
        """Come down over the handle, unless that is left for later, and close the fingers."""
        seen, yaw = robot.see(robot.plan.item)
        handle = seen + np.array([HANDLE_X, 0.0, 0.0])
        above = handle + np.array([0.0, 0.0, _RISE])
        yield from robot.move(above, yaw, seconds)
        if steps.CLOSE_FIRST not in robot.plan.deviations:
            yield from robot.move(handle, yaw, 0.8)
        yield from robot.grip()

    def succeeded(self, log: StateLog) -> bool:
        """Tell whether the drawer is open and the others are closed."""
        return self.rest_of(log, self.target) == _OPEN and all(
            self.rest_of(log, i) == _CLOSED for i in self.others()
        )

    def place_of(self, position: Position) -> str:
        """Return 'cabinet' for a point in or over it, else 'table' or 'floor'."""
        if position[2] < -0.05:
            return FLOOR
        x, y = abs(position[0] - self.cabinet[0]), abs(position[1] - self.cabinet[1])
        inside = x <= CABINET_HALF[0] + _STROKE and y <= CABINET_HALF[1]
        return _CABINET if inside else TABLE

    def rest_of(self, log: StateLog, item: int) -> str:
        """Return how far a drawer is open at the end."""
        way = float(log.items[-1, item, 0]) - self.items[item].x
        if way >= _OPEN_FROM:
            return _OPEN
        return _CLOSED if way <= _CLOSED_TO else _PARTLY

    def at(self, place: str) -> str:
        """Return 'open', 'on the table'."""
        return place if place in (_CLOSED, _PARTLY, _OPEN) else super().at(place)

    def own_events(self, log: StateLog) -> list[Event]:
        """Return which drawers were pulled, and what became of each time the fingers closed."""
        events = []
        pulls = []
        for item in range(len(self.items)):
            way = log.items[:, item, 0] - log.items[0, item, 0]
            pulled = np.flatnonzero(way > _CLOSED_TO)
            if len(pulled):
                kind = EventKind.MOVED if item == self.target else EventKind.WRONG_OBJECT
                events.append(self.event_at(log, kind, int(pulled[0]), item))
                pulls.append(int(pulled[0]))
        for begin, end in runs(log.closing):
            held = np.flatnonzero(log.touched[begin : end + 1].all(axis=2).sum(axis=0) > 3)
            if not len(held):
                if not any(begin <= pull <= end for pull in pulls):  # one can hook a handle
                    events.append(self._empty(log, begin, end))
            elif int(held[0]) == self.target:
                events += self._let_go(log, begin, end)
        return events

    def _empty(self, log: StateLog, begin: int, end: int) -> Event:
        """Return what it was that the fingers closed without taking hold."""
        smallest = log.width[begin : end + 1].min()
        met = begin + int(np.flatnonzero(log.width[begin : end + 1] <= smallest + 0.002)[0])
        off = log.tcp[begin] - self._grip_point(log, begin)
        kind = EventKind.MISSED
        down = log.tcp[begin : end + 1, 2].min() < log.tcp[begin, 2] - _HIGH
        if off[2] > _HIGH and abs(off[1]) < _HIGH and down:
            kind = EventKind.WRONG_SEQUENCE
        elif smallest > _EMPTY and not log.touched[begin : end + 1].any():
            kind = EventKind.INCOMPLETE_GRASP
        offset = (float(off[0]), float(off[1]), float(off[2]))
        return replace(self.event_at(log, kind, met), offset=offset)

    def _let_go(self, log: StateLog, begin: int, end: int) -> list[Event]:
        """Return how a hold of the named drawer's handle ended, when it did not open."""
        if self.rest_of(log, self.target) == _OPEN:
            return []
        both = begin + np.flatnonzero(log.touched[begin : end + 1, self.target].all(axis=1))
        away = log.tcp[:, 0] - log.items[:, self.target, 0]
        slid = np.flatnonzero(np.abs(away[both[0] : end + 1] - away[both[0]]) > _SLIP)
        if len(slid):
            return [self.event_at(log, EventKind.DROPPED, int(both[0] + slid[0]))]
        moved = log.items[end, self.target, 0] - log.items[begin, self.target, 0]
        left = np.abs(away[end:] - away[end]) > _LEFT
        if moved < _CLOSED_TO and left.any():
            return [self.event_at(log, EventKind.WRONG_SEQUENCE, end)]
        short = replace(
            self.event_at(log, EventKind.MISPLACED, end),
            offset=self.goal_offset(log, end),
        )
        return [short]

    def _grip_point(self, log: StateLog, sample: int) -> Position:
        """Return where the fingers take hold of the named drawer, (3,) metres."""
        shape = SHAPES[_DRAWER]
        lift = [HANDLE_X, 0.0, shape.grasp - shape.height / 2]
        point: Position = log.items[sample, self.target] + lift
        return point

    def goal_offset(self, log: StateLog, sample: int) -> tuple[float, float, float]:
        """Return how far the drawer is from where it is pulled to."""
        return float(log.items[sample, self.target, 0]) - self.drop[0], 0.0, 0.0

    def alternatives(self) -> tuple[Task, ...]:
        """Return the other drawers."""
        return tuple(replace(self, target=i) for i in self.others())
