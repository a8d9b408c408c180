# SPDX-License-Identifier: Apache-2.0
"""Transport between totes: the warehouse task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from armor_ros.errors import ArmorError
from armor_ros.simulation.domain import DomainSettings, Look
from armor_ros.simulation.events import FLOOR, TABLE
from armor_ros.simulation.furniture import add_tote
from armor_ros.simulation.scene import (
    COLORS,
    SHAPES,
    TOTE_CENTERS,
    TOTE_FLOOR,
    TOTE_HALF,
    TOTE_NAMES,
    Item,
    free_tote_spot,
    tote_name,
    tote_spots,
)
from armor_ros.simulation.tasks.base import Position, Task, register

if TYPE_CHECKING:
    from armor_ros.simulation.policy import Controller
    from armor_ros.simulation.statelog import StateLog


GAP = 0.002
"""Distance between two items that stand side by side, metres."""


@dataclass(frozen=True, slots=True)
class Order:
    """A transport that is asked for: colour and shape of the item, totes as indices."""

    color: str
    shape: str
    source: int
    destination: int

    def __post_init__(self) -> None:
        if self.color not in COLORS or self.shape not in SHAPES:
            raise ArmorError(
                f'no item {self.color} {self.shape!r}; colours: {", ".join(COLORS)}; '
                f'shapes: {", ".join(SHAPES)}'
            )
        totes = range(len(TOTE_NAMES))
        if self.source not in totes or self.destination not in totes:
            raise ArmorError(f'totes are numbered 0 to {len(TOTE_NAMES) - 1}')
        if self.source == self.destination:
            raise ArmorError('source and destination of a transport are the same tote')


@register
@dataclass(frozen=True, kw_only=True)
class Transport(Task):
    """
    Carry the named item from one tote to another.

    Done when the item lies in the destination at the end, and no other item lies elsewhere than
    at the beginning. ``source`` and ``destination`` index ``TOTE_NAMES``, ``spot`` is the free
    place for the item and ``totes`` are the centres of the totes (x, y), metres.
    """

    name: ClassVar[str] = 'transport'
    modes: ClassVar[tuple[str, ...]] = (
        'slip',
        'slip_friction',
        'missed_grasp',
        'wrong_destination',
        'wrong_object',
        'incomplete_grasp',
        'translation_x',
        'translation_y',
        'translation_z',
        'rotation_offset',
        'wrong_sequence',
        'collision',
        'item_opened',
        'multi_pick',
        'nothing_transported',
    )

    zoom: ClassVar[float] = 1.0
    focus: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)

    source: int
    destination: int
    spot: tuple[float, float]
    totes: tuple[tuple[float, float], ...] = TOTE_CENTERS

    @classmethod
    def draw(
        cls, rng: np.random.Generator, domain: DomainSettings, order: Order | None = None
    ) -> Transport:
        """
        Place the item among distractors; ``order`` fixes which item goes where.

        The source holds one distractor of the same shape and one of the same colour; the other
        totes hold zero to two items each, and the place where the item shall be put down is free.
        """
        if order is None:
            source, destination = rng.permutation(len(TOTE_NAMES))[:2]
            color, shape = str(rng.choice(domain.colors)), str(rng.choice(domain.shapes))
            order = Order(color, shape, int(source), int(destination))
        totes = domain.draw_totes(rng)
        names = [(order.color, order.shape)]
        names.append((str(rng.choice(_without(domain.colors, order.color))), order.shape))
        names.append((order.color, str(rng.choice(_without(domain.shapes, order.shape)))))
        free = [(c, s) for c in domain.colors for s in domain.shapes if (c, s) not in names]
        rng.shuffle(free)
        items: list[Item] = []
        spot = (0.0, 0.0)
        for tote, center in enumerate(totes):
            if tote == order.source:
                chosen = names
            else:
                chosen = [free.pop() for _ in range(int(rng.integers(0, 3)))]
            spots = tote_spots(rng, center, 3)
            if tote == order.source and domain.adjacent and rng.random() < domain.adjacent:
                items += _side_by_side(rng, names, tote, center)
                continue
            items += [
                Item(color, shape, tote, x, y, float(rng.uniform(-0.4, 0.4)))
                for (color, shape), (x, y) in zip(chosen, spots, strict=False)
            ]
            if tote == order.destination:
                spot = spots[-1]
        target = next(i for i, item in enumerate(items) if (item.color, item.shape) == names[0])
        return cls(
            items=tuple(items),
            target=target,
            source=order.source,
            destination=order.destination,
            spot=spot,
            totes=totes,
        )

    @property
    def instruction(self) -> str:
        """Name the item and both totes."""
        return f'transport the {self.named.name} from {self.origin} to the {self._goal}'

    @property
    def origin(self) -> str:
        """The source."""
        return f'the {tote_name(self.source)}'

    @property
    def aim(self) -> str:
        """In the destination."""
        return f'in the {self._goal}'

    @property
    def done(self) -> str:
        """Item, source and destination."""
        return f'moved the {self.named.name} from {self.origin} to the {self._goal}'

    @property
    def drop(self) -> tuple[float, float]:
        """The free place in the destination."""
        return self.spot

    @property
    def _goal(self) -> str:
        return tote_name(self.destination)

    @property
    def sticky(self) -> tuple[tuple[int, int], ...]:
        """The item and the one right beside it, if there is one."""
        return tuple(
            (self.target, i)
            for i in self.others()
            if self.items[i].y == self.named.y and abs(self.items[i].x - self.named.x) < 0.08
        )

    def furnish(self, spec: Any, look: Look) -> None:
        """Add the three totes."""
        for tote, center in enumerate(self.totes):
            add_tote(spec, f'tote{tote}', center, look.tote)

    def script(self, robot: Controller) -> Iterator[None]:
        """Grasp, carry, put down."""
        yield from robot.grasp()
        yield from robot.carry()
        yield from robot.put_down(TOTE_FLOOR)

    def succeeded(self, log: StateLog) -> bool:
        """Tell whether the item is in the destination and all others are where they were."""
        return self.rest_of(log, self.target) == self._goal and self.undisturbed(log)

    def place_of(self, position: Position) -> str:
        """Return the tote above whose floor a point is, else 'table' or 'floor'."""
        if position[2] < -0.05:
            return FLOOR
        for tote, center in enumerate(self.totes):
            if all(abs(position[k] - center[k]) <= TOTE_HALF[k] for k in range(2)):
                return tote_name(tote)
        return TABLE

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the totes."""
        return tuple(tote_name(tote) for tote in range(len(self.totes)))

    def others(self) -> list[int]:
        """Return the other items of the source."""
        return [i for i in super().others() if self.items[i].tote == self.source]

    def wrong_places(self, rng: np.random.Generator) -> list[tuple[float, float]]:
        """Return a free place in the tote that is neither source nor destination."""
        return [
            free_tote_spot(rng, self.items, tote, self.totes[tote])
            for tote in range(len(self.totes))
            if tote not in (self.source, self.destination)
        ]

    def alternatives(self) -> tuple[Task, ...]:
        """Return the same transport of other items of the source, or to the other tote."""
        third = next(t for t in range(len(self.totes)) if t not in (self.source, self.destination))
        elsewhere = replace(self, destination=third)
        return (elsewhere, *(replace(self, target=i) for i in self.others()))


def _side_by_side(
    rng: np.random.Generator, names: list[tuple[str, str]], tote: int, center: tuple[float, float]
) -> list[Item]:
    """Place three items in a tote: the second right beside the first along x, the third apart."""
    sign = float(rng.choice((-1.0, 1.0)))
    x = center[0] + sign * float(rng.uniform(-0.03, -0.015))
    y = center[1] + float(rng.uniform(-0.05, 0.05))
    beside = x + sign * (sum(SHAPES[shape].half_length for _, shape in names[:2]) + GAP)
    apart = x - sign * float(rng.uniform(0.085, 0.092))
    places = ((x, y, 0.0), (beside, y, 0.0), (apart, y, float(rng.uniform(-0.4, 0.4))))
    return [Item(*name, tote, *place) for name, place in zip(names, places, strict=True)]


def _without(names: tuple[str, ...], name: str) -> list[str]:
    return [other for other in names if other != name]
