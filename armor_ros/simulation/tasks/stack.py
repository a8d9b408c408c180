# SPDX-License-Identifier: Apache-2.0
"""Stack the named block on another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from armor_ros.simulation.domain import DomainSettings
from armor_ros.simulation.events import FLOOR, GRIPPER, TABLE, Event, EventKind
from armor_ros.simulation.scene import SHAPES, Item, table_spots
from armor_ros.simulation.tasks.base import GRASP_MODES, Position, register
from armor_ros.simulation.tasks.drawing import on_table
from armor_ros.simulation.tasks.placing import Placing

if TYPE_CHECKING:
    from armor_ros.simulation.policy import Controller
    from armor_ros.simulation.statelog import StateLog

_BLOCK = 'block'
_SIDE = SHAPES[_BLOCK].height
_OVER = 0.034
_HEIGHT_TOLERANCE = 0.012


@register
@dataclass(frozen=True, kw_only=True)
class Stack(Placing):
    """
    Put the named block on top of another one: the items are the goals, too.

    Done when the block rests on the other at the end, let go of, and no further block is stacked.
    """

    name: ClassVar[str] = 'stack'
    modes: ClassVar[tuple[str, ...]] = (
        *GRASP_MODES,
        'goal_offset',
        'wrong_sequence',
        'wrong_object',
        'wrong_destination',
        'nothing_transported',
    )
    goal_size: ClassVar[float] = 0.027

    @classmethod
    def draw(cls, rng: np.random.Generator, domain: DomainSettings) -> Stack:
        """Place four blocks of different colours."""
        colors = [domain.colors[i] for i in rng.permutation(len(domain.colors))[:4]]
        spots = table_spots(rng, len(colors), apart=0.14, y=(-0.22, 0.22))
        items, target = on_table(rng, [(color, _BLOCK) for color in colors], spots)
        goal = next(i for i, item in enumerate(items) if item.color == colors[1])
        return cls(items=items, target=target, goal=goal)

    @property
    def instruction(self) -> str:
        """Name both blocks."""
        return f'stack the {self.named.name} on the {self._goal.name}'

    @property
    def goals(self) -> tuple[Item, ...]:
        """All blocks."""
        return self.items

    @property
    def done(self) -> str:
        """Both blocks."""
        return f'placed the {self.named.name} on top of the {self._goal.name}'

    def script(self, robot: Controller) -> Iterator[None]:
        """Grasp, carry, put down on top."""
        yaw = self.items[self.goal].yaw
        yield from robot.grasp()
        yield from robot.carry(yaw)
        yield from robot.put_down(_SIDE, yaw, gap=0.006)

    def place_of(self, position: Position) -> str:
        """Return the block above which a point is, else 'table' or 'floor'."""
        if position[2] < -0.05:
            return FLOOR
        if position[2] > 1.2 * _SIDE:
            for item in self.items:
                if np.hypot(position[0] - item.x, position[1] - item.y) < _OVER:
                    return item.name
        return TABLE

    def event_at(
        self, log: StateLog, kind: EventKind, sample: int, item: int | None = None
    ) -> Event:
        """Return an event; where the block itself stood, there is but the table now."""
        event = super().event_at(log, kind, sample, item)
        own = event.place == self.items[event.item].name
        return replace(event, place=TABLE) if own else event

    def rest_of(self, log: StateLog, item: int) -> str:
        """Return the block on which a block lies flat at the end, else where it is."""
        rest = super().rest_of(log, item)
        if rest in (GRIPPER, FLOOR):
            return rest
        away = log.items[-1, item] - log.items[-1]
        level = np.abs(away[:, 2] - _SIDE) < _HEIGHT_TOLERANCE
        below = np.flatnonzero(level & (np.hypot(away[:, 0], away[:, 1]) < _OVER))
        return self.items[int(below[0])].name if len(below) else TABLE

    def at(self, place: str) -> str:
        """Return 'on the blue block'; a gripper holds things in it."""
        return f'in the {place}' if place == GRIPPER else f'on the {place}'

    def others(self) -> list[int]:
        """Return the blocks that are not the goal."""
        return [i for i in super().others() if i != self.goal]

    def goal_offset(self, log: StateLog, sample: int) -> tuple[float, float, float]:
        """Return how far the block is from the middle of the base's top."""
        away = log.items[sample, self.target] - log.items[0, self.goal]
        return float(away[0]), float(away[1]), float(away[2] - _SIDE)
