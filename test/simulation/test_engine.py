# SPDX-License-Identifier: Apache-2.0
"""Which GL library is taken, and what is said when there is none."""

import ctypes.util

import pytest

from armor_ros.errors import ArmorError
from armor_ros.simulation import engine


@pytest.mark.parametrize(
    ('installed', 'chosen'),
    [({'OSMesa', 'EGL'}, 'osmesa'), ({'EGL'}, 'egl'), (set(), 'disable')],
)
def test_choice_of_gl(monkeypatch, installed, chosen):
    monkeypatch.delenv('MUJOCO_GL', raising=False)
    monkeypatch.setattr(
        ctypes.util, 'find_library', lambda name: name if name in installed else None
    )
    assert engine.choose_gl() == chosen


def test_the_users_choice_wins(monkeypatch):
    monkeypatch.setenv('MUJOCO_GL', 'glfw')
    assert engine.choose_gl() == 'glfw'


def test_without_gl_the_package_is_named(monkeypatch):
    monkeypatch.setenv('MUJOCO_GL', 'disable')
    model = engine.mujoco.MjModel.from_xml_string('<mujoco/>')
    with pytest.raises(ArmorError, match='apt-get install libosmesa6'):
        engine.make_renderer(model, 32, 32)


def test_a_gl_that_does_not_work_is_named(monkeypatch):
    def broken(*_):
        raise RuntimeError('no display')

    monkeypatch.setenv('MUJOCO_GL', 'egl')
    monkeypatch.setattr(engine.mujoco, 'Renderer', broken)
    with pytest.raises(ArmorError, match=r"'egl'.*no display.*apt-get"):
        engine.make_renderer(None, 32, 32)
