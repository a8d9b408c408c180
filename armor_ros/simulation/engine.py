# SPDX-License-Identifier: Apache-2.0
"""MuJoCo with an off-screen renderer: the one place that imports it, and that chooses its GL."""

from __future__ import annotations

import atexit
import ctypes.util
import os
import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from armor_ros.errors import ArmorError

_MOST_GEOMS = 2000
_thread = threading.local()

GL_PACKAGES = 'apt-get install libosmesa6   (or: apt-get install libegl1 libgl1-mesa-dri)'


def choose_gl() -> str:
    """
    Return the value for MUJOCO_GL: the user's own, else 'osmesa', 'egl', or 'disable'.

    OSMesa goes first because it needs neither a driver nor a device. With 'disable' physics runs
    and pictures cannot be made. Both give the same pixels on a machine without a graphics card.
    """
    chosen = os.environ.get('MUJOCO_GL', '')
    if chosen:
        return chosen
    for name, library in (('osmesa', 'OSMesa'), ('egl', 'EGL')):
        if ctypes.util.find_library(library):
            return name
    return 'disable'


def _import_mujoco() -> Any:
    # MuJoCo reads MUJOCO_GL once, at its first import.
    if 'mujoco' not in sys.modules:
        os.environ['MUJOCO_GL'] = choose_gl()
        # Mesa then draws in the thread that asks. Its own threads cost more than they win for
        # small pictures, and episodes run side by side in processes.
        os.environ.setdefault('LP_NUM_THREADS', '0')
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise ArmorError(
            'the simulated cell needs MuJoCo, which is not installed: '
            "pip install 'armor-ros[simulation]' (or mujoco==4.0.0)"
        ) from error
    return mujoco


mujoco: Any = _import_mujoco()


def can_render() -> bool:
    """Tell whether a GL library was found, so that pictures can be made."""
    return os.environ.get('MUJOCO_GL', '').lower() not in (
        'disable',
        'disabled',
        'off',
        'false',
        '0',
    )


class Renderer:
    """
    Draws a model into memory, as ``mujoco.Renderer`` does, but keeps the thread's GL context.

    A context costs 0.15 s and is the same for every model, so an episode does not make its own.
    To be used and closed in the thread that made it.
    """

    def __init__(self, model: Any, height: int, width: int):
        self.scene: Any = mujoco.MjvScene(model, maxgeom=_MOST_GEOMS)
        self._model = model
        self._options = mujoco.MjvOption()
        self._view = mujoco.MjvCamera()
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._gl = _gl_context()
        self._gl.make_current()
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._context: Any = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)

    def update_scene(self, data: Any, camera: str) -> None:
        """Take over the state to be drawn; ``camera`` is the name of one of the model's."""
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = self._model.camera(camera).id
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._options,
            None,
            self._view,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self.scene,
        )

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the picture, (height, width, 3) RGB."""
        self._gl.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        picture = np.empty((self._rectangle.height, self._rectangle.width, 3), np.uint8)
        mujoco.mjr_render(self._rectangle, self.scene, self._context)
        mujoco.mjr_readPixels(picture, None, self._rectangle, self._context)
        return np.ascontiguousarray(picture[::-1])

    def close(self) -> None:
        """Free what the model takes in GL; a second call does nothing."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._context = None


def _gl_context() -> Any:
    if not hasattr(_thread, 'gl'):
        _thread.gl = mujoco.GLContext(16, 16)  # pictures are drawn into buffers of their own
        # Freed before the interpreter takes the GL library's Python side apart.
        atexit.register(_thread.gl.free)
    return _thread.gl


def make_renderer(model: Any, height: int, width: int) -> Renderer:
    """
    Return an off-screen renderer of a model; close it after use.

    Raises ArmorError with the package to install when no GL library works.
    """
    if not can_render():
        raise ArmorError(
            'pictures of the simulated cell need an off-screen GL library, and neither OSMesa nor '
            f'EGL was found: {GL_PACKAGES}'
        )
    try:
        return Renderer(model, height, width)
    except Exception as error:  # each GL back end raises its own kind
        backend = os.environ.get('MUJOCO_GL', '')
        raise ArmorError(
            f'the off-screen GL library {backend!r} (MUJOCO_GL) does not work here ({error}): '
            f'{GL_PACKAGES}'
        ) from error
