# SPDX-License-Identifier: Apache-2.0
"""The failures that can be injected; importing this enters all in ``FAILURES``."""

from armor_ros.simulation.failures import (
    confusion,
    contact,
    gripping,
    pulling,
    pushing,
    sequence,
    sight,
    turning,
)
from armor_ros.simulation.failures.base import FAILURES, NOMINAL, Failure, failure_of, modes_of

__all__ = [
    'FAILURES',
    'NOMINAL',
    'Failure',
    'confusion',
    'contact',
    'failure_of',
    'gripping',
    'modes_of',
    'pulling',
    'pushing',
    'sequence',
    'sight',
    'turning',
]
