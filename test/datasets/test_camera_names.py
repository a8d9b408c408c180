# SPDX-License-Identifier: Apache-2.0
"""What a camera is called after its topic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armor_ros.datasets.cameras import camera_name, camera_names


@pytest.mark.parametrize(
    ('topic', 'name'),
    [
        ('/front/image_raw/compressed', 'front'),
        ('/top_camera/image_raw/compressed', 'top_camera'),
        ('/camera/color/image_raw', 'camera'),
        ('/camera/image_raw', 'camera'),
        ('/camera1/camera1/color/image_raw', 'camera1'),
        ('/image_raw', 'camera'),
        ('/', 'camera'),
        ('/robot/wrist/rgb/image_rect_color/compressed', 'wrist'),
        ('/camera/infra1/image_rect_raw', 'infra1'),
    ],
)
def test_name_of_a_topic(topic: str, name: str) -> None:
    assert camera_name(topic) == name


def test_equal_names_are_told_apart() -> None:
    assert camera_names(['/r1/front/image_raw', '/r2/front/image_raw', '/wrist/image_raw']) == [
        'r1_front',
        'r2_front',
        'wrist',
    ]
    assert camera_names(['/cam/image_raw', '/cam/image_rect_color']) == [
        'cam_image_raw',
        'cam_image_rect_color',
    ]
    assert camera_names(['/a_b/image', '/a/b/image', '/b/image']) == [
        'a_b_image',
        'a_b_image_2',
        'b',
    ]


@given(
    st.lists(
        st.lists(st.sampled_from(['a', 'b', 'a_b', 'image_raw', 'compressed']), min_size=1).map(
            lambda parts: '/' + '/'.join(parts)
        ),
        unique=True,
    )
)
def test_names_are_never_alike(topics: list[str]) -> None:
    names = camera_names(topics)
    assert len(set(names)) == len(names) == len(topics)
    assert all(names)
