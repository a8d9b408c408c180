# SPDX-License-Identifier: Apache-2.0
"""Furniture that tasks put on the table: totes and other things that are not carried."""

from __future__ import annotations

from typing import Any

import numpy as np

from armor_ros.simulation.domain import Rgb
from armor_ros.simulation.engine import mujoco
from armor_ros.simulation.scene import PEG_HALF, TOTE_FLOOR, TOTE_HALF, TOTE_WALL, TOTE_WALL_HEIGHT

BOX = mujoco.mjtGeom.mjGEOM_BOX
CYLINDER = mujoco.mjtGeom.mjGEOM_CYLINDER
SPHERE = mujoco.mjtGeom.mjGEOM_SPHERE

SOCKET_HALF = (0.060, 0.046)
"""Half the outer length (x) and width (y) of a socket, metres."""

SOCKET_HEIGHT = 0.040

CABINET_HALF = (0.096, 0.2025)
"""Half the depth (x) and width (y) of a cabinet of three drawers, metres."""

CABINET_PITCH = 0.135
CABINET_HEIGHT = 0.087

_SLOT_PLAY = (0.011, 0.006)
_BOWL_SIDES = 16
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


def add_socket(spec: Any, center: tuple[float, float], yaw: float, color: Rgb) -> None:
    """Add a block with a slot for a peg, a few millimetres wider than that."""
    half = SOCKET_HEIGHT / 2
    slot = (PEG_HALF[0] + _SLOT_PLAY[0], PEG_HALF[1] + _SLOT_PLAY[1])
    body = spec.worldbody.add_body(
        pos=[*center, half], quat=[np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
    )
    ends, sides = (SOCKET_HALF[0] - slot[0]) / 2, (SOCKET_HALF[1] - slot[1]) / 2
    for side in (-1, 1):
        body.add_geom(
            type=BOX,
            size=[ends, SOCKET_HALF[1], half],
            pos=[side * (slot[0] + ends), 0.0, 0.0],
            rgba=[*color, 1.0],
        )
        body.add_geom(
            type=BOX,
            size=[slot[0], sides, half],
            pos=[0.0, side * (slot[1] + sides), 0.0],
            rgba=[*color, 1.0],
        )
    frame = 0.004
    for x, y, pos in (
        (slot[0] + frame, frame / 2, (0.0, slot[1] + frame / 2)),
        (frame / 2, slot[1], (slot[0] + frame / 2, 0.0)),
    ):
        for side in (-1, 1):
            body.add_geom(
                type=BOX,
                size=[x, y, 0.0008],
                pos=[side * pos[0], side * pos[1], half],
                rgba=[0.92, 0.92, 0.90, 1.0],
                contype=0,
                conaffinity=0,
            )
    body.add_geom(
        type=BOX,
        size=[*slot, 0.001],
        pos=[0.0, 0.0, -half],
        rgba=[0.05, 0.05, 0.06, 1.0],
        contype=0,
        conaffinity=0,
    )


def add_cabinet(spec: Any, center: tuple[float, float], count: int, color: Rgb) -> None:
    """Add a low cabinet with room for ``count`` drawers, which slide out towards +x."""
    depth, width, height = CABINET_HALF[0], count * CABINET_PITCH / 2, CABINET_HEIGHT
    rgba = [*color, 1.0]
    dark = [*(_RIM * c for c in color), 1.0]
    body = spec.worldbody.add_body(pos=[*center, 0.0])
    body.add_geom(type=BOX, size=[depth, width, 0.003], pos=[0.0, 0.0, 0.003], rgba=dark)
    body.add_geom(type=BOX, size=[depth, width, 0.003], pos=[0.0, 0.0, height - 0.003], rgba=rgba)
    body.add_geom(
        type=BOX,
        size=[0.004, width, height / 2 - 0.006],
        pos=[-depth + 0.004, 0.0, height / 2],
        rgba=rgba,
    )
    for k in range(count + 1):
        body.add_geom(
            type=BOX,
            size=[depth, 0.004, height / 2 - 0.006],
            pos=[0.0, k * CABINET_PITCH - width, height / 2],
            rgba=dark,
        )


def add_disc(spec: Any, center: tuple[float, float], radius: float, color: Rgb) -> None:
    """Paint a flat round target on the table, with a light rim; nothing touches it."""
    for part, height, rgb in ((radius, 0.0004, (0.95, 0.95, 0.93)), (0.9 * radius, 0.0008, color)):
        spec.worldbody.add_geom(
            type=CYLINDER,
            size=[part, height, 0.0],
            pos=[*center, 0.0],
            rgba=[*rgb, 1.0],
            contype=0,
            conaffinity=0,
        )


def add_bowl(
    spec: Any, name: str, center: tuple[float, float], radius: float, height: float, color: Rgb
) -> Any:
    """Add a round open container of inner ``radius`` and ``height``, metres; its body."""
    rgba = [*color, 1.0]
    rim = [*(_RIM * c for c in color), 1.0]
    body = spec.worldbody.add_body(name=name, pos=[*center, 0.0])
    body.add_geom(
        type=CYLINDER,
        size=[radius + TOTE_WALL, TOTE_FLOOR / 2, 0.0],
        pos=[0.0, 0.0, TOTE_FLOOR / 2],
        rgba=rgba,
    )
    middle = radius + TOTE_WALL / 2
    half_length = middle * np.tan(np.pi / _BOWL_SIDES) + 0.001
    for angle in np.arange(_BOWL_SIDES) * (2 * np.pi / _BOWL_SIDES):
        turn = [np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)]
        x, y = middle * np.cos(angle), middle * np.sin(angle)
        body.add_geom(
            type=BOX,
            size=[TOTE_WALL / 2, half_length, height / 2],
            pos=[x, y, height / 2],
            quat=turn,
            rgba=rgba,
        )
        body.add_geom(
            type=BOX,
            size=[TOTE_WALL / 2 + 0.002, half_length + 0.001, 0.004],
            pos=[x, y, height],
            quat=turn,
            rgba=rim,
            contype=0,
            conaffinity=0,
        )
    return body
