# SPDX-License-Identifier: Apache-2.0
"""Which GL library is taken, and what is said when there is none."""

import ctypes.util
import threading

import pytest

from armor_ros.errors import ArmorError
from armor_ros.simulation import engine

needs_gl = pytest.mark.skipif(not engine.can_render(), reason='no off-screen GL library')


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
    monkeypatch.setattr(engine, '_thread', threading.local())
    monkeypatch.setattr(engine.mujoco, 'GLContext', broken)
    model = engine.mujoco.MjModel.from_xml_string('<mujoco/>')
    with pytest.raises(ArmorError, match=r"'egl'.*no display.*apt-get"):
        engine.make_renderer(model, 32, 32)


BALL = """
<mujoco>
  <worldbody>
    <light pos="0 0 3"/>
    <camera name="eye" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/>
    <body><freejoint/><geom size="0.3" rgba="{}"/></body>
  </worldbody>
</mujoco>
"""


@needs_gl
def test_two_renderers_of_different_models_and_sizes_do_not_disturb_each_other():
    pictures = {}
    models = [
        engine.mujoco.MjModel.from_xml_string(BALL.format(c)) for c in ('1 0 0 1', '0 0 1 1')
    ]
    renderers = [engine.make_renderer(models[0], 40, 60), engine.make_renderer(models[1], 80, 20)]
    for _ in range(2):
        for number, (model, renderer) in enumerate(zip(models, renderers, strict=True)):
            data = engine.mujoco.MjData(model)
            engine.mujoco.mj_forward(model, data)
            renderer.update_scene(data, 'eye')
            pictures.setdefault(number, []).append(renderer.render())
    for renderer in renderers:
        renderer.close()
        renderer.close()
    red, blue = pictures[0], pictures[1]
    assert red[0].shape == (40, 60, 3)
    assert blue[0].shape == (80, 20, 3)
    assert (red[0] == red[1]).all()
    assert (blue[0] == blue[1]).all()
    assert red[0][20, 30].argmax() == 0
    assert blue[0][40, 10].argmax() == 2
