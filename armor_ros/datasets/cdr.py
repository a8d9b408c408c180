# SPDX-License-Identifier: Apache-2.0
"""Serialized messages of a recording as objects; what cannot be read is counted."""

from __future__ import annotations

from typing import Any

from rosbags.typesys.store import Typestore

from armor_ros.datasets.storage import Problems, RawMessage
from armor_ros.errors import ArmorError


def deserialize(message: RawMessage, types: Typestore, problems: Problems) -> Any:
    """Return a message's fields; None, counted in ``problems``, where its bytes are none."""
    try:
        return types.deserialize_cdr(memoryview(message.data), message.type)
    except ArmorError:
        raise
    except Exception:
        # The deserializer is generated code that was fed with garbage: anything may come out.
        problems[f'{message.topic}: a message cannot be read as {message.type}'] += 1
        return None


def nanoseconds(stamp: Any) -> int:
    """Return a stamp in nanoseconds; 0, which means none, for one before 1970."""
    return max(0, int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec))
