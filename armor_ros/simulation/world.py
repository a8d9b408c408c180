# SPDX-License-Identifier: Apache-2.0
"""The MuJoCo model of the cell: arm, table, items, lights and cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from armor_ros.errors import ArmorError
from armor_ros.simulation.domain import Look, View
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
from armor_ros.simulation.tasks.base import Task

ARM_FILE = Path(__file__).parent / 'assets' / 'panda' / 'panda.xml'
CAMERAS = ('front', 'wrist', 'overhead')
TIMESTEP_NS = 4_000_000

_SHADOW_MAP = 512
# Newtons per m/s and newtons: what a drawer resists with.
_SLIDE_DAMPING = 8.0
_SLIDE_FRICTION = 3.0


def item_body(index: int) -> str:
    """Return the name of the body of a scene's item."""
    return f'item{index}'


def lid_joint(index: int) -> str:
    """Return the name of the hinge of an item's lid; most items have none."""
    return f'lid{index}'


def build_model(task: Task, look: Look) -> Any:
    """Return the compiled MuJoCo model of the cell with the items and furniture of a task."""
    if not ARM_FILE.is_file():
        raise ArmorError(f'the arm model {ARM_FILE} is missing: reinstall the package')
    spec = mujoco.MjSpec.from_file(str(ARM_FILE))
    spec.modelname = 'cell'
    spec.option.timestep = TIMESTEP_NS * 1e-9
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 20.0
    spec.option.noslip_iterations = 5
    _add_look(spec, look)
    _add_furniture(spec, look)
    task.furnish(spec, look)
    for index, item in enumerate(task.items):
        _add_item(spec, index, item, look)
    _add_camera(spec, 'front', look.front, task)
    _add_camera(spec, 'overhead', look.overhead, task)
    return spec.compile()


def _add_look(spec: Any, look: Look) -> None:
    spec.visual.quality.shadowsize = _SHADOW_MAP
    spec.visual.quality.offsamples = 0
    spec.visual.global_.offwidth = 1280
    spec.visual.global_.offheight = 960
    spec.visual.map.znear = 0.01
    spec.visual.map.shadowclip = 1.0
    spec.stat.center = [0.4, 0.0, 0.1]
    spec.stat.extent = 0.85  # what the shadow map has to cover, metres
    spec.visual.headlight.ambient = [look.ambient] * 3
    spec.visual.headlight.diffuse = [0.22 * look.brightness] * 3
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    spec.add_texture(
        name='sky',
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=look.sky,
        rgb2=[c - 0.22 for c in look.sky],
        width=64,
        height=384,
    )
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.9, -0.9, 2.2],
        dir=look.light,
        diffuse=[look.brightness * c for c in (0.62, 0.61, 0.58)],
        specular=[0.25, 0.25, 0.25],
        castshadow=True,
    )


def _add_furniture(spec: Any, look: Look) -> None:
    world = spec.worldbody
    world.add_geom(
        name='floor',
        type=BOX,
        size=[3.0, 3.0, 0.05],
        pos=[0.0, 0.0, -0.80],
        rgba=[*look.floor, 1.0],
    )
    world.add_geom(
        name='table',
        type=BOX,
        size=[0.60, 0.62, 0.02],
        pos=[0.35, 0.0, -0.02],
        friction=[0.7, 0.005, 0.001],
        **_table_surface(spec, look),
    )
    for x in (-0.18, 0.88):
        for y in (-0.55, 0.55):
            world.add_geom(
                type=BOX,
                size=[0.03, 0.03, 0.355],
                pos=[x, y, -0.395],
                rgba=[0.30, 0.31, 0.33, 1.0],
            )


def _table_surface(spec: Any, look: Look) -> dict[str, Any]:
    """Return the table's colour, or the material that carries its texture."""
    if look.texture == 'flat':
        return {'rgba': [*look.table, 1.0]}
    kinds = mujoco.mjtBuiltin
    texture = spec.add_texture(
        name='table',
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin={
            'checker': kinds.mjBUILTIN_CHECKER,
            'gradient': kinds.mjBUILTIN_GRADIENT,
            'specks': kinds.mjBUILTIN_FLAT,
        }[look.texture],
        rgb1=look.table,
        rgb2=look.table_other,
        width=128,
        height=128,
    )
    if look.texture == 'specks':
        texture.mark = mujoco.mjtMark.mjMARK_RANDOM
        texture.markrgb = look.table_other
        texture.random = 0.08
    repeat = [1.0, 1.0] if look.texture == 'gradient' else [5.0, 5.0]
    material = spec.add_material(name='table', texrepeat=repeat, specular=0.1)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = 'table'
    return {'material': 'table'}


def _add_item(spec: Any, index: int, item: Item, look: Look) -> None:
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
    rgba = [*(min(1.0, look.tint * c) for c in COLORS[item.color]), 1.0]
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
    _SHAPE_BUILDERS[item.shape](body, shape.height / 2, {**solid, 'mass': shape.mass}, light)


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
    body.add_geom(type=CYLINDER, size=[0.028, half, 0.0], **solid)
    body.add_geom(type=CYLINDER, size=[0.014, half + 0.0005, 0.0], **light)


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


def _add_camera(spec: Any, name: str, view: View, task: Task) -> None:
    """Add a fixed camera; the wrist camera belongs to the arm's own model."""
    position, target = np.array(view.position), np.array(view.target) + task.focus
    quat = look_at(position, target)
    spec.worldbody.add_camera(name=name, pos=view.position, quat=quat, fovy=task.zoom * view.fovy)


def look_at(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """
    Return the quaternion (w, x, y, z) of a camera at ``position`` that looks at ``target``.

    The picture's up is the world's z where it can be, else the direction to the arm's base (-x).
    """
    back = position - target
    back = back / np.linalg.norm(back)
    up = np.array([0.0, 0.0, 1.0]) if abs(back[2]) < 0.95 else np.array([-1.0, 0.0, 0.0])
    right = np.cross(up, back)
    right = right / np.linalg.norm(right)
    rotation = np.stack([right, np.cross(back, right), back], axis=1)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, rotation.flatten())
    return quat
