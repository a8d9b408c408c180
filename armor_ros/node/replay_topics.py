# SPDX-License-Identifier: Apache-2.0
"""Which topics of a recording can be replayed here, and with which types and QoS."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Collection
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from armor_ros.datasets.bag_reader import BagReader
from armor_ros.datasets.storage import Qos, Topic
from armor_ros.errors import ArmorError

CLOCK_TOPIC = '/clock'
STATUS_TYPE = 'action_msgs/msg/GoalStatusArray'
DEFAULT_DEPTH = 10


def choose_topics(bag: BagReader, wanted: Collection[str] | None, clock: bool) -> list[Topic]:
    """Return the topics to publish; ArmorError for one that the bag does not have."""
    filled = [topic for topic in bag.topics if topic.count]
    if not filled:
        raise ArmorError(f'{bag.path} holds no messages; there is nothing to replay')
    names = {topic.name for topic in filled}
    for name in wanted or ():
        if name not in names:
            raise ArmorError(f'{bag.path} has no messages on {name}{near_names(name, names)}')
    return [
        topic
        for topic in filled
        if (topic.name == CLOCK_TOPIC and clock)
        or (topic.name != CLOCK_TOPIC and (wanted is None or topic.name in wanted))
    ]


def near_names(name: str, known: Collection[str]) -> str:
    """Return the end of a sentence about an unknown name: the known ones that look like it."""
    near = difflib.get_close_matches(name, sorted(known), n=3)
    return f'; did you mean {" or ".join(near)}?' if near else ''


def import_type(topic: Topic) -> Any:
    """Return the message class of a topic; ArmorError when it is not installed."""
    if topic.serialization != 'cdr':
        raise ArmorError(f'it is encoded as {topic.serialization!r}, not as ROS 2 does')
    package, _, rest = topic.type.partition('/')
    kind, _, name = rest.partition('/')
    if kind != 'msg':
        raise ArmorError(f'{topic.type!r} is not a message type')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError):
        raise ArmorError(
            f'its type {topic.type} is not installed; install or build {package}'
        ) from None


def publisher_qos(topic: Topic) -> QoSProfile:
    """
    Return the publisher's QoS: as recorded, and where nothing was, what suits every subscriber.

    Of several recorded publishers the strictest offer is taken. Action servers latch their status.
    """
    latched = topic.type == STATUS_TYPE
    recorded = topic.qos or (Qos(),)
    best_effort = all(qos.reliability == 'best_effort' for qos in recorded)
    transient = any(qos.durability == 'transient_local' for qos in recorded)
    depth = max(qos.depth for qos in recorded) or (1 if latched else DEFAULT_DEPTH)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.BEST_EFFORT
        if best_effort and not latched
        else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL
        if transient or latched
        else DurabilityPolicy.VOLATILE,
    )
