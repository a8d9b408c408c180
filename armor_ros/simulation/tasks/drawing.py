# SPDX-License-Identifier: Apache-2.0
"""What the tasks' scenes have in common: names that need telling apart, items on the table."""

from __future__ import annotations

import numpy as np

from armor_ros.simulation.domain import DomainSettings
from armor_ros.simulation.scene import ON_TABLE, Item

Name = tuple[str, str]
"""Colour and shape of an item."""


def among_distractors(
    rng: np.random.Generator, domain: DomainSettings, count: int, item: Name | None = None
) -> list[Name]:
    """
    Return ``count`` different names, the named item's first, at least three.

    The second has its shape and another colour, the third its colour and another shape, so that
    neither alone identifies it.
    """
    color, shape = item or (str(rng.choice(domain.colors)), str(rng.choice(domain.shapes)))
    names = [
        (color, shape),
        (str(rng.choice([c for c in domain.colors if c != color])), shape),
        (color, str(rng.choice([s for s in domain.shapes if s != shape]))),
    ]
    rest = [(c, s) for c in domain.colors for s in domain.shapes if (c, s) not in names]
    return names + [rest[i] for i in rng.permutation(len(rest))[: count - len(names)]]


def on_table(
    rng: np.random.Generator, names: list[Name], spots: list[tuple[float, float]]
) -> tuple[tuple[Item, ...], int]:
    """Return the items at their spots, in random order, and the index of the first name's."""
    items = [
        Item(color, shape, ON_TABLE, x, y, float(rng.uniform(-0.4, 0.4)), z=0.0)
        for (color, shape), (x, y) in zip(names, spots, strict=True)
    ]
    order = rng.permutation(len(items))
    return tuple(items[i] for i in order), int(np.flatnonzero(order == 0)[0])
