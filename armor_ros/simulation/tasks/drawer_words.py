# SPDX-License-Identifier: Apache-2.0
"""The phrasings for drawers; see ``wording.py``."""

from __future__ import annotations

from armor_ros.simulation.events import EventKind

OBSERVATIONS: dict[EventKind, tuple[str, ...]] = {
    EventKind.MISSED: (
        'The gripper comes down {direction} and closes {when} without taking hold of the '
        'handle of the {target}.',
        'I can see the fingers close on nothing {when}: they are {distance} {direction}, and '
        'the {target} is not pulled.',
    ),
    EventKind.INCOMPLETE_GRASP: (
        'The gripper reaches the handle of the {target} but {when} its fingers stay apart, so '
        'that the drawer is not pulled.',
        'I can see the fingers stop closing before they touch the handle of the {target} '
        '{when}; the arm moves on without it.',
    ),
    EventKind.DROPPED: (
        'The gripper slides off the handle of the {item} {when}; the drawer ends {rest}.',
        'The robot takes hold of the {item} but loses its grip on the handle {when} while it '
        'pulls; it ends {rest}.',
    ),
    EventKind.WRONG_OBJECT: (
        'The robot opens the {item} instead of the {target} {when}.',
        'I can see the {item} slide out {when}, while the {target} was asked for.',
    ),
    EventKind.MISPLACED: (
        'The robot pulls the {item} only part of the way and lets go of it {when}; it ends '
        '{rest}.',
        'I can see the fingers open {when} before the {item} is pulled out: it stops '
        '{distance} short of its end and is {rest}.',
    ),
    EventKind.WRONG_SEQUENCE: (
        'The robot does its steps in the wrong order: at {seconds} s the gripper {misorder}, '
        'so the {target} is not pulled.',
        'I can see that the gripper {misorder} {when}. The steps are out of order, and the '
        '{target} stays {target_rest}.',
    ),
}

SHORT: dict[EventKind, tuple[str, ...]] = {
    EventKind.MISSED: (
        'No, the robot gripper moved to the handle with an offset along the {axis} direction.',
        'No, the robot gripper closed beside the handle of the {target}, off by {distance} '
        'along {axis}.',
    ),
    EventKind.DROPPED: (
        'No, the robot gripper slipped off the handle of the {item}.',
        'No, the robot gripper lost its grip on the {item} while it pulled.',
    ),
    EventKind.WRONG_OBJECT: (
        'No, the robot gripper opened the wrong drawer, the {item} instead of the {target}.',
        'No, the robot gripper acted on the {item}, which is not the {target}.',
    ),
    EventKind.MISPLACED: (
        'No, the robot gripper let go of the {item} too early, and it ended {rest}.',
        'No, the robot gripper did not pull the {item} far enough.',
    ),
}
