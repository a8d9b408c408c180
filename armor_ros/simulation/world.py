# SPDX-License-Identifier: Apache-2.0
"""The MuJoCo model of the cell: arm, table, items, lights and cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from armor_ros.errors import ArmorError
from armor_ros.simulation.domain import Look, View
from armor_ros.simulation.engine import mujoco
from armor_ros.simulation.furniture import BOX
from armor_ros.simulation.items import add_item, item_body
from armor_ros.simulation.tasks.base import Task

ARM_FILE = Path(__file__).parent / 'assets' / 'panda' / 'panda.xml'
CAMERAS = ('front', 'wrist', 'overhead')
TIMESTEP_NS = 4_000_000

_SHADOW_MAP = 512


def glue(first: int, second: int) -> str:
    """Return the name of the constraint by which two items can stick together."""
    return f'glue{first}_{second}'


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
        add_item(spec, index, item, look.tint)
    for first, second in task.sticky:
        spec.add_equality(
            name=glue(first, second),
            type=mujoco.mjtEq.mjEQ_WELD,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            name1=item_body(first),
            name2=item_body(second),
            active=False,
            solref=[0.008, 1.0],
            data=[0.0] * 10 + [1.0, 0.0],  # no offset; the pose between them is that of the start
        )
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
