# SPDX-License-Identifier: Apache-2.0
"""What stands in the cell: totes, items, and where one episode puts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from armor_ros.errors import ArmorError

TOTE_NAMES = ('left', 'middle', 'right')
"""Left and right as the front and the overhead camera show them (-y is left)."""

TOTE_CENTERS = ((0.50, -0.31), (0.50, 0.0), (0.50, 0.31))
"""Centres of the totes on the table, metres, in the frame of the arm's base."""

TOTE_HALF = (0.17, 0.125)
"""Half the inner length (x) and width (y) of a tote, metres."""

TOTE_WALL_HEIGHT = 0.06
TOTE_WALL = 0.006
TOTE_FLOOR = 0.004

# Centres of items stay in this middle part, so that the opened fingers clear the walls; and items
# keep apart in x, because the hand is wide in y.
_PLACE_HALF = (0.115, 0.055)
_CLEARANCE = 0.085

COLORS: dict[str, tuple[float, float, float]] = {
    'red': (0.83, 0.10, 0.09),
    'blue': (0.08, 0.26, 0.80),
    'green': (0.10, 0.56, 0.18),
    'yellow': (0.96, 0.78, 0.05),
    'orange': (0.95, 0.42, 0.03),
    'purple': (0.46, 0.16, 0.60),
    'white': (0.93, 0.93, 0.90),
    'black': (0.09, 0.09, 0.10),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """
    A kind of item; metres and kilograms.

    ``grasp`` is the height of the fingertips' centre above the item's bottom when they grasp it;
    ``round`` items look the same from all sides.
    """

    name: str
    height: float
    grasp: float
    mass: float
    round: bool


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape('can', height=0.100, grasp=0.072, mass=0.18, round=True),
        Shape('box', height=0.070, grasp=0.048, mass=0.16, round=False),
        Shape('bottle', height=0.112, grasp=0.078, mass=0.20, round=True),
        Shape('ball', height=0.064, grasp=0.036, mass=0.10, round=True),
        Shape('carton', height=0.105, grasp=0.078, mass=0.20, round=False),
    )
}


@dataclass(frozen=True, slots=True)
class Item:
    """One item: colour and shape name it, ``tote`` indexes ``TOTE_NAMES``, metres and radians."""

    color: str
    shape: str
    tote: int
    x: float
    y: float
    yaw: float

    @property
    def name(self) -> str:
        """The words that identify the item, 'blue can'."""
        return f'{self.color} {self.shape}'


@dataclass(frozen=True, slots=True)
class Scene:
    """The items of one episode and the task: ``target`` indexes ``items``, totes by index."""

    items: tuple[Item, ...]
    target: int
    source: int
    destination: int
    drop: tuple[float, float]

    @property
    def instruction(self) -> str:
        """The task in words, as it completes "the robot is attempting to ..."."""
        return (
            f'transport the {self.items[self.target].name} from the {tote_name(self.source)} '
            f'to the {tote_name(self.destination)}'
        )


@dataclass(frozen=True, slots=True)
class Task:
    """Which item goes where: colour and shape of the item, totes as indices."""

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


def tote_name(index: int) -> str:
    """Return the name of a tote as instructions and explanations use it."""
    return f'{TOTE_NAMES[index]} bin'


def sample_task(rng: np.random.Generator) -> Task:
    """Draw an item and two different totes."""
    source, destination = rng.permutation(len(TOTE_NAMES))[:2]
    color = str(rng.choice(list(COLORS)))
    shape = str(rng.choice(list(SHAPES)))
    return Task(color, shape, int(source), int(destination))


def sample_scene(rng: np.random.Generator, task: Task) -> Scene:
    """
    Place the task's item among distractors.

    The source holds one distractor of the same shape and one of the same colour; the other totes
    hold zero to two items each. No two items of a scene have the same name, and the place where
    the item shall be put down (``drop``) is free.
    """
    names = [(task.color, task.shape)]
    other_colors = [c for c in COLORS if c != task.color]
    other_shapes = [s for s in SHAPES if s != task.shape]
    names.append((str(rng.choice(other_colors)), task.shape))
    names.append((task.color, str(rng.choice(other_shapes))))
    free = [(c, s) for c in COLORS for s in SHAPES if (c, s) not in names]
    rng.shuffle(free)

    items: list[Item] = []
    drop = (0.0, 0.0)
    for tote in range(len(TOTE_NAMES)):
        if tote == task.source:
            chosen = names
        else:
            count = int(rng.integers(0, 3))
            chosen = [free.pop() for _ in range(count)]
        spots = _sample_spots(rng, tote, 3)
        items += [
            Item(color, shape, tote, x, y, float(rng.uniform(-0.4, 0.4)))
            for (color, shape), (x, y) in zip(chosen, spots, strict=False)
        ]
        if tote == task.destination:
            drop = spots[-1]
    target = next(i for i, item in enumerate(items) if (item.color, item.shape) == names[0])
    return Scene(tuple(items), target, task.source, task.destination, drop)


def _sample_spots(rng: np.random.Generator, tote: int, count: int) -> list[tuple[float, float]]:
    """Draw points in a tote that keep apart, in random order."""
    cx, cy = TOTE_CENTERS[tote]
    slack = 2 * _PLACE_HALF[0] - (count - 1) * _CLEARANCE
    x = np.sort(rng.uniform(0.0, slack, count)) + _CLEARANCE * np.arange(count) - _PLACE_HALF[0]
    y = rng.uniform(-_PLACE_HALF[1], _PLACE_HALF[1], count)
    return [(cx + float(x[k]), cy + float(y[k])) for k in rng.permutation(count)]


def free_spot(rng: np.random.Generator, scene: Scene, tote: int) -> tuple[float, float]:
    """Return a point in a tote, metres, that is as far from its items in x as can be."""
    cx, cy = TOTE_CENTERS[tote]
    y = cy + float(rng.uniform(-_PLACE_HALF[1], _PLACE_HALF[1]))
    taken = np.array([item.x for item in scene.items if item.tote == tote])
    x = cx + np.linspace(-_PLACE_HALF[0], _PLACE_HALF[0], 47)
    if not len(taken):
        return float(rng.choice(x)), y
    return float(x[np.argmax(np.abs(x[:, None] - taken).min(axis=1))]), y
