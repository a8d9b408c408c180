# SPDX-License-Identifier: Apache-2.0
"""One short hash of every setting that can change a verdict."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from typing import Any


def config_hash(*settings: object) -> str:
    """
    Return 16 hexadecimal digits of SHA-256 over settings, in the order given.

    ``settings`` are dataclasses or plain values, such as EpisodeSettings, RefinementSettings and
    ModelInfo. The hash depends on class names, field names and values; raises TypeError for
    values that have no one textual form.
    """
    text = json.dumps([_plain(value) for value in settings], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
        return {type(value).__name__: fields}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f'{type(value).__name__} has no place in a configuration hash')
