# SPDX-License-Identifier: Apache-2.0
"""Which topics of a recording are its cameras, and what to call them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from armor_ros.datasets.storage import Topic
from armor_ros.episodes.recorder import CameraConfig

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')

# The parts of a topic's name that say what kind of image it is, not which camera it is from.
_KINDS = frozenset(
    {
        'color',
        'compressed',
        'image',
        'image_color',
        'image_compressed',
        'image_mono',
        'image_raw',
        'image_rect',
        'image_rect_color',
        'image_rect_raw',
        'raw',
        'rgb',
    }
)
# Words for the cameras of the paper's collage, in the order of its rows.
_ROWS = (
    frozenset({'front'}),
    frozenset({'wrist', 'hand', 'gripper'}),
    frozenset({'overhead', 'top'}),
)
_COMPRESSED = '/compressed'


def choose_cameras(topics: Sequence[Topic]) -> tuple[CameraConfig, ...]:
    """
    Choose one image topic a camera, sorted by topic.

    Of a raw topic and its compressed one the compressed is taken, unless only the raw one has
    messages. Depth images are passed over: a model of colour video cannot use them.
    """
    chosen: dict[str, Topic] = {}
    for topic in sorted(topics, key=lambda topic: topic.name):
        if topic.type not in IMAGE_TYPES or topic.serialization != 'cdr' or _is_depth(topic.name):
            continue
        base = topic.name.removesuffix(_COMPRESSED)
        rival = chosen.get(base)
        # Sorted by name, the raw topic comes before its compressed one.
        if rival is None or topic.count or not rival.count:
            chosen[base] = topic
    names = camera_names([topic.name for topic in chosen.values()])
    return tuple(
        CameraConfig(name=name, topic=topic.name)
        for name, topic in zip(names, chosen.values(), strict=True)
    )


def camera_names(topics: Sequence[str]) -> list[str]:
    """
    Return a short name for each topic, no two alike.

    '/front/image_raw/compressed' is 'front'. Where the short names of two topics are equal, more
    of the topic's name is taken.
    """
    names = [camera_name(topic) for topic in topics]
    for lengthen in (_name_with_namespace, _name_of_whole_topic):
        counts = Counter(names)
        names = [
            lengthen(topic) if counts[name] > 1 else name
            for topic, name in zip(topics, names, strict=True)
        ]
    unique: list[str] = []
    for name in names:
        number = 1 + sum(name == other for other in names[: len(unique)])
        candidate = name if number == 1 else f'{name}_{number}'
        while candidate in unique or (candidate != name and candidate in names):
            number += 1
            candidate = f'{name}_{number}'
        unique.append(candidate)
    return unique


def usual_order(names: Iterable[str]) -> list[str]:
    """
    Return cameras' names as the paper's collage has its rows: front, wrist, overhead.

    What tells is a word of the name ('cam_wrist', 'hand'); all others follow, by alphabet.
    """
    return sorted(names, key=lambda name: (_row(name), name))


def _row(name: str) -> int:
    words = set(re.split(r'[^a-z]+', name.lower()))
    rows = (row for row, known in enumerate(_ROWS) if words & known)
    return next(rows, len(_ROWS))


def camera_name(topic: str) -> str:
    """Return the part of a topic's name that tells its camera, 'camera' when there is none."""
    return (_parts(topic) or ['camera'])[-1]


def _parts(topic: str) -> list[str]:
    parts = [part for part in topic.split('/') if part]
    while parts and parts[-1] in _KINDS:
        parts.pop()
    return parts


def _name_with_namespace(topic: str) -> str:
    return '_'.join(_parts(topic)) or 'camera'


def _name_of_whole_topic(topic: str) -> str:
    return topic.removesuffix(_COMPRESSED).strip('/').replace('/', '_') or 'camera'


def _is_depth(topic: str) -> bool:
    parts = topic.lower().split('/')
    return any(part.startswith(('depth', 'compresseddepth', 'aligned_depth')) for part in parts)
