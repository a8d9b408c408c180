# SPDX-License-Identifier: Apache-2.0
"""Figures as text: shares in percent, seconds short or long, all else with three digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def format_figure(figure: Mapping[str, Any], kind: str) -> str:
    """Return a figure's value as 'share' (91.2 %), 'number' (0.912) or 'seconds' (9.1 ms)."""
    return '' if figure['value'] is None else format_number(figure['value'], kind)


def format_bounds(figure: Mapping[str, Any], kind: str) -> str:
    """Return a figure's interval ('88.0 to 93.9 %'), '' where it has none."""
    low, high = figure.get('low'), figure.get('high')
    if low is None or high is None:
        return ''
    first = f'{100 * low:.1f}' if kind == 'share' else format_number(low, kind)
    return f'{first} to {format_number(high, kind)}'


def format_number(value: float, kind: str) -> str:
    """Return a number as it is written for its kind."""
    if kind == 'share':
        return f'{100 * value:.1f}\u00a0%'
    if kind == 'seconds':
        return f'{value:.2f}\u00a0s' if value >= 0.1 else f'{1000 * value:.1f}\u00a0ms'
    return f'{value:.3f}'


def css_percent(value: float | None) -> str:
    """Return a share for a style attribute."""
    return f'{100 * (value or 0.0):.2f}%'
