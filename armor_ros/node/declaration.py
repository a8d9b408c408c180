# SPDX-License-Identifier: Apache-2.0
"""The table of parameters, declared to ROS."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterUninitializedException,
)
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter

from armor_ros.errors import ArmorError
from armor_ros.parameter_declaration import Value, default_of
from armor_ros.parameters import MonitorParameters

if TYPE_CHECKING:
    from armor_ros.node.monitor import Monitor

TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
    list: ParameterType.PARAMETER_STRING_ARRAY,
}


def declare(node: LifecycleNode) -> MonitorParameters:
    """Declare every parameter with its descriptor, and return the values; raise ArmorError."""
    values: dict[str, Value] = {}
    for declaration in dataclasses.fields(MonitorParameters):
        default = default_of(declaration)
        try:
            parameter = node.declare_parameter(
                declaration.name, default, _descriptor(declaration, default)
            )
        except (
            InvalidParameterTypeException,
            InvalidParameterValueException,
            ParameterUninitializedException,
        ) as error:
            raise ArmorError(
                f'parameter {declaration.name}: {error}. {_expectation(declaration, default)}'
            ) from None
        values[declaration.name] = parameter.value
    return MonitorParameters(**values)  # type: ignore[arg-type]


def watch_changes(node: Monitor) -> None:
    """
    Refuse changes that would break a declaration, or that would need a fresh configuration.

    Dynamic parameters act from the next task on. The others are read when the node is
    configured, so that they may change while it is not.
    """

    def check(changes: Sequence[Parameter]) -> SetParametersResult:
        current = dataclasses.asdict(node.parameters)
        dynamic = {
            declaration.name
            for declaration in dataclasses.fields(MonitorParameters)
            if declaration.metadata['dynamic']
        }
        ours = {change.name: change.value for change in changes if change.name in current}
        fixed = sorted(set(ours) - dynamic)
        if fixed and node.is_configured:
            return SetParametersResult(
                successful=False,
                reason=f'{", ".join(fixed)} can change only while the node is unconfigured: '
                'deactivate it and clean it up first',
            )
        try:
            node.parameters = MonitorParameters(**{**current, **ours})
        except (ArmorError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)


def data_folder(parameters: MonitorParameters) -> Path:
    """Return the absolute folder of evidence and labels, by the conventions of ROS_HOME."""
    if parameters.data_dir:
        return Path(parameters.data_dir).expanduser().absolute()
    return Path(os.environ.get('ROS_HOME', '~/.ros')).expanduser().absolute() / 'armor'


def _descriptor(declaration: dataclasses.Field[Any], default: Value) -> ParameterDescriptor:
    metadata = declaration.metadata
    descriptor = ParameterDescriptor(
        name=declaration.name,
        type=TYPES[type(default)],
        description=metadata['description'],
    )
    if metadata['choices']:
        descriptor.additional_constraints = 'one of ' + ', '.join(metadata['choices'])
    if metadata['minimum'] is not None and isinstance(default, float):
        descriptor.floating_point_range = [
            FloatingPointRange(
                from_value=float(metadata['minimum']), to_value=float(metadata['maximum'])
            )
        ]
    elif metadata['minimum'] is not None:
        descriptor.integer_range = [
            IntegerRange(
                from_value=int(metadata['minimum']), to_value=int(metadata['maximum']), step=1
            )
        ]
    return descriptor


def _expectation(declaration: dataclasses.Field[Any], default: Value) -> str:
    kind = {list: 'a list of strings', float: 'a number with a decimal point'}.get(
        type(default), f'of type {type(default).__name__}'
    )
    text = f'It must be {kind}'
    if declaration.metadata['minimum'] is not None:
        metadata = declaration.metadata
        text += f' from {metadata["minimum"]:g} to {metadata["maximum"]:g}'
    return text + f'; its default is {default!r}'
