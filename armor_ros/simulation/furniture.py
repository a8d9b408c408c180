# SPDX-License-Identifier: Apache-2.0
"""Furniture that tasks put on the table: totes and other things that are not carried."""

from __future__ import annotations

from typing import Any

from armor_ros.simulation.domain import Rgb
from armor_ros.simulation.engine import mujoco
from armor_ros.simulation.scene import TOTE_FLOOR, TOTE_HALF, TOTE_WALL, TOTE_WALL_HEIGHT

BOX = mujoco.mjtGeom.mjGEOM_BOX
CYLINDER = mujoco.mjtGeom.mjGEOM_CYLINDER
SPHERE = mujoco.mjtGeom.mjGEOM_SPHERE

_RIM = 0.63
"""How much darker than its walls a container's rim is."""


def add_tote(spec: Any, name: str, center: tuple[float, float], color: Rgb) -> None:
    """Add a box without a lid: a floor, four walls and, for the eye, a darker rim."""
    add_open_box(spec, name, center, TOTE_HALF, TOTE_WALL_HEIGHT, color)


def add_open_box(
    spec: Any,
    name: str,
    center: tuple[float, float],
    half: tuple[float, float],
    height: float,
    color: Rgb,
) -> Any:
    """Add an open box of inner half size ``half`` and outer ``height``, metres; its body."""
    hx, hy = half
    rgba = [*color, 1.0]
    rim = [*(_RIM * c for c in color), 1.0]
    half_wall, half_height = TOTE_WALL / 2, height / 2
    body = spec.worldbody.add_body(name=name, pos=[*center, 0.0])
    body.add_geom(
        type=BOX,
        size=[hx + TOTE_WALL, hy + TOTE_WALL, TOTE_FLOOR / 2],
        pos=[0.0, 0.0, TOTE_FLOOR / 2],
        rgba=rgba,
    )
    walls = (
        ([hx + TOTE_WALL, half_wall], [0.0, hy + half_wall]),
        ([hx + TOTE_WALL, half_wall], [0.0, -hy - half_wall]),
        ([half_wall, hy], [hx + half_wall, 0.0]),
        ([half_wall, hy], [-hx - half_wall, 0.0]),
    )
    for size, pos in walls:
        body.add_geom(type=BOX, size=[*size, half_height], pos=[*pos, half_height], rgba=rgba)
        body.add_geom(
            type=BOX,
            size=[size[0] + 0.002, size[1] + 0.002, 0.004],
            pos=[*pos, height],
            rgba=rim,
            contype=0,
            conaffinity=0,
        )
    return body
