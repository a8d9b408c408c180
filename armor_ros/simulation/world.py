# SPDX-License-Identifier: Apache-2.0
"""The MuJoCo model of the cell: arm, table, totes, items, lights and cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from armor_ros.errors import ArmorError
from armor_ros.simulation.engine import mujoco
from armor_ros.simulation.scene import (
    COLORS,
    SHAPES,
    TOTE_CENTERS,
    TOTE_FLOOR,
    TOTE_HALF,
    TOTE_NAMES,
    TOTE_WALL,
    TOTE_WALL_HEIGHT,
    Item,
    Scene,
)

ARM_FILE = Path(__file__).parent / 'assets' / 'panda' / 'panda.xml'
CAMERAS = ('front', 'wrist', 'overhead')
TIMESTEP_NS = 4_000_000

_BOX = mujoco.mjtGeom.mjGEOM_BOX
_CYLINDER = mujoco.mjtGeom.mjGEOM_CYLINDER
_SPHERE = mujoco.mjtGeom.mjGEOM_SPHERE
_TOTE_RGBA = (0.66, 0.70, 0.74, 1.0)
_TOTE_RIM_RGBA = (0.42, 0.47, 0.53, 1.0)
_SHADOW_MAP = 512


def item_body(index: int) -> str:
    """Return the name of the body of a scene's item."""
    return f'item{index}'


def build_model(scene: Scene) -> Any:
    """Return the compiled MuJoCo model of the cell with the items of ``scene``."""
    if not ARM_FILE.is_file():
        raise ArmorError(f'the arm model {ARM_FILE} is missing: reinstall the package')
    spec = mujoco.MjSpec.from_file(str(ARM_FILE))
    spec.modelname = 'cell'
    spec.option.timestep = TIMESTEP_NS * 1e-9
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 20.0
    spec.option.noslip_iterations = 5
    _add_look(spec)
    _add_furniture(spec)
    for tote in range(len(TOTE_NAMES)):
        _add_tote(spec, tote)
    for index, item in enumerate(scene.items):
        _add_item(spec, index, item)
    _add_cameras(spec)
    return spec.compile()


def _add_look(spec: Any) -> None:
    spec.visual.quality.shadowsize = _SHADOW_MAP
    spec.visual.quality.offsamples = 0
    spec.visual.global_.offwidth = 1280
    spec.visual.global_.offheight = 960
    spec.visual.map.znear = 0.01
    spec.visual.map.shadowclip = 1.0
    spec.stat.center = [0.4, 0.0, 0.1]
    spec.stat.extent = 0.85  # what the shadow map has to cover, metres
    spec.visual.headlight.ambient = [0.38, 0.38, 0.38]
    spec.visual.headlight.diffuse = [0.22, 0.22, 0.22]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    spec.add_texture(
        name='sky',
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.72, 0.76, 0.80],
        rgb2=[0.50, 0.54, 0.58],
        width=64,
        height=384,
    )
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.9, -0.9, 2.2],
        dir=[-0.22, 0.42, -1.0],
        diffuse=[0.62, 0.61, 0.58],
        specular=[0.25, 0.25, 0.25],
        castshadow=True,
    )


def _add_furniture(spec: Any) -> None:
    world = spec.worldbody
    world.add_geom(
        name='floor',
        type=_BOX,
        size=[3.0, 3.0, 0.05],
        pos=[0.0, 0.0, -0.80],
        rgba=[0.40, 0.42, 0.44, 1.0],
    )
    world.add_geom(
        name='table',
        type=_BOX,
        size=[0.60, 0.62, 0.02],
        pos=[0.35, 0.0, -0.02],
        rgba=[0.63, 0.51, 0.38, 1.0],
        friction=[0.7, 0.005, 0.001],
    )
    for x in (-0.18, 0.88):
        for y in (-0.55, 0.55):
            world.add_geom(
                type=_BOX,
                size=[0.03, 0.03, 0.355],
                pos=[x, y, -0.395],
                rgba=[0.30, 0.31, 0.33, 1.0],
            )


def _add_tote(spec: Any, tote: int) -> None:
    """Add a box without a lid: a floor, four walls and, for the eye, a darker rim."""
    cx, cy = TOTE_CENTERS[tote]
    hx, hy = TOTE_HALF
    half_wall, half_height = TOTE_WALL / 2, TOTE_WALL_HEIGHT / 2
    body = spec.worldbody.add_body(name=f'tote{tote}', pos=[cx, cy, 0.0])
    body.add_geom(
        type=_BOX,
        size=[hx + TOTE_WALL, hy + TOTE_WALL, TOTE_FLOOR / 2],
        pos=[0.0, 0.0, TOTE_FLOOR / 2],
        rgba=_TOTE_RGBA,
    )
    walls = (
        ([hx + TOTE_WALL, half_wall], [0.0, hy + half_wall]),
        ([hx + TOTE_WALL, half_wall], [0.0, -hy - half_wall]),
        ([half_wall, hy], [hx + half_wall, 0.0]),
        ([half_wall, hy], [-hx - half_wall, 0.0]),
    )
    for size, pos in walls:
        body.add_geom(
            type=_BOX, size=[*size, half_height], pos=[*pos, half_height], rgba=_TOTE_RGBA
        )
        body.add_geom(
            type=_BOX,
            size=[size[0] + 0.002, size[1] + 0.002, 0.004],
            pos=[*pos, TOTE_WALL_HEIGHT],
            rgba=_TOTE_RIM_RGBA,
            contype=0,
            conaffinity=0,
        )


def _add_item(spec: Any, index: int, item: Item) -> None:
    shape = SHAPES[item.shape]
    z = TOTE_FLOOR + shape.height / 2 + 0.0005
    body = spec.worldbody.add_body(
        name=item_body(index),
        pos=[item.x, item.y, z],
        quat=[np.cos(item.yaw / 2), 0.0, 0.0, np.sin(item.yaw / 2)],
    )
    body.add_freejoint()
    rgba = [*COLORS[item.color], 1.0]
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
    body.add_geom(type=_CYLINDER, size=[0.030, half, 0.0], **solid)
    for side in (-1, 1):
        body.add_geom(type=_CYLINDER, size=[0.019, half + 0.001, 0.0], **light)
        body.add_geom(
            type=_CYLINDER, size=[0.0304, 0.004, 0.0], pos=[0, 0, side * (half - 0.008)], **light
        )


def _add_box(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=_BOX, size=[0.034, 0.026, half], **solid)
    body.add_geom(type=_BOX, size=[0.0345, 0.006, half + 0.0005], **light)


def _add_bottle(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    mass = solid['mass']
    trunk = 0.75 * half
    body.add_geom(
        type=_CYLINDER,
        size=[0.028, trunk, 0.0],
        pos=[0, 0, trunk - half],
        **{**solid, 'mass': 0.9 * mass},
    )
    body.add_geom(
        type=_CYLINDER,
        size=[0.013, half - trunk, 0.0],
        pos=[0, 0, trunk],
        **{**solid, 'mass': 0.1 * mass},
    )
    body.add_geom(type=_CYLINDER, size=[0.015, 0.009, 0.0], pos=[0, 0, half - 0.008], **light)


def _add_ball(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=_SPHERE, size=[half, 0.0, 0.0], **solid)
    body.add_geom(type=_CYLINDER, size=[0.0322, 0.0025, 0.0], **light)


def _add_carton(body: Any, half: float, solid: dict[str, Any], light: dict[str, Any]) -> None:
    body.add_geom(type=_BOX, size=[0.030, 0.024, half], **solid)
    body.add_geom(type=_BOX, size=[0.0305, 0.0245, 0.012], pos=[0, 0, 0.4 * half], **light)


_SHAPE_BUILDERS = {
    'can': _add_can,
    'box': _add_box,
    'bottle': _add_bottle,
    'ball': _add_ball,
    'carton': _add_carton,
}


def _add_cameras(spec: Any) -> None:
    """Add the fixed cameras; the wrist camera belongs to the arm's own model."""
    for name, pos, target, fovy in (
        ('front', (1.44, 0.0, 0.74), (0.38, 0.0, 0.245), 53.0),
        ('overhead', (0.56, 0.0, 1.25), (0.43, 0.0, 0.0), 48.0),
    ):
        spec.worldbody.add_camera(
            name=name,
            pos=pos,
            quat=look_at(np.array(pos), np.array(target)),
            fovy=fovy,
        )


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
