# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses to plain msgpack data and back, with every type, range and length checked."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import numpy as np

from armor_ros.errors import ArmorError

MAX_STRING_LENGTH = 65_536
MAX_TUPLE_LENGTH = 65_536
_INT64 = (-(2**63), 2**63 - 1)

T = TypeVar('T')


class ProtocolError(ArmorError):
    """A message that breaks the protocol: which field, its value, what it must be."""


def to_plain(value: object, where: str = 'message') -> Any:
    """
    Turn a value into what msgpack can pack: dict, list, str, bytes, int, float, bool or None.

    Dataclasses become dicts of their fields, enums their values, tuples lists. Raises
    ProtocolError for NaN, infinity, integers beyond 64 bits, unpackable text and other types.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name), f'{where}.{field.name}')
            for field in dataclasses.fields(value)
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        _check_length(len(value), MAX_TUPLE_LENGTH, where, 'entries')
        return [to_plain(item, where) for item in value]
    if value is None or isinstance(value, (bool, bytes, memoryview)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return _checked_int(int(value), where)
    if isinstance(value, (float, np.floating)):
        return _checked_float(float(value), where)
    if isinstance(value, str):
        return _checked_text(value, where)
    raise ProtocolError(f'{where} is a {type(value).__name__}, which cannot be sent')


def from_plain(expected: type[T], value: object, where: str = 'message') -> T:
    """
    Build a dataclass from plain data, the inverse of ``to_plain``.

    Raises ProtocolError when a field is missing, unknown, of another type or out of range.
    """
    if not isinstance(value, Mapping):
        raise ProtocolError(f'{where} must be a map, not {_name(value)}')
    hints = field_types(typing.cast('Hashable', expected))
    if value.keys() != hints.keys():
        missing = ', '.join(sorted(hints.keys() - value.keys())) or 'none'
        unknown = ', '.join(sorted(str(key)[:40] for key in value.keys() - hints.keys())) or 'none'
        raise ProtocolError(f'{where}: missing fields: {missing}; unknown fields: {unknown}')
    fields = {name: _convert(hint, value[name], f'{where}.{name}') for name, hint in hints.items()}
    return expected(**fields)


@functools.cache
def field_types(cls: Hashable) -> dict[str, Any]:
    """Return the resolved types of a dataclass's fields by name."""
    dataclass_type = typing.cast('type[Any]', cls)
    hints = typing.get_type_hints(dataclass_type)
    return {field.name: hints[field.name] for field in dataclasses.fields(dataclass_type)}


def _convert(hint: Any, value: object, where: str) -> Any:
    """Check one plain value against one type of a dataclass field."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_optional(hint, value, where)
    if origin is tuple:
        return _convert_tuple(typing.get_args(hint), value, where)
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast('type[Any]', hint), value, where)
    if issubclass(hint, enum.Enum):
        return _convert_enum(hint, value, where)
    if hint is float and type(value) is int:
        return _checked_float(float(_checked_int(value, where)), where)
    if type(value) is not hint:
        raise ProtocolError(f'{where} must be {hint.__name__}, not {_name(value)}')
    if hint is int:
        return _checked_int(typing.cast('int', value), where)
    if hint is float:
        return _checked_float(typing.cast('float', value), where)
    if hint is str:
        return _checked_text(typing.cast('str', value), where)
    return value


def _convert_optional(hint: Any, value: object, where: str) -> Any:
    if value is None:
        return None
    (inner,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
    return _convert(inner, value, where)


def _convert_tuple(arguments: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ProtocolError(f'{where} must be a list, not {_name(value)}')
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        _check_length(len(value), MAX_TUPLE_LENGTH, where, 'entries')
        return tuple(_convert(arguments[0], item, where) for item in value)
    if len(value) != len(arguments):
        raise ProtocolError(f'{where} must have {len(arguments)} entries, not {len(value)}')
    return tuple(_convert(kind, item, where) for kind, item in zip(arguments, value, strict=True))


def _convert_enum(hint: type[enum.Enum], value: object, where: str) -> enum.Enum:
    plain_type = str if issubclass(hint, str) else int
    if type(value) is plain_type:
        for member in hint:
            if member.value == value:
                return member
    known = ', '.join(str(member.value) for member in hint)
    raise ProtocolError(f'{where} must be one of {known}, not {str(value)[:40]!r}')


def _checked_int(value: int, where: str) -> int:
    if not _INT64[0] <= value <= _INT64[1]:
        raise ProtocolError(f'{where} is an integer beyond 64 bits')
    return value


def _checked_float(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise ProtocolError(f'{where} is {value}, and must be a finite number')
    return value


def _checked_text(value: str, where: str) -> str:
    _check_length(len(value), MAX_STRING_LENGTH, where, 'characters')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ProtocolError(f'{where} holds characters that UTF-8 cannot express') from None
    return value


def _check_length(length: int, limit: int, where: str, unit: str) -> None:
    if length > limit:
        raise ProtocolError(f'{where} has {length} {unit}; at most {limit} are allowed')


def _name(value: object) -> str:
    return 'nil' if value is None else type(value).__name__
