# SPDX-License-Identifier: Apache-2.0
"""Limits on metrics: a file of bounds turns an evaluation into a gate."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from armor_ros.errors import ArmorError

_BOUNDS = ('min', 'max')


@dataclass(frozen=True, slots=True)
class Limit:
    """Bounds of one metric by its dotted name in metrics.json, both ends allowed."""

    name: str
    minimum: float = -math.inf
    maximum: float = math.inf


def read_limits(path: Path) -> tuple[Limit, ...]:
    """
    Read a YAML file that maps dotted names to bounds.

    For instance ``detection.accuracy.low: {min: 0.85}`` or ``rounds.0.accuracy.value: {min: 0.8,
    max: 1}``. Raises ArmorError that names the entry and what is wrong with it.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ArmorError(f'limits file {path} cannot be read: {error}') from error
    if not isinstance(document, dict) or not document:
        raise ArmorError(
            f'limits file {path} names no limit; write lines such as '
            '"detection.accuracy.low: {min: 0.85}"'
        )
    return tuple(_limit(path, str(name), bounds) for name, bounds in document.items())


def broken_limits(metrics: Mapping[str, Any], limits: Sequence[Limit]) -> list[str]:
    """
    Return a sentence for each limit that does not hold, in their order.

    A metric without a value breaks its limits. Raises ArmorError for a name that metrics do not
    have, with the nearest one.
    """
    known = dict(_numbers(metrics, ''))
    sentences = []
    for limit in limits:
        if limit.name not in known:
            raise ArmorError(_unknown(limit.name, known))
        value, reason = known[limit.name]
        if value is None:
            sentences.append(f'{limit.name} has no value: {reason or "not measured"}')
        elif value < limit.minimum:
            sentences.append(f'{limit.name} is {value:g}; it must be at least {limit.minimum:g}')
        elif value > limit.maximum:
            sentences.append(f'{limit.name} is {value:g}; it must be at most {limit.maximum:g}')
    return sentences


def check_limits(metrics: Mapping[str, Any], limits: Sequence[Limit]) -> None:
    """Raise ArmorError that names every broken limit, with its value and bound."""
    sentences = broken_limits(metrics, limits)
    if sentences:
        count = f'{len(sentences)} of {len(limits)} limits'
        raise ArmorError('\n'.join([f'{count} do not hold:', *sentences]))


def _limit(path: Path, name: str, bounds: object) -> Limit:
    if not isinstance(bounds, dict) or not bounds or not set(bounds) <= set(_BOUNDS):
        raise ArmorError(f'{path}: {name} is {bounds!r}; write {{min: A}}, {{max: B}} or both')
    for bound, value in bounds.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise ArmorError(f'{path}: {name}: {bound} is {value!r}; it must be a number')
    limit = Limit(name, float(bounds.get('min', -math.inf)), float(bounds.get('max', math.inf)))
    if limit.minimum > limit.maximum:
        raise ArmorError(
            f'{path}: {name}: min {limit.minimum:g} is above max {limit.maximum:g}; nothing can '
            'hold both'
        )
    return limit


def _numbers(value: Any, prefix: str) -> Iterator[tuple[str, tuple[float | None, str]]]:
    """Yield all numbers, and the places where one is missing, by their dotted names."""
    if isinstance(value, Mapping):
        reason = str(value.get('reason', ''))
        for key, inner in value.items():
            if inner is None or _is_number(inner):
                yield f'{prefix}{key}', (inner, reason)
            else:
                yield from _numbers(inner, f'{prefix}{key}.')
    elif isinstance(value, (list, tuple)):
        yield from _numbers(dict(enumerate(value)), prefix)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    # a figure's name alone, as tables have it, lacks its part and which of its numbers is meant
    near = [other for other in known if f'.{other}'.endswith(f'.{name}.value')]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f'there is no metric {name!r}; did you mean {near[0]!r}?'
