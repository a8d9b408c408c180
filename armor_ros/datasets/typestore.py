# SPDX-License-Identifier: Apache-2.0
"""The message types that bags are read and written with: the standard ones and armor_msgs."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import Typesdict
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from armor_ros.errors import ArmorError

_SECTIONS = {
    'msg': ('',),
    'srv': ('_Request', '_Response'),
    'action': ('_Goal', '_Result', '_Feedback'),
}


def interface_folders() -> Iterator[Path]:
    """
    Yield the folders that may hold armor_msgs, the best first.

    They are the source tree this module lies in, the ament prefixes, and the Python environment.
    """
    yield Path(__file__).resolve().parents[2] / 'armor_msgs'
    for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep):
        if prefix:
            yield Path(prefix) / 'share' / 'armor_msgs'
    yield Path(sys.prefix) / 'share' / 'armor_msgs'


def find_interfaces() -> Path:
    """Return the folder that holds armor_msgs' msg/ and srv/; ArmorError when there is none."""
    tried = []
    for folder in interface_folders():
        if (folder / 'msg' / 'TaskEvent.msg').is_file():
            return folder
        tried.append(str(folder))
    raise ArmorError(
        'the definitions of armor_msgs were not found; looked in '
        + ', '.join(tried)
        + '. Install armor_msgs, or source the workspace that it was built in'
    )


def read_interfaces(folder: Path) -> Typesdict:
    """
    Parse all messages, services and actions below an interface package's folder.

    Services and actions become one type a section, named as rosidl names them
    ('armor_msgs/srv/GetReport_Request'), and each service a type for what introspection records
    ('armor_msgs/srv/GetReport_Event').
    """
    types: Typesdict = {}
    for kind, suffixes in _SECTIONS.items():
        for path in sorted((folder / kind).glob(f'*.{kind}')):
            sections = _split_sections(path.read_text(encoding='utf-8'))
            for suffix, section in zip(suffixes, sections, strict=True):
                name = f'armor_msgs/{kind}/{path.stem}{suffix}'
                # The parser may spell a service's name in its own way: it has one type, ours.
                types[name] = next(iter(get_types_from_msg(section, name).values()))
            if kind == 'srv':
                types.update(_service_event(f'armor_msgs/srv/{path.stem}'))
    return types


def _service_event(service: str) -> Typesdict:
    """Return the type of a service's events: who did what, and the message, if it is recorded."""
    # typed by hand: a message's text cannot name a type of a service
    fields: Any = [
        ('info', (Nodetype.NAME, 'service_msgs/msg/ServiceEventInfo')),
        ('request', (Nodetype.SEQUENCE, ((Nodetype.NAME, f'{service}_Request'), 1))),
        ('response', (Nodetype.SEQUENCE, ((Nodetype.NAME, f'{service}_Response'), 1))),
    ]
    return {f'{service}_Event': ([], fields)}


def _split_sections(text: str) -> list[str]:
    sections: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip() == '---':
            sections.append([])
        else:
            sections[-1].append(line)
    return ['\n'.join(lines) + '\n' for lines in sections]


@functools.cache
def standard_types() -> Typestore:
    """Return the standard ROS 2 types. The store is shared: do not register into it."""
    return get_typestore(Stores.ROS2_JAZZY)


@functools.cache
def armor_types() -> Typestore:
    """
    Return the standard types together with armor_msgs; shared: do not register into it.

    Raises ArmorError when armor_msgs is not found.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(read_interfaces(find_interfaces()))
    return store


def normalize_type(name: str) -> str:
    """Return a message type's full name: old bags write 'sensor_msgs/Image'."""
    package, _, rest = name.partition('/')
    if rest and '/' not in rest:
        return f'{package}/msg/{rest}'
    return name
