# SPDX-License-Identifier: Apache-2.0
"""MuJoCo with an off-screen renderer: the one place that imports it, and that chooses its GL."""

from __future__ import annotations

import ctypes.util
import os
import sys
from typing import Any

from armor_ros.errors import ArmorError

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


def make_renderer(model: Any, height: int, width: int) -> Any:
    """
    Return a MuJoCo off-screen renderer; close it after use.

    Raises ArmorError with the package to install when no GL library works.
    """
    if not can_render():
        raise ArmorError(
            'pictures of the simulated cell need an off-screen GL library, and neither OSMesa nor '
            f'EGL was found: {GL_PACKAGES}'
        )
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # each GL back end raises its own kind
        backend = os.environ.get('MUJOCO_GL', '')
        raise ArmorError(
            f'the off-screen GL library {backend!r} (MUJOCO_GL) does not work here ({error}): '
            f'{GL_PACKAGES}'
        ) from error
