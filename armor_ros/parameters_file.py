# SPDX-License-Identifier: Apache-2.0
"""ROS parameters files of the monitor, read without ROS and written with every default."""

from __future__ import annotations

import dataclasses
import difflib
import textwrap
from pathlib import Path

import yaml

from armor_ros.errors import ArmorError
from armor_ros.parameter_declaration import Value, default_of
from armor_ros.parameters import MonitorParameters


def read_parameters(path: Path) -> dict[str, Value]:
    """
    Read a ROS parameters file: the values under ``/**`` and ``armor_monitor``, by name.

    The node's own entry wins over the wildcard's. Raises ArmorError for a file that cannot be
    read, an unknown name (with the nearest known one) or a value of another type.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ArmorError(f'parameters file {path} cannot be read: {error}') from error
    if not isinstance(document, dict):
        raise ArmorError(f'parameters file {path} must begin with "/**:" or "armor_monitor:"')
    values: dict[str, Value] = {}
    for node in ('/**', '/armor_monitor', 'armor_monitor'):
        section = document.get(node) or {}
        entries = section.get('ros__parameters') if isinstance(section, dict) else None
        for name, value in (entries or {}).items():
            if name != 'use_sim_time':
                values[name] = _typed(path, name, value)
    return values


def _typed(path: Path, name: str, value: object) -> Value:
    """Return the value of a known parameter in its declared type."""
    defaults = {
        declaration.name: default_of(declaration)
        for declaration in dataclasses.fields(MonitorParameters)
    }
    if name not in defaults:
        near = difflib.get_close_matches(name, defaults, n=1)
        hint = f'; did you mean {near[0]}?' if near else ''
        raise ArmorError(f'{path}: there is no parameter {name!r}{hint}')
    expected = type(defaults[name])
    strings = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    if type(value) is not expected or (expected is list and not strings):
        raise ArmorError(
            f'{path}: {name} is {value!r}; it must be a {expected.__name__} like '
            f'{defaults[name]!r}'
        )
    return value  # type: ignore[return-value]


def parameters_yaml() -> str:
    """Return the parameters file with every default, range and description, as YAML."""
    lines = [
        '# Parameters of the ARMOR monitor: every one, with its default.',
        '/**:',
        '  ros__parameters:',
    ]
    for declaration in dataclasses.fields(MonitorParameters):
        metadata = declaration.metadata
        notes = metadata['description']
        if metadata['choices']:
            notes += ' One of ' + ', '.join(metadata['choices']) + '.'
        if metadata['minimum'] is not None:
            notes += f' From {metadata["minimum"]:g} to {metadata["maximum"]:g}.'
        if metadata['dynamic']:
            notes += ' May be changed while the node runs.'
        lines += ['    # ' + line for line in textwrap.wrap(notes, 90)]
        value = yaml.safe_dump(default_of(declaration), default_flow_style=True, width=1000)
        lines += [f'    {declaration.name}: {value.splitlines()[0]}']
    return '\n'.join(lines) + '\n'
