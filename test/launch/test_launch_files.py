# SPDX-License-Identifier: Apache-2.0
"""The launch files, evaluated by launch itself where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip('launch_ros')

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.utilities import perform_substitutions

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(
        name, ROOT / 'launch' / f'{name}.launch.py'
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def context_of(module: ModuleType, **given: str) -> LaunchContext:
    """Return a context in which the arguments have the given values, or their defaults."""
    context = LaunchContext()
    for action in module.generate_launch_description().entities:
        if isinstance(action, DeclareLaunchArgument):
            value = given.pop(action.name, None)
            if value is None and action.name == 'params_file':
                value = str(ROOT / 'config' / 'monitor.yaml')
            if value is None and action.default_value is not None:
                value = perform_substitutions(context, action.default_value)
            context.launch_configurations[action.name] = value
    assert not given
    return context


def values_of(module: ModuleType, **given: str) -> dict[str, str]:
    names = (*module.BOOLEAN_PARAMETERS, *module.TEXT_PARAMETERS, 'cameras')
    return {name: given.get(name, '') for name in names}


def test_nothing_given_overrides_nothing() -> None:
    module = load('monitor')
    assert module.given_parameters(values_of(module)) == {}


def test_given_arguments_become_parameters_of_their_type() -> None:
    module = load('monitor')
    parameters = module.given_parameters(
        values_of(
            module,
            use_sim_time='True',
            autostart='false',
            checkpoint='007',
            cameras='front=/front/image_raw, wrist=/wrist/image_raw,',
        )
    )
    assert parameters.pop('checkpoint').evaluate(LaunchContext()) == '007'
    assert parameters == {
        'use_sim_time': True,
        'autostart': False,
        'cameras': ['front=/front/image_raw', 'wrist=/wrist/image_raw'],
    }


def test_monitor_starts_one_lifecycle_node() -> None:
    module = load('monitor')
    (node,) = module.start_monitor(context_of(module, use_respawn='true', respawn_delay='0.5'))
    assert (node.node_package, node.node_executable) == ('armor_ros', 'monitor')


@pytest.mark.parametrize('has_ros2bag', [True, False])
def test_bag_is_played_by_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, has_ros2bag: bool
) -> None:
    module = load('replay')

    def prefix(package: str) -> str:
        if has_ros2bag:
            return '/opt/ros'
        raise module.PackageNotFoundError(package)

    monkeypatch.setattr(module, 'get_package_prefix', prefix)
    monkeypatch.setattr(module, 'ExecutableInPackage', lambda **_: 'armor')
    action: Any = module.player(context_of(module, bag='/data/bag', rate='2.0', loop='true'))
    assert isinstance(action, ExecuteProcess)
    command = [perform_substitutions(LaunchContext(), part) for part in action.cmd]
    expected = ['ros2', 'bag', 'play'] if has_ros2bag else ['armor', 'replay']
    assert command[: len(expected)] == expected
    assert command[len(expected)] == '/data/bag'
    assert '--loop' in command
