# SPDX-License-Identifier: Apache-2.0
"""One parameter of the monitor: its default, description and range, and what breaks them."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from armor_ros.errors import ArmorError

Value = bool | int | float | str | list[str]


def declared(
    default: Value,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    dynamic: bool = False,
) -> Any:
    """Declare a parameter; ``dynamic`` ones may change while the node is configured."""
    metadata = {
        'description': description,
        'minimum': minimum,
        'maximum': maximum,
        'choices': tuple(choices),
        'dynamic': dynamic,
    }
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check_value(declaration: dataclasses.Field[Any], value: Value) -> None:
    """Raise ArmorError where a value breaks its declaration."""
    name, metadata = declaration.name, declaration.metadata
    if metadata['choices'] and value not in metadata['choices']:
        allowed = ', '.join(metadata['choices'])
        raise ArmorError(f'{name}: {value!r} is not one of {allowed}')
    minimum, maximum = metadata['minimum'], metadata['maximum']
    # written so that NaN fails too
    if minimum is not None and not minimum <= value <= maximum:
        raise ArmorError(f'{name}: {value} is outside {minimum} to {maximum}')


def default_of(declaration: dataclasses.Field[Any]) -> Value:
    """Return a fresh default value of a declared parameter."""
    if declaration.default_factory is not dataclasses.MISSING:
        return typing.cast('Value', declaration.default_factory())
    return typing.cast('Value', declaration.default)
