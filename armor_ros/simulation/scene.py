# SPDX-License-Identifier: Apache-2.0
"""What can stand in the cell: items of named colours and shapes, totes, and free places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOTE_NAMES = ('left', 'middle', 'right')
"""Left and right as the front and the overhead camera show them (-y is left)."""

TOTE_CENTERS = ((0.50, -0.31), (0.50, 0.0), (0.50, 0.31))
"""Centres of the totes on the table, metres, in the frame of the arm's base."""

TOTE_HALF = (0.17, 0.125)
"""Half the inner length (x) and width (y) of a tote, metres."""

TOTE_WALL_HEIGHT = 0.06
TOTE_WALL = 0.006
TOTE_FLOOR = 0.004

PEG_HALF = (0.022, 0.012)
"""Half the length (x) and width (y) of a peg's section, metres."""

DRAWER_HALF = (0.085, 0.060)
"""Half the depth (x) and width (y) of a drawer without its front, metres."""

HANDLE_X = 0.115
"""How far before a drawer's middle its handle is, metres."""

HANDLE_HALF = (0.018, 0.008, 0.050)
"""Half the size of a drawer's handle, metres: an upright plate."""

ON_TABLE = -1
"""The ``tote`` of an item that stands on the table."""

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
    'pink': (0.96, 0.48, 0.68),
    'turquoise': (0.10, 0.72, 0.72),
    'brown': (0.40, 0.22, 0.10),
    'gray': (0.48, 0.49, 0.51),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """
    A kind of item; metres and kilograms.

    ``grasp`` is the height of the fingertips' centre above the item's bottom when they grasp it;
    ``half_length`` is half its size along its own x; ``round`` items look the same from all sides.
    """

    name: str
    height: float
    grasp: float
    mass: float
    round: bool
    half_length: float = 0.034


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape('can', height=0.100, grasp=0.072, mass=0.18, round=True, half_length=0.0305),
        Shape('box', height=0.070, grasp=0.048, mass=0.16, round=False, half_length=0.0345),
        Shape('bottle', height=0.112, grasp=0.078, mass=0.20, round=True, half_length=0.0280),
        Shape('ball', height=0.064, grasp=0.036, mass=0.10, round=True, half_length=0.0322),
        Shape('carton', height=0.105, grasp=0.078, mass=0.20, round=False, half_length=0.0305),
        Shape('jar', height=0.076, grasp=0.050, mass=0.20, round=True, half_length=0.0335),
        Shape('brick', height=0.060, grasp=0.040, mass=0.22, round=False, half_length=0.0380),
        Shape('puck', height=0.038, grasp=0.024, mass=0.12, round=True),
        Shape('peg', height=0.110, grasp=0.080, mass=0.12, round=False),
        Shape('drawer', height=0.070, grasp=0.096, mass=0.40, round=False),
        Shape('parcel', height=0.080, grasp=0.046, mass=0.20, round=False, half_length=0.0285),
        Shape('block', height=0.050, grasp=0.028, mass=0.12, round=False, half_length=0.0250),
    )
}


@dataclass(frozen=True, slots=True)
class Item:
    """
    One item, metres and radians: colour and shape name it.

    ``tote`` indexes ``TOTE_NAMES``, or is ``ON_TABLE``; ``z`` is the height of its bottom.
    An item with a ``stroke`` is not loose: it slides by so much along its own x.
    """

    color: str
    shape: str
    tote: int
    x: float
    y: float
    yaw: float
    z: float = TOTE_FLOOR
    stroke: float = 0.0

    @property
    def name(self) -> str:
        """The words that identify the item, 'blue can'."""
        return f'{self.color} {self.shape}'


def tote_name(index: int) -> str:
    """Return the name of a tote as instructions and explanations use it."""
    return f'{TOTE_NAMES[index]} bin'


def tote_spots(
    rng: np.random.Generator, center: tuple[float, float], count: int
) -> list[tuple[float, float]]:
    """Draw points in a tote that keep apart, in random order."""
    cx, cy = center
    slack = 2 * _PLACE_HALF[0] - (count - 1) * _CLEARANCE
    x = np.sort(rng.uniform(0.0, slack, count)) + _CLEARANCE * np.arange(count) - _PLACE_HALF[0]
    y = rng.uniform(-_PLACE_HALF[1], _PLACE_HALF[1], count)
    return [(cx + float(x[k]), cy + float(y[k])) for k in rng.permutation(count)]


def free_tote_spot(
    rng: np.random.Generator, items: tuple[Item, ...], tote: int, center: tuple[float, float]
) -> tuple[float, float]:
    """Return a point in a tote, metres, that is as far from its items in x as can be."""
    cx, cy = center
    y = cy + float(rng.uniform(-_PLACE_HALF[1], _PLACE_HALF[1]))
    taken = np.array([item.x for item in items if item.tote == tote])
    x = cx + np.linspace(-_PLACE_HALF[0], _PLACE_HALF[0], 47)
    if not len(taken):
        return float(rng.choice(x)), y
    return float(x[np.argmax(np.abs(x[:, None] - taken).min(axis=1))]), y


def table_spots(
    rng: np.random.Generator,
    count: int,
    *,
    apart: float,
    x: tuple[float, float] = (0.36, 0.62),
    y: tuple[float, float] = (-0.26, 0.26),
    taken: tuple[tuple[float, float], ...] = (),
) -> list[tuple[float, float]]:
    """
    Draw points on the table, metres, that keep ``apart`` from each other and from ``taken``.

    Raises RuntimeError when the region is too full for them, which a task's author sees at once.
    """
    for _ in range(200):
        spots: list[tuple[float, float]] = []
        for _ in range(60):
            spot = (float(rng.uniform(*x)), float(rng.uniform(*y)))
            if all(np.hypot(spot[0] - a, spot[1] - b) >= apart for a, b in (*taken, *spots)):
                spots.append(spot)
                if len(spots) == count:
                    return spots
    raise RuntimeError(f'no room for {count} items that keep {apart} m apart')
