# SPDX-License-Identifier: Apache-2.0
"""The bodies of the items in the MuJoCo model, by shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from armor_ros.simulation.engine import mujoco
from armor_ros.simulation.furniture import BOX, CYLINDER, SPHERE
from armor_ros.simulation.scene import (
    COLORS,
    DRAWER_HALF,
    HANDLE_HALF,
    HANDLE_X,
    PEG_HALF,
    SHAPES,
    Item,
)

_LID = 0.018
# Newtons per m/s and newtons: what a drawer resists with.
_SLIDE_DAMPING = 8.0
_SLIDE_FRICTION = 3.0


def item_body(index: int) -> str:
    """Return the name of the body of a scene's item."""
    return f'item{index}'


def lid_joint(index: int) -> str:
    """Return the name of the hinge of an item's lid; most items have none."""
    return f'lid{index}'


def lid_body(index: int) -> str:
    """Return the name of the body of an item's lid; most items have none."""
    return f'lid_body{index}'


def add_item(spec: Any, index: int, item: Item, tint: float) -> None:
    """Add an item to an ``MjSpec``; ``tint`` scales its colour."""
    shape = SHAPES[item.shape]
    z = item.z + shape.height / 2 + 0.0005
    body = spec.worldbody.add_body(
        name=item_body(index),
        pos=[item.x, item.y, z],
        quat=[np.cos(item.yaw / 2), 0.0, 0.0, np.sin(item.yaw / 2)],
    )
    if item.stroke:
        body.add_joint(
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[1.0, 0.0, 0.0],
            limited=mujoco.mjtLimited.mjLIMITED_TRUE,
            range=[0.0, item.stroke],
            damping=[_SLIDE_DAMPING, 0.0, 0.0],
            frictionloss=_SLIDE_FRICTION,
        )
    else:
        body.add_freejoint()
    rgba = [*(min(1.0, tint * c) for c in COLORS[item.color]), 1.0]
    solid = {
        'rgba': rgba,
        'contype': 1,
        'conaffinity': 3,
        'friction': [0.8, 0.01, 0.002],
        'condim': 6,
        'solref': [0.008, 1.0],
        'solimp': [0.95, 0.99, 0.001, 0.5, 2.0],
        'priority': 1,  # the item's friction rules, whatever touches it
    }
    light = {
        'rgba': [0.86, 0.86, 0.84, 1.0] if item.color != 'white' else [0.55, 0.56, 0.58, 1.0],
        'contype': 0,
        'conaffinity': 0,
        'mass': 0.0,
    }
    if item.shape == 'parcel':
        _add_parcel(body, index, shape.height / 2, {**solid, 'mass': shape.mass}, light)
    else:
        _SHAPE_BUILDERS[item.shape](body, shape.height / 2, {**solid, 'mass': shape.mass}, light)


def _add_parcel(
    body: Any, index: int, half: float, solid: dict[str, Any], light: dict[str, Any]
) -> None:
    """Add a box whose lid turns about one edge; friction in the hinge keeps it where it is."""
    trunk = half - _LID / 2
    heavy, rest = 0.8 * solid['mass'], 0.2 * solid['mass']
    body.add_geom(
        type=BOX, size=[0.028, 0.026, trunk], pos=[0, 0, -_LID / 2], **{**solid, 'mass': heavy}
    )
    inside = {**light, 'rgba': [0.22, 0.17, 0.12, 1.0]}
    body.add_geom(type=BOX, size=[0.025, 0.023, 0.0006], pos=[0, 0, half - _LID], **inside)
    lid = body.add_body(name=lid_body(index), pos=[-0.028, 0.0, half - _LID])
    lid.add_joint(
        name=lid_joint(index),
        type=mujoco.mjtJoint.mjJNT_HINGE,
        axis=[0.0, -1.0, 0.0],
        limited=mujoco.mjtLimited.mjLIMITED_TRUE,
        range=[0.0, 2.0],
        damping=[0.002, 0.0, 0.0],
        frictionloss=0.014,
        armature=0.0002,
    )
    top = {**solid, 'rgba': [*(0.75 * c for c in solid['rgba'][:3]), 1.0], 'mass': rest}
    lid.add_geom(type=BOX, size=[0.028, 0.026, _LID / 2 - 0.0005], pos=[0.028, 0, _LID / 2], **top)
    lid.add_geom(type=BOX, size=[0.0285, 0.005, 0.004], pos=[0.028, 0, _LID - 0.003], **light)


def _add_can(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=CYLINDER, size=[0.030, half, 0.0], **solid)
    for side in (-1, 1):
        body.add_geom(type=CYLINDER, size=[0.019, half + 0.001, 0.0], **light)
        body.add_geom(
            type=CYLINDER, size=[0.0304, 0.004, 0.0], pos=[0, 0, side * (half - 0.008)], **light
        )


def _add_box(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=BOX, size=[0.034, 0.026, half], **solid)
    body.add_geom(type=BOX, size=[0.0345, 0.006, half + 0.0005], **light)


def _add_bottle(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    mass = solid['mass']
    trunk = 0.75 * half
    body.add_geom(
        type=CYLINDER,
        size=[0.028, trunk, 0.0],
        pos=[0, 0, trunk - half],
        **{**solid, 'mass': 0.9 * mass},
    )
    body.add_geom(
        type=CYLINDER,
        size=[0.013, half - trunk, 0.0],
        pos=[0, 0, trunk],
        **{**solid, 'mass': 0.1 * mass},
    )
    body.add_geom(type=CYLINDER, size=[0.015, 0.009, 0.0], pos=[0, 0, half - 0.008], **light)


def _add_ball(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=SPHERE, size=[half, 0.0, 0.0], **solid)
    body.add_geom(type=CYLINDER, size=[0.0322, 0.0025, 0.0], **light)


def _add_carton(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=BOX, size=[0.030, 0.024, half], **solid)
    body.add_geom(type=BOX, size=[0.0305, 0.0245, 0.012], pos=[0, 0, 0.4 * half], **light)


def _add_jar(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=CYLINDER, size=[0.033, half, 0.0], **solid)
    body.add_geom(type=CYLINDER, size=[0.0335, 0.010, 0.0], pos=[0, 0, half - 0.009], **light)


def _add_brick(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=BOX, size=[0.038, 0.022, half], **solid)
    for side in (-1, 1):
        body.add_geom(
            type=BOX, size=[0.003, 0.0225, half + 0.0005], pos=[0.02 * side, 0, 0], **light
        )


def _add_block(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=BOX, size=[0.025, 0.025, half], **solid)


def _add_puck(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=CYLINDER, size=[0.032, half, 0.0], **solid)
    body.add_geom(type=CYLINDER, size=[0.016, half + 0.0005, 0.0], **light)


def _add_peg(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=BOX, size=[*PEG_HALF, half], **solid)
    body.add_geom(
        type=BOX,
        size=[PEG_HALF[0] + 0.0005, PEG_HALF[1] + 0.0005, 0.004],
        pos=[0, 0, half - 0.010],
        **light,
    )


def _add_drawer(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    """Add an open drawer; its front is at +x, and a plate to pull it by stands before that."""
    depth, width = DRAWER_HALF
    wall, floor = 0.004, 0.003
    solid = {**solid, 'mass': solid['mass'] / 6}
    inside = {**solid, 'rgba': [0.80, 0.72, 0.58, 1.0]}
    body.add_geom(type=BOX, size=[depth, width, floor], pos=[0, 0, floor - half], **inside)
    for side in (-1, 1):
        body.add_geom(
            type=BOX, size=[depth, wall, half], pos=[0, side * (width - wall), 0], **inside
        )
    body.add_geom(type=BOX, size=[wall, width, half], pos=[wall - depth, 0, 0], **inside)
    body.add_geom(type=BOX, size=[0.006, width, half], pos=[depth + 0.006, 0, 0], **solid)
    body.add_geom(
        type=BOX,
        size=[HANDLE_HALF[0], HANDLE_HALF[1], HANDLE_HALF[2]],
        pos=[HANDLE_X, 0, HANDLE_HALF[2] - half + 0.010],
        **solid,
    )


_SHAPE_BUILDERS = {
    'puck': _add_puck,
    'peg': _add_peg,
    'drawer': _add_drawer,
    'can': _add_can,
    'box': _add_box,
    'bottle': _add_bottle,
    'ball': _add_ball,
    'carton': _add_carton,
    'jar': _add_jar,
    'brick': _add_brick,
    'block': _add_block,
}
