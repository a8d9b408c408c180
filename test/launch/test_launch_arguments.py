# SPDX-License-Identifier: Apache-2.0
"""The launch files' arguments fit the node's parameters; read from the source, without ROS."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

from armor_ros.parameters import MonitorParameters

LAUNCH = Path(__file__).parents[2] / 'launch'
# Arguments that are not parameters of the node, as users of nav2 know them.
OF_LAUNCH = {
    'params_file', 'namespace', 'log_level', 'use_respawn', 'respawn_delay', 'use_sim_time',
}  # fmt: skip


def calls(file: str, name: str) -> list[ast.Call]:
    tree = ast.parse((LAUNCH / file).read_text(encoding='utf-8'))
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


def declared(file: str) -> dict[str, dict[str, object]]:
    """Return the declared arguments, each with its literal keywords."""
    arguments = {}
    for call in calls(file, 'DeclareLaunchArgument'):
        keywords = {
            keyword.arg: keyword.value.value
            if isinstance(keyword.value, ast.Constant)
            else keyword.value
            for keyword in call.keywords
            if keyword.arg
        }
        arguments[ast.literal_eval(call.args[0])] = keywords
    return arguments


def constant(file: str, name: str) -> object:
    for node in ast.parse((LAUNCH / file).read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f'{file} has no {name}')


@pytest.mark.parametrize('file', ['monitor.launch.py', 'replay.launch.py'])
def test_every_argument_is_described(file: str) -> None:
    arguments = declared(file)
    assert arguments
    assert [name for name, keywords in arguments.items() if not keywords.get('description')] == []


def test_arguments_are_parameters_of_the_node() -> None:
    parameters = {field.name for field in dataclasses.fields(MonitorParameters)}
    assert set(declared('monitor.launch.py')) - OF_LAUNCH <= parameters
    booleans = constant('monitor.launch.py', 'BOOLEAN_PARAMETERS')
    texts = constant('monitor.launch.py', 'TEXT_PARAMETERS')
    assert isinstance(booleans, tuple)
    assert isinstance(texts, tuple)
    passed = {*booleans, *texts, 'cameras'}
    assert passed - {'use_sim_time'} <= parameters
    assert passed <= set(declared('monitor.launch.py'))


def test_arguments_left_empty_keep_the_file() -> None:
    for name, keywords in declared('monitor.launch.py').items():
        if name not in OF_LAUNCH - {'use_sim_time'}:
            assert keywords['default_value'] == '', name


def test_quantization_offers_what_the_node_takes() -> None:
    choices = declared('monitor.launch.py')['quantization']['choices']
    assert isinstance(choices, ast.List)
    field = {field.name: field for field in dataclasses.fields(MonitorParameters)}['quantization']
    assert ast.literal_eval(choices) == ['', *field.metadata['choices']]


@pytest.mark.parametrize('file', ['monitor.launch.py', 'replay.launch.py'])
def test_only_declared_arguments_are_used(file: str) -> None:
    used = {
        call.args[0].value
        for call in calls(file, 'LaunchConfiguration')
        if isinstance(call.args[0], ast.Constant)
    }
    assert used
    # replay includes monitor, and with it takes its arguments
    assert used <= {*declared(file), *declared('monitor.launch.py')}
