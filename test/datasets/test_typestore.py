# SPDX-License-Identifier: Apache-2.0
"""The message types of bags are those of ROS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from armor_ros.datasets import typestore
from armor_ros.errors import ArmorError


def test_every_interface_of_armor_msgs_is_there() -> None:
    types = typestore.armor_types().fielddefs
    for name in (
        'armor_msgs/msg/TaskEvent',
        'armor_msgs/msg/FailureReport',
        'armor_msgs/srv/GetReport_Request',
        'armor_msgs/srv/LabelTask_Response',
        'armor_msgs/action/VerifyTask_Goal',
        'armor_msgs/action/VerifyTask_Result',
        'armor_msgs/action/VerifyTask_Feedback',
        'sensor_msgs/msg/CompressedImage',
    ):
        assert name in types


def rosidl_hashes(package: str) -> dict[str, str]:
    """The type hashes that rosidl computed for an installed package, by type name."""
    share = next(
        (folder for folder in typestore.interface_folders() if folder.parent.name == 'share'), None
    )
    hashes: dict[str, str] = {}
    if share is not None:
        for path in sorted((share.parent / package / 'msg').glob('*.json')):
            for entry in json.loads(path.read_text())['type_hashes']:
                hashes[entry['type_name']] = entry['hash_string']
    return hashes


@pytest.mark.parametrize('package', ['armor_msgs', 'sensor_msgs', 'action_msgs', 'rosgraph_msgs'])
def test_type_hashes_equal_those_of_rosidl(package: str) -> None:
    hashes = rosidl_hashes(package)
    if not hashes:
        pytest.skip(f'{package} is not installed')
    types = typestore.armor_types()
    compared = 0
    for name, digest in hashes.items():
        if name in types.fielddefs and name.startswith(package):
            assert types.hash_rihs01(name) == digest, name
            compared += 1
    assert compared


def test_missing_interfaces_say_where_they_were_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(typestore, 'interface_folders', lambda: iter([tmp_path / 'armor_msgs']))
    with pytest.raises(ArmorError, match=f'looked in {tmp_path}/armor_msgs. Install armor_msgs'):
        typestore.find_interfaces()


def test_ament_prefixes_are_searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path / "one"}:{tmp_path / "two"}')
    folders = list(typestore.interface_folders())
    assert folders[1:3] == [
        tmp_path / 'one' / 'share' / 'armor_msgs',
        tmp_path / 'two' / 'share' / 'armor_msgs',
    ]


@pytest.mark.parametrize(
    ('name', 'full'),
    [
        ('sensor_msgs/Image', 'sensor_msgs/msg/Image'),
        ('sensor_msgs/msg/Image', 'sensor_msgs/msg/Image'),
        ('nonsense', 'nonsense'),
        ('', ''),
    ],
)
def test_old_type_names(name: str, full: str) -> None:
    assert typestore.normalize_type(name) == full
