# SPDX-License-Identifier: Apache-2.0
"""Why a diagnosis ended without an answer."""

from __future__ import annotations

from armor_ros.errors import ArmorError


class ModelError(ArmorError):
    """The model gave numbers that are no answer (NaN or infinite logits)."""


class Canceled(Exception):  # noqa: N818 (an outcome the caller asked for, not a fault)
    """The caller's ``should_stop`` became true before the diagnosis was complete."""


class OutOfTime(Exception):  # noqa: N818 (ends refinement with the answers there are)
    """The deadline passed during a round that is not the first."""
