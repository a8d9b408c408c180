# SPDX-License-Identifier: Apache-2.0
"""The phrasings for pushes; see ``wording.py``."""

from __future__ import annotations

from armor_ros.simulation.events import EventKind

OBSERVATIONS: dict[EventKind, tuple[str, ...]] = {
    EventKind.MISSED: (
        'The gripper goes past the {target} {when}: it is {direction}, and the item stays '
        'where it was.',
        'I can see the fingers move along {distance} {direction} {when} without touching the '
        '{target}, which is not pushed.',
    ),
    EventKind.WRONG_OBJECT: (
        'The robot pushes the {item} instead of the {target} {when}.',
        'I can see the fingers set the {item} in motion {when}, but the task names the {target}.',
    ),
    EventKind.WRONG_DESTINATION: (
        'The robot pushes the {item} the wrong way: it stops {when} and ends {rest}, not {aim}.',
        'I can see the {item} being pushed to a goal that was not asked for: it stops {when} '
        'and ends {rest}, although it should be {aim}.',
    ),
    EventKind.MISPLACED: (
        'The {item} is pushed, but it stops {when} {distance} {direction_goal} and is not {aim}.',
        'I can see the {item} come to a stop {when}: it is {direction_goal} by {distance} and '
        'ends {rest} instead of {aim}.',
    ),
    EventKind.WRONG_SEQUENCE: (
        'The robot does its steps in the wrong order: it moves across first and comes down '
        'only {when}, so the {target} is not pushed.',
        'I can see the gripper travel above the {target} and come down {when} beyond it. The '
        'steps are out of order, and the item stays behind.',
    ),
    EventKind.COLLISION: (
        'The robot collides with {struck} {when} instead of pushing the {target}.',
        'The smooth motion is disrupted {when} when the gripper runs into {struck}.',
    ),
}

SHORT: dict[EventKind, tuple[str, ...]] = {
    EventKind.MISSED: (
        'No, the robot gripper passed the {target} with an offset along the {axis} direction.',
        'No, the robot gripper missed the {target}, off by {distance} along {axis}.',
    ),
    EventKind.WRONG_OBJECT: (
        'No, the robot gripper pushed the wrong object, the {item} instead of the {target}.',
        'No, the robot gripper acted on the {item}, which is not the {target}.',
    ),
    EventKind.WRONG_DESTINATION: (
        'No, the robot gripper pushed the {item} to the wrong place, {rest}.',
        'No, the robot gripper left the {item} {rest}, not {aim}.',
    ),
    EventKind.MISPLACED: (
        'No, the robot gripper left the {item} with an offset along the {axis} direction.',
        'No, the robot gripper pushed the {item} beside its goal, and it ended {rest}.',
    ),
    EventKind.WRONG_SEQUENCE: (
        'No, the order of actions was wrong, the robot gripper moved across before it came down.',
        'No, the robot gripper came down only after it had passed the {target}.',
    ),
}
