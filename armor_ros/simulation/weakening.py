# SPDX-License-Identifier: Apache-2.0
"""
Weakened injections: part of the way to a spoiled plan, or a first try that is made good.

Most of these attempts succeed, and they move like failures do: a grasp beside the middle, a
goal that is a little off, a second try. Without them every success would be the ideal motion, and
the motion alone would tell the outcome.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from armor_ros.simulation.episode import Setup, undisturbed
from armor_ros.simulation.plan import NO_CHECK

WEAK = 'weak_'
"""Stands before the name of a mode that was injected in part."""

RECOVERED = 'recovered_'
"""Stands before the name of a mode that spoils the first attempt alone."""


def weaken(spoiled: Setup, share: float) -> Setup | None:
    """
    Return a set-up with what was injected into ``spoiled`` to the given share, 0 to 1.

    Lengths, angles, forces and times lie between those of the two plans; all else, such as the
    item that is taken, is as in the undisturbed one. None where nothing is left of the injection.
    """
    nominal = undisturbed(spoiled)
    changes = {}
    for field in dataclasses.fields(nominal.plan):
        own, other = getattr(nominal.plan, field.name), getattr(spoiled.plan, field.name)
        between = _between(own, other, share)
        if between != own:
            changes[field.name] = between
    if not changes:
        return None
    plan = dataclasses.replace(nominal.plan, **changes)
    return dataclasses.replace(nominal, plan=plan, mode=WEAK + spoiled.mode)


def recover(spoiled: Setup) -> Setup | None:
    """
    Return a set-up whose robot sees the item wrong at first, and right when it looks again.

    None where the sight was not at fault, or the robot would not notice.
    """
    plan, sight = spoiled.plan, undisturbed(spoiled).plan.sight_error
    if plan.sight_error == sight or NO_CHECK in plan.deviations:
        return None
    plan = dataclasses.replace(plan, second_sight=sight)
    return dataclasses.replace(spoiled, plan=plan, mode=RECOVERED + spoiled.mode)


def _between(own: Any, other: Any, share: float) -> Any:
    if type(own) is float and type(other) is float:
        return own + share * (other - own)
    if type(own) is tuple and type(other) is tuple and len(own) == len(other):
        return tuple(_between(a, b, share) for a, b in zip(own, other, strict=True))
    return own
