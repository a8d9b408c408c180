# SPDX-License-Identifier: Apache-2.0
"""The phrasings of explanations: by event, in two styles; facts stand in braces."""

from __future__ import annotations

from armor_ros.simulation.events import EventKind

OPENINGS = (
    'The robot attempts to {instruction}. ',
    'The task is to {instruction}. ',
    'I see the robot arm trying to {instruction}. ',
    '',
)

OBSERVATIONS: dict[EventKind, tuple[str, ...]] = {
    EventKind.MISSED: (
        'The gripper comes down {direction} and closes {when} without taking hold of the '
        '{target}.',
        'I can see the fingers close on nothing {when}: they are {distance} {direction}, and the '
        '{target} is not lifted.',
        'The robot fails to grasp the {target}. Its fingers meet {when}, {direction}, and the '
        'item stays behind.',
    ),
    EventKind.INCOMPLETE_GRASP: (
        'The gripper reaches the {target} but {when} its fingers stay apart, so that nothing '
        'holds the item.',
        'I can see the fingers stop closing before they touch the {target} {when}; the arm moves '
        'on without it.',
        'The fingers do not close around the {target} {when}, and the grasp remains incomplete.',
    ),
    EventKind.DROPPED: (
        'The {item} slips out of the gripper over the {place} {when} and comes to rest {rest}.',
        'The robot lifts the {item} but loses its grip on it {when}; the {item} falls and ends '
        '{rest}.',
        'I can see the {item} slide out of the closed fingers {when} above the {place}. It ends '
        '{rest}.',
    ),
    EventKind.WRONG_OBJECT: (
        'The robot picks up the {item} instead of the {target} from {origin} {when}.',
        'The gripper lifts the {item} {when}, while the {target} was asked for.',
        'I can see the fingers close on the {item} and raise it {when}, but the task names the '
        '{target}.',
    ),
    EventKind.WRONG_DESTINATION: (
        'The robot puts the {item} down {when}, and it ends {rest}, not {aim}.',
        'The {item} is released {when} at the wrong place: it ends {rest}, although it should be '
        '{aim}.',
        'I can see the robot carry the {item} and let go of it {when} so that it lies {rest}, '
        'although it was to be {aim}.',
    ),
    EventKind.MISPLACED: (
        'The robot lets go of the {item} {when} {distance} {direction_goal}, and it ends {rest} '
        'instead of {aim}.',
        'The {item} is released {when}, but not where it belongs: it is {direction_goal} and '
        'comes to rest {rest}.',
        'I can see the gripper open {when} while the {item} is {distance} {direction_goal}; it '
        'does not stay {aim}.',
    ),
    EventKind.JAMMED: (
        'The {item} comes down on the edge of the {place} {when} and does not go in; it ends '
        '{rest}.',
        'I can see the {item} held {skewed} the hole when it meets the {place} {when}, so that '
        'it jams instead of sinking in.',
        'The {item} is {skewed} the opening of the {place}: it strikes the rim {when} and is not '
        'inserted.',
    ),
    EventKind.TOPPLED: (
        'The {item} tips over {when} and does not stand at the end.',
        'I can see the {item} fall over {when}; it ends lying {rest}.',
    ),
    EventKind.WRONG_SEQUENCE: (
        'The robot does its steps in the wrong order: at {seconds} s the gripper {misorder}, so '
        'the {target} is not carried.',
        'I can see that the gripper {misorder} {when}. The steps are out of order, and the '
        '{target} stays behind.',
    ),
    EventKind.DISPLACED: (
        'The {item} is pushed out of its place {when} and ends {rest}.',
        'The robot disturbs the {item}, which comes to lie {rest} {when}.',
    ),
    EventKind.COLLISION: (
        'The robot, or what it holds, collides with {struck} {when}.',
        'I can see the arm make an unintended forceful contact with {struck} {when}.',
        'The smooth motion is disrupted {when} when the robot runs into {struck}.',
    ),
    EventKind.OPENED: (
        'The {item} opens while the robot handles it {when}: its lid comes away from the box.',
        'I can see the lid of the {item} come open {when}. The item is no longer in the '
        'condition in which it was.',
    ),
    EventKind.MULTI_PICK: (
        'The gripper lifts the {item} and, together with it, the {others} {when}.',
        'I can see more than one item leave {origin} {when}: the {item} and the {others} rise '
        'together.',
    ),
    EventKind.NOTHING_TRANSPORTED: (
        'The robot does not transport anything; the {target} is still {target_rest}.',
        'Nothing is carried: the {target} remains {target_rest}.',
    ),
    EventKind.GOAL_NOT_REACHED: (
        'The robot ends its motion, but the {target} is not {aim}; it ends {target_rest}.',
        'I can see the arm withdraw while the goal is not reached: the {target} ends '
        '{target_rest}, not {aim}.',
    ),
}

MISSES: dict[str, tuple[str, ...]] = {
    'turned': (
        'The gripper comes down on the {target} turned the wrong way and closes {when} without '
        'holding it.',
        'I can see the fingers close {when} at an angle to the {target}, which is not lifted.',
    ),
    'unheld': (
        'The gripper comes down at the {target} and closes {when}, but the item does not come '
        'along.',
        'I can see the fingers close around the place of the {target} {when}, and yet it is not '
        'lifted.',
    ),
}
"""Missed grasps of a gripper that was in place, but turned, or that held nothing all the same."""

CONSEQUENCES = (
    ' At the end the {target} is {target_rest} instead of {aim}.',
    ' Since the {target} should be {aim}, the task is not done.',
    ' This failure prevents the task from being completed, and the {target} is left '
    '{target_rest}.',
    '',
)

SUCCESSES = (
    'The robot {done} as asked.',
    'I see the robot at work without a mishap: it {done}.',
    'The robot {done}; at the end the {target} is {aim}.',
    'The {target} is {aim} at the end, so the task was done: the robot {done}.',
)

MENDED: dict[EventKind, tuple[str, ...]] = {
    EventKind.DROPPED: (
        'The {item} slipped out of the gripper {when}, but at the end it is {aim}, as asked.',
        'The robot lost its grip on the {item} {when}; by luck the {target} is {aim} at the end.',
    ),
    EventKind.MISSED: (
        'The gripper missed the {target} at first {when}, then the robot {done}.',
        'After a failed attempt {when} the robot {done}.',
    ),
    EventKind.COLLISION: (
        'The robot touched {struck} hard {when}, but all the same it {done}.',
        'In spite of a bump against {struck} {when} the robot {done}.',
    ),
}

AHA_FAILURES: dict[EventKind, tuple[str, ...]] = {
    EventKind.MISSED: (
        'No, the robot gripper moved to the desired position with an offset along the {axis} '
        'direction.',
        'No, the robot gripper closed beside the {target}, off by {distance} along {axis}.',
    ),
    EventKind.INCOMPLETE_GRASP: (
        'No, the robot gripper failed to close on the {target}.',
        'No, the robot gripper did not fully close its fingers around the {target}.',
    ),
    EventKind.DROPPED: (
        'No, the {item} slipped out of the robot gripper.',
        'No, the robot gripper lost its grip on the {item} above the {place}.',
    ),
    EventKind.WRONG_OBJECT: (
        'No, the robot gripper took the wrong object, the {item} instead of the {target}.',
        'No, the robot gripper acted on the {item}, which is not the {target}.',
    ),
    EventKind.WRONG_DESTINATION: (
        'No, the robot gripper released the {item} at the wrong place, {rest}.',
        'No, the robot gripper put the {item} {rest}, not {aim}.',
    ),
    EventKind.MISPLACED: (
        'No, the robot gripper released the {item} with an offset along the {axis} direction.',
        'No, the robot gripper let go of the {item} beside its goal, and it ended {rest}.',
    ),
    EventKind.JAMMED: (
        'No, the robot gripper brought the {item} to the {place} {skewed} the hole, and it did '
        'not go in.',
        'No, the {item} jammed on the edge of the {place}.',
    ),
    EventKind.TOPPLED: (
        'No, the {item} fell over and ended {rest}.',
        'No, the robot gripper made the {item} tip over.',
    ),
    EventKind.WRONG_SEQUENCE: (
        'No, the robot gripper did its steps in the wrong sequence: it {misorder}.',
        'No, the order of actions was wrong, the robot gripper {misorder}.',
    ),
    EventKind.DISPLACED: (
        'No, the robot gripper pushed the {item} away, and it ended {rest}.',
        'No, the robot displaced the {item}.',
    ),
    EventKind.COLLISION: (
        'No, the robot gripper collided with {struck}.',
        'No, the robot gripper ran into {struck} on its way.',
    ),
    EventKind.OPENED: (
        'No, the {item} came open in the robot gripper.',
        'No, the robot gripper opened the lid of the {item}.',
    ),
    EventKind.MULTI_PICK: (
        'No, the robot gripper picked up the {others} together with the {item}.',
        'No, the robot gripper lifted more than one item.',
    ),
    EventKind.NOTHING_TRANSPORTED: (
        'No, the robot gripper did not move the {target}.',
        'No, the robot gripper moved without the {target}, which is still {target_rest}.',
    ),
    EventKind.GOAL_NOT_REACHED: (
        'No, the robot gripper did not bring the {target} to its goal.',
        'No, the robot gripper stopped before the {target} was {aim}.',
    ),
}

AHA_MISSES: dict[str, tuple[str, ...]] = {
    'turned': (
        'No, the robot gripper reached the {target} with a rotation offset.',
        'No, the robot gripper was turned the wrong way at the {target}.',
    ),
    'unheld': (
        'No, the robot gripper did not take hold of the {target}.',
        'No, the robot gripper closed on the {target} but did not lift it.',
    ),
}

AHA_SUCCESSES = (
    'Yes, the robot succeeded at the sub-task.',
    'Yes, the robot gripper {done}.',
    'Yes, the {target} is {aim}.',
)
