# SPDX-License-Identifier: Apache-2.0
"""How cells differ: item sets, workspace, colours, light, cameras and the robot's habits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from armor_ros.errors import ArmorError
from armor_ros.simulation.scene import TOTE_CENTERS

Rgb = tuple[float, float, float]
Vector3 = tuple[float, float, float]

_EVERYDAY_COLORS = ('red', 'blue', 'green', 'yellow', 'orange', 'purple', 'white', 'black')
_UNSEEN_COLORS = ('pink', 'turquoise', 'brown', 'gray', 'yellow', 'blue')
_PLAIN_SHAPES = ('can', 'box', 'bottle', 'ball', 'carton')
_EVERYDAY_SHAPES = (*_PLAIN_SHAPES, 'parcel')
_UNSEEN_SHAPES = ('jar', 'brick', 'can', 'ball', 'parcel')

_CAMERAS: dict[str, tuple[Vector3, Vector3, float]] = {
    'front': ((1.44, 0.0, 0.74), (0.38, 0.0, 0.245), 53.0),
    'overhead': ((0.56, 0.0, 1.25), (0.43, 0.0, 0.0), 48.0),
}


@dataclass(frozen=True, slots=True)
class View:
    """A fixed camera: position and what it looks at, metres; vertical field of view, degrees."""

    position: Vector3
    target: Vector3
    fovy: float


@dataclass(frozen=True, slots=True)
class Look:
    """
    How one cell looks; no physics depends on it.

    Colours are RGB from 0 to 1. ``texture`` of the table is 'flat', 'checker', 'gradient' or
    'specks'; ``tint`` scales the items' colours; ``light`` is the direction of the sun and
    ``brightness`` scales it; ``ambient`` is the light from everywhere.
    """

    table: Rgb = (0.63, 0.51, 0.38)
    table_other: Rgb = (0.63, 0.51, 0.38)
    texture: str = 'flat'
    floor: Rgb = (0.40, 0.42, 0.44)
    tote: Rgb = (0.66, 0.70, 0.74)
    sky: Rgb = (0.72, 0.76, 0.80)
    light: Vector3 = (-0.22, 0.42, -1.0)
    brightness: float = 1.0
    ambient: float = 0.38
    tint: float = 1.0
    front: View = View(*_CAMERAS['front'])
    overhead: View = View(*_CAMERAS['overhead'])


PLAIN_LOOK = Look()


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """
    What is drawn for an episode; the presets are in ``DOMAINS``.

    ``colors`` and ``shapes`` name the items there are. ``tote_centers`` is the layout of the
    totes, metres, which moves by up to ``tote_shift``. Tables, totes and skies take one of the
    given colours, ``vary`` (0 to 1) scales how much light, tint and cameras differ; cameras also
    move by ``camera_offset``, metres. ``carry_height``, metres, and ``pause``, seconds, bound
    habits of the robot that mean nothing. ``adjacent`` is how often a distractor in a tote stands
    right beside the item.
    """

    name: str
    colors: tuple[str, ...] = _EVERYDAY_COLORS
    shapes: tuple[str, ...] = _EVERYDAY_SHAPES
    tote_centers: tuple[tuple[float, float], ...] = TOTE_CENTERS
    tote_shift: float = 0.0
    tables: tuple[Rgb, ...] = (PLAIN_LOOK.table,)
    textures: tuple[str, ...] = ('flat',)
    totes: tuple[Rgb, ...] = (PLAIN_LOOK.tote,)
    vary: float = 0.0
    camera_offset: Vector3 = (0.0, 0.0, 0.0)
    carry_height: tuple[float, float] = (0.25, 0.32)
    pause: float = 0.0
    adjacent: float = 0.0

    def draw_look(self, rng: np.random.Generator) -> Look:
        """Draw how one cell looks."""
        table = _jitter(rng, self.tables[int(rng.integers(len(self.tables)))], 0.06 * self.vary)
        texture = str(rng.choice(self.textures))
        contrast = 1.0 - float(rng.uniform(0.08, 0.25)) * self.vary
        gray = float(rng.uniform(-0.10, 0.12)) * self.vary
        sun = rng.uniform(-0.18, 0.18, 2) * self.vary
        return Look(
            table=table,
            table_other=(contrast * table[0], contrast * table[1], contrast * table[2]),
            texture=texture,
            floor=(0.40 + gray, 0.42 + gray, 0.44 + gray),
            tote=_jitter(rng, self.totes[int(rng.integers(len(self.totes)))], 0.05 * self.vary),
            sky=_jitter(rng, PLAIN_LOOK.sky, 0.15 * self.vary),
            light=(PLAIN_LOOK.light[0] + float(sun[0]), PLAIN_LOOK.light[1] + float(sun[1]), -1.0),
            brightness=1.0 + float(rng.uniform(-0.3, 0.25)) * self.vary,
            ambient=PLAIN_LOOK.ambient + float(rng.uniform(-0.08, 0.08)) * self.vary,
            tint=1.0 + float(rng.uniform(-0.14, 0.06)) * self.vary,
            front=self._draw_view(rng, 'front'),
            overhead=self._draw_view(rng, 'overhead'),
        )

    def draw_totes(self, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
        """Draw the centres of the totes, metres."""
        if self.tote_shift == 0.0:
            return self.tote_centers
        shift = rng.uniform(-self.tote_shift, self.tote_shift, (len(self.tote_centers), 2))
        return tuple(
            (x + float(dx), y + float(dy))
            for (x, y), (dx, dy) in zip(self.tote_centers, shift, strict=True)
        )

    def _draw_view(self, rng: np.random.Generator, camera: str) -> View:
        position, target, fovy = _CAMERAS[camera]
        moved = np.array(position) + rng.uniform(-0.04, 0.04, 3) * self.vary
        offset = np.array(self.camera_offset) * (1.0 if camera == 'front' else 0.35)
        aim = np.array(target) + rng.uniform(-0.02, 0.02, 3) * self.vary
        wide = fovy + float(rng.uniform(-1.0, 2.0)) * self.vary
        return View(_vector3(moved + offset), _vector3(aim), wide)


def _jitter(rng: np.random.Generator, color: Rgb, amount: float) -> Rgb:
    return _vector3(np.clip(np.array(color) + rng.uniform(-amount, amount, 3), 0.03, 0.97))


def _vector3(values: np.ndarray) -> Vector3:
    return float(values[0]), float(values[1]), float(values[2])


_TABLES: tuple[Rgb, ...] = (
    (0.63, 0.51, 0.38),
    (0.72, 0.68, 0.60),
    (0.42, 0.34, 0.27),
    (0.58, 0.60, 0.62),
    (0.34, 0.40, 0.44),
)
_TRAIN = {
    'tote_shift': 0.012,
    'tables': _TABLES,
    'textures': ('flat', 'checker', 'specks'),
    'totes': ((0.66, 0.70, 0.74), (0.52, 0.58, 0.66), (0.74, 0.70, 0.62)),
    'vary': 1.0,
    'carry_height': (0.22, 0.35),
    'pause': 0.7,
    'adjacent': 0.35,
}

PLAIN = DomainSettings('plain', shapes=_PLAIN_SHAPES)
TRAIN = DomainSettings('train', **_TRAIN)  # type: ignore[arg-type]
UNSEEN_OBJECTS = DomainSettings(
    'unseen_objects',
    colors=_UNSEEN_COLORS,
    shapes=_UNSEEN_SHAPES,
    **_TRAIN,  # type: ignore[arg-type]
)
UNSEEN_WORKSPACE = DomainSettings(
    'unseen_workspace',
    tote_centers=((0.53, -0.29), (0.45, 0.0), (0.53, 0.29)),
    tote_shift=0.012,
    tables=((0.26, 0.36, 0.30), (0.80, 0.78, 0.82), (0.50, 0.28, 0.24)),
    textures=('gradient', 'checker'),
    totes=((0.78, 0.55, 0.30), (0.28, 0.46, 0.48)),
    vary=1.4,
    camera_offset=(-0.02, 0.22, 0.10),
    carry_height=(0.22, 0.35),
    pause=0.7,
    adjacent=0.35,
)

DOMAINS: dict[str, DomainSettings] = {
    domain.name: domain for domain in (PLAIN, TRAIN, UNSEEN_OBJECTS, UNSEEN_WORKSPACE)
}
"""The presets: 'plain' looks the same always; the others vary, and differ as their names say."""


def domain_of(domain: str | DomainSettings) -> DomainSettings:
    """Return a preset by its name. Raises ArmorError when there is none of that name."""
    if isinstance(domain, DomainSettings):
        return domain
    if domain not in DOMAINS:
        raise ArmorError(f'no domain {domain!r}; choose from: {", ".join(DOMAINS)}')
    return DOMAINS[domain]
