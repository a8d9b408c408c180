# SPDX-License-Identifier: Apache-2.0
"""Put the named item into the named container."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from armor_ros.simulation.domain import DomainSettings, Look
from armor_ros.simulation.events import FLOOR, TABLE
from armor_ros.simulation.furniture import add_bowl, add_open_box
from armor_ros.simulation.scene import COLORS, table_spots
from armor_ros.simulation.tasks.base import GRASP_MODES, Position, register
from armor_ros.simulation.tasks.drawing import among_distractors, on_table
from armor_ros.simulation.tasks.placing import Placing

if TYPE_CHECKING:
    from armor_ros.simulation.policy import Controller

KINDS = ('bowl', 'crate')
INNER = 0.080
"""Inner radius of a bowl, and half the inner side of a crate, metres."""

WALL = 0.045
_DROP = 0.025


@dataclass(frozen=True, slots=True)
class Container:
    """An open container on the table: centre (x, y), metres."""

    color: str
    kind: str
    x: float
    y: float

    @property
    def name(self) -> str:
        """The words that identify it, 'red bowl'."""
        return f'{self.color} {self.kind}'


@register
@dataclass(frozen=True, kw_only=True)
class PutIntoContainer(Placing):
    """
    Put the named item into one of two containers; ``goal`` indexes ``containers``.

    Done when the item lies in that container at the end, and no other item changed its place.
    """

    name: ClassVar[str] = 'put_into_container'
    modes: ClassVar[tuple[str, ...]] = (
        *GRASP_MODES,
        'rotation_offset',
        'goal_offset',
        'item_opened',
        'wrong_sequence',
        'wrong_object',
        'wrong_destination',
        'nothing_transported',
    )
    goal_size: ClassVar[float] = INNER + 0.012

    containers: tuple[Container, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, domain: DomainSettings) -> PutIntoContainer:
        """Place two containers behind three items."""
        sides = (-1.0, 1.0) if rng.random() < 0.5 else (1.0, -1.0)
        colors = [domain.colors[i] for i in rng.permutation(len(domain.colors))[:2]]
        containers = tuple(
            Container(
                color,
                str(rng.choice(KINDS)),
                0.58 + float(rng.uniform(-0.02, 0.02)),
                side * float(rng.uniform(0.12, 0.19)),
            )
            for color, side in zip(colors, sides, strict=True)
        )
        names = among_distractors(rng, domain, 3)
        spots = table_spots(rng, 3, apart=0.15, x=(0.33, 0.43))
        items, target = on_table(rng, names, spots)
        return cls(items=items, target=target, containers=containers, goal=0)

    @property
    def instruction(self) -> str:
        """Name the item and the container."""
        return f'put the {self.named.name} into the {self._goal.name}'

    @property
    def goals(self) -> tuple[Container, ...]:
        """The containers."""
        return self.containers

    @property
    def done(self) -> str:
        """Item and container."""
        return f'put the {self.named.name} into the {self._goal.name}'

    def furnish(self, spec: Any, look: Look) -> None:
        """Add the containers."""
        for container in self.containers:
            center = (container.x, container.y)
            color = COLORS[container.color]
            if container.kind == 'bowl':
                add_bowl(spec, container.name, center, INNER, WALL, color)
            else:
                add_open_box(spec, container.name, center, (INNER, INNER), WALL, color)

    def script(self, robot: Controller) -> Iterator[None]:
        """Grasp, carry, let go a little above the container's floor."""
        yield from robot.grasp()
        yield from robot.carry()
        yield from robot.put_down(_DROP)

    def place_of(self, position: Position) -> str:
        """Return the container above whose floor a point is, else 'table' or 'floor'."""
        if position[2] < -0.05:
            return FLOOR
        for container in self.containers:
            away = np.abs([position[0] - container.x, position[1] - container.y])
            far = np.hypot(*away) if container.kind == 'bowl' else away.max()
            if far <= INNER:
                return container.name
        return TABLE
