# SPDX-License-Identifier: Apache-2.0
"""The arm against its published kinematics, and the inverse kinematics against the arm."""

import numpy as np
import pytest

from armor_ros.simulation.episode import draw_setup
from armor_ros.simulation.items import item_body
from armor_ros.simulation.recording import Camera
from armor_ros.simulation.robot import HOME, MAX_WIDTH, Cell, InverseKinematics, downward
from armor_ros.simulation.scene import TOTE_CENTERS
from armor_ros.simulation.world import CAMERAS

# Denavit-Hartenberg parameters in Craig's convention: a (m), d (m), alpha (rad), joint by joint.
DH = [
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
]
FLANGE, FINGERTIPS, HAND_TURN = 0.107, 0.1034, -np.pi / 4
LIMITS = [
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
]


@pytest.fixture
def cell() -> Cell:
    return Cell(draw_setup(0, 'nominal').scene)


def turn_z(angle: float, lift: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, lift], [0, 0, 0, 1]])


def turn_x(angle: float, shift: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0, shift], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]])


def test_forward_kinematics_equal_the_published_parameters(cell):
    rng = np.random.default_rng(1)
    lower, upper = np.array(LIMITS).T
    kinematics = InverseKinematics(cell)
    for _ in range(20):
        joints = rng.uniform(lower, upper)
        expected = np.eye(4)
        for (a, d, alpha), angle in zip(DH, joints, strict=True):
            expected = expected @ turn_x(alpha, a) @ turn_z(angle, d)
        expected = expected @ turn_z(HAND_TURN, FLANGE + FINGERTIPS)
        position, rotation = kinematics.pose(joints)
        np.testing.assert_allclose(position, expected[:3, 3], atol=1e-6)
        np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-6)


def test_joint_limits_are_the_published_ones(cell):
    np.testing.assert_allclose(cell.model.jnt_range[:7], LIMITS)


@pytest.mark.parametrize('yaw', [-0.8, 0.0, 0.8])
@pytest.mark.parametrize('center', TOTE_CENTERS)
@pytest.mark.parametrize('corner', [(-0.12, -0.06), (0.12, 0.06)])
def test_inverse_kinematics_reach_every_corner_of_the_totes(cell, center, corner, yaw):
    kinematics = InverseKinematics(cell)
    goal = np.array([center[0] + corner[0], center[1] + corner[1], 0.04])
    joints = HOME.copy()
    for _ in range(120):
        joints = kinematics.step(joints, goal, yaw)
    position, rotation = kinematics.pose(joints)
    assert np.linalg.norm(position - goal) < 0.002
    assert np.abs(rotation - downward(yaw)).max() < 0.01


def test_the_arm_stays_where_it_is_told(cell):
    for _ in range(200):
        cell.step()
    assert np.abs(cell.joints - HOME).max() < 1e-3
    assert cell.width == pytest.approx(MAX_WIDTH, abs=1e-3)
    assert cell.time_ns == 200 * 4_000_000


def test_items_stand_still_in_their_totes(cell):
    before = cell.item_positions()
    for _ in range(250):
        cell.step()
    assert np.abs(cell.item_positions() - before).max() < 0.003


def test_grip_closes_and_opens(cell):
    cell.command_grip(0.0, 40.0)
    for _ in range(120):
        cell.step()
    assert cell.width < 0.002
    cell.command_grip(MAX_WIDTH, 40.0)
    for _ in range(120):
        cell.step()
    assert cell.width > MAX_WIDTH - 0.003


@pytest.mark.parametrize('name', ['front', 'overhead'])
@pytest.mark.parametrize('item', [0, 1])
def test_pictures_show_items_at_their_places(cell: Cell, name: str, item: int) -> None:
    geoms = cell.model.geom_bodyid == cell.model.body(item_body(item)).id
    size = 160
    with Camera(cell, size) as camera:
        before = camera.picture(name).astype(int)
        cell.model.geom_matid[geoms] = -1
        cell.model.geom_rgba[geoms] = (1.0, 0.0, 1.0, 1.0)
        after = camera.picture(name).astype(int)
    rows, columns = np.nonzero(np.abs(after - before).sum(axis=-1) > 60)
    assert len(rows) > 8
    seen = (np.array([columns.mean(), rows.mean()]) + 0.5) / size
    np.testing.assert_allclose(cell.image_places()[CAMERAS.index(name), 1 + item], seen, atol=0.03)


def test_what_is_behind_a_camera_has_no_place_in_its_picture(cell: Cell) -> None:
    assert np.isfinite(cell.image_places()).all()
    front = cell.model.camera('front').id
    cell.data.cam_xmat[front] *= -1.0
    assert np.isnan(cell.image_places()[CAMERAS.index('front')]).all()
