# SPDX-License-Identifier: Apache-2.0
"""Stack the named block on another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from armor_ros.simulation.domain import DomainSettings
from armor_ros.simulation.events import FLOOR, GRIPPER, TABLE, EventKind
from armor_ros.simulation.scene import SHAPES, Item, table_spots
from armor_ros.simulation.tasks.base import Position, Task, register
from armor_ros.simulation.tasks.drawing import on_table

if TYPE_CHECKING:
    from armor_ros.simulation.policy import Controller
    from armor_ros.simulation.statelog import StateLog

_BLOCK = 'block'
_SIDE = SHAPES[_BLOCK].height
_OVER = 0.034
_HEIGHT_TOLERANCE = 0.012


@register
@dataclass(frozen=True, kw_only=True)
class Stack(Task):
    """
    Put the named block on top of another one, ``base``, which indexes ``items``.

    Done when the block rests on the base at the end, let go of, and no other block is stacked.
    """

    name: ClassVar[str] = 'stack'
    modes: ClassVar[tuple[str, ...]] = (
        'slip',
        'slip_friction',
        'incomplete_grasp',
        'translation_x',
        'translation_y',
        'translation_z',
        'goal_offset',
        'wrong_sequence',
        'wrong_object',
        'wrong_destination',
        'nothing_transported',
    )
    goal_size: ClassVar[float] = 0.027

    base: int

    @classmethod
    def draw(cls, rng: np.random.Generator, domain: DomainSettings) -> Stack:
        """Place four blocks of different colours."""
        colors = [domain.colors[i] for i in rng.permutation(len(domain.colors))[:4]]
        spots = table_spots(rng, len(colors), apart=0.14, y=(-0.22, 0.22))
        items, target = on_table(rng, [(color, _BLOCK) for color in colors], spots)
        base = next(i for i, item in enumerate(items) if item.color == colors[1])
        return cls(items=items, target=target, base=base)

    @property
    def instruction(self) -> str:
        """Name both blocks."""
        return f'stack the {self.named.name} on the {self._goal.name}'

    @property
    def origin(self) -> str:
        """The table."""
        return 'the table'

    @property
    def aim(self) -> str:
        """On the base."""
        return f'on the {self._goal.name}'

    @property
    def done(self) -> str:
        """Both blocks."""
        return f'placed the {self.named.name} on top of the {self._goal.name}'

    @property
    def drop(self) -> tuple[float, float]:
        """Where the base stands."""
        return self._goal.x, self._goal.y

    @property
    def _goal(self) -> Item:
        return self.items[self.base]

    def script(self, robot: Controller) -> Iterator[None]:
        """Grasp, carry, put down on top."""
        yield from robot.grasp()
        yield from robot.carry(self._goal.yaw)
        yield from robot.put_down(_SIDE, self._goal.yaw, gap=0.006)

    def succeeded(self, log: StateLog) -> bool:
        """Tell whether the block rests on the base at the end."""
        return self.rest_of(log, self.target) != GRIPPER and self._rests(log, self.base)

    def _rests(self, log: StateLog, base: int) -> bool:
        """Tell whether the named block lies flat on another one at the end."""
        away = log.items[-1, self.target] - log.items[-1, base]
        return bool(
            np.hypot(away[0], away[1]) < _OVER and abs(away[2] - _SIDE) < _HEIGHT_TOLERANCE
        )

    def place_of(self, position: Position) -> str:
        """Return the block above which a point is, else 'table' or 'floor'."""
        if position[2] < -0.05:
            return FLOOR
        if position[2] > 1.2 * _SIDE:
            for item in self.items:
                if np.hypot(position[0] - item.x, position[1] - item.y) < _OVER:
                    return item.name
        return TABLE

    def at(self, place: str) -> str:
        """Return 'on the blue block'; a gripper holds things in it."""
        return f'in the {place}' if place == GRIPPER else f'on the {place}'

    def others(self) -> list[int]:
        """Return the blocks that are not the base."""
        return [i for i in super().others() if i != self.base]

    def wrong_places(self, rng: np.random.Generator) -> list[tuple[float, float]]:
        """Return where the other blocks stand."""
        return [(self.items[i].x, self.items[i].y) for i in self.others()]

    def release_kind(self, log: StateLog, item: int, release: int) -> EventKind:
        """Tell a block on the wrong block from one that missed its own."""
        if item != self.target or self.succeeded(log):
            return EventKind.PLACED
        if any(self._rests(log, other) for other in self.others()):
            return EventKind.WRONG_DESTINATION
        return EventKind.MISPLACED

    def goal_offset(self, log: StateLog, sample: int) -> tuple[float, float, float]:
        """Return how far the block is from the middle of the base's top."""
        away = log.items[sample, self.target] - log.items[0, self.base]
        return float(away[0]), float(away[1]), float(away[2] - _SIDE)

    def alternatives(self) -> tuple[Task, ...]:
        """Return every other pair of blocks."""
        count = len(self.items)
        return tuple(
            replace(self, target=i, base=k)
            for i in range(count)
            for k in range(count)
            if i != k and (i, k) != (self.target, self.base)
        )
