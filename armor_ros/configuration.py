# SPDX-License-Identifier: Apache-2.0
"""Trees of dataclasses from plain values, as JSON and YAML give them; mistakes are named."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import math
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from armor_ros.errors import ArmorError

Config = TypeVar('Config')


def read_yaml_config(cls: type[Config], path: Path) -> Config:
    """Read the dataclass ``cls`` from a YAML file; raises ArmorError naming file and mistake."""
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ArmorError(f'cannot read {path}: {error}') from error
    return config_from_yaml(cls, text, str(path))


def config_from_yaml(cls: type[Config], text: str, where: str) -> Config:
    """Parse the dataclass ``cls`` from YAML text; ``where`` names its origin in errors."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ArmorError(f'{where} is not valid YAML: {error}') from error
    try:
        return config_from_dict(cls, {} if data is None else data)
    except ArmorError as error:
        raise ArmorError(f'{where}: {error}') from error


def config_from_dict(cls: type[Config], data: object, prefix: str = '') -> Config:
    """
    Build the dataclass ``cls`` from plain values, nested dataclasses included.

    Fields may be dataclasses, enums, ``Literal``, ``tuple[X, ...]``, ``dict[str, X]``,
    ``X | None``, ``Any`` and the plain types; an integer passes for a float. Raises ArmorError on
    an unknown key (naming the nearest known one), a missing one, or a value of the wrong type,
    with its dotted name.
    """
    if not isinstance(data, dict):
        place = prefix.rstrip('.') or 'the config'
        raise ArmorError(f'{place} is {data!r}; it must be a mapping of names to values')
    schema: Any = cls
    expected = _types_of(schema)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in expected:
            raise ArmorError(
                f'unknown key {prefix + str(key)!r}; {_known(str(key), expected, prefix)}'
            )
        values[key] = _convert(expected[key], value, prefix + key)
    for name in _required(schema):
        if name not in values:
            raise ArmorError(f'{prefix + name!r} is missing; it has no default')
    return cls(**values)


def check_number(where: str, name: str, value: float, low: float, high: float) -> None:
    """Raise ArmorError, naming the value and its limits, unless it is from low to high."""
    if not (math.isfinite(value) and low <= value <= high):
        raise ArmorError(f'{where}: {name} is {value}; give a number from {low:g} to {high:g}')


def first_change(before: object, after: object, name: str = '') -> str:
    """
    Say which value differs between two trees of plain values, '' where none does.

    Of lists that are not equally long the lengths are told.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(str(key), before.get(key), after.get(key)) for key in {**before, **after}]
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            return f'{name} had {len(before)} entries, and has {len(after)}'
        pairs = [(str(i), *both) for i, both in enumerate(zip(before, after, strict=True))]
    else:
        return '' if before == after else f'{name} was {before!r}, and is {after!r}'
    for key, one, other in pairs:
        if change := first_change(one, other, f'{name}.{key}' if name else key):
            return change
    return ''


def _known(key: str, expected: Collection[str], prefix: str) -> str:
    """Return what an unknown key may have been meant to be."""
    near = difflib.get_close_matches(key, expected, n=1)
    if near:
        return f'did you mean {prefix + near[0]!r}?'
    return (
        f'the keys here are {", ".join(sorted(expected))}' if expected else 'no key is taken here'
    )


@functools.cache
def _types_of(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _required(cls: Any) -> tuple[str, ...]:
    missing = dataclasses.MISSING
    return tuple(
        field.name
        for field in dataclasses.fields(cls)
        if field.default is missing and field.default_factory is missing
    )


def _convert(expected: Any, value: object, name: str) -> object:
    """Convert one plain value to a field's type; raises ArmorError naming the field."""
    origin = typing.get_origin(expected)
    if expected is Any:
        return value
    if origin is typing.Union or origin is types.UnionType:
        others = [choice for choice in typing.get_args(expected) if choice is not type(None)]
        return None if value is None else _convert(others[0], value, name)
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return config_from_dict(expected, value, name + '.')
    if isinstance(expected, type) and issubclass(expected, enum.Enum):
        return expected(_one_of([member.value for member in expected], value, name))
    if origin is Literal:
        return _one_of(list(typing.get_args(expected)), value, name)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ArmorError(f'{name} is {value!r}; it must be a list')
        item = typing.get_args(expected)[0]
        return tuple(_convert(item, entry, f'{name}[{i}]') for i, entry in enumerate(value))
    if origin is dict:
        return _convert_mapping(expected, value, name)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not expected:
        text = f'{name} is {value!r}; it must be of type {expected.__name__}'
        if expected is float and isinstance(value, str):
            # YAML 1.1 takes 1e-3 for text
            text += ', with a point and a sign if there is an exponent, such as 1.0e-3'
        raise ArmorError(text)
    return value


def _convert_mapping(expected: Any, value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ArmorError(f'{name} is {value!r}; it must be a mapping of names to values')
    item = typing.get_args(expected)[1]
    for key in value:
        if type(key) is not str:
            raise ArmorError(f'{name} has the key {key!r}; its keys must be names')
    return {key: _convert(item, entry, f'{name}.{key}') for key, entry in value.items()}


def _one_of(choices: list[Any], value: object, name: str) -> object:
    if value not in choices:
        raise ArmorError(f'{name} is {value!r}; it must be one of {", ".join(choices)}')
    return value
