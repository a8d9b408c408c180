# SPDX-License-Identifier: Apache-2.0
"""One sentence of natural language on what happened, made from the judged events alone."""

from __future__ import annotations

import numpy as np

from armor_ros.simulation.judge import FLOOR, TABLE, Event, EventKind, Judgement
from armor_ros.simulation.scene import Scene, tote_name

_SENTENCES: dict[EventKind, tuple[str, ...]] = {
    EventKind.MISSED: (
        'The gripper closed beside the {target} in the {source} without holding it, so the '
        '{target} was never lifted.',
        'The robot failed to grasp the {target}: its fingers closed on nothing {when}, and the '
        'item stayed {target_rest}.',
        'I see the gripper come down at the {source} and close {when} without taking hold of the '
        '{target}, which is not lifted.',
    ),
    EventKind.DROPPED: (
        'The {item} slipped out of the gripper over the {place} {when} and came to rest {rest}.',
        'The robot lifted the {item} but lost its grip on it {when}; the {item} fell and ended '
        '{rest}.',
        'I see the {item} slide out of the fingers {when} above the {place}; it ends {rest} '
        'instead of in the {destination}.',
    ),
    EventKind.WRONG_OBJECT: (
        'The robot picked up the {item} instead of the {target} from the {source} {when}.',
        'The wrong object was taken: the gripper lifted the {item} {when}, while the {target} was '
        'asked for.',
        'I see the gripper lift the {item} out of the {source}, but the task names the {target}.',
    ),
    EventKind.WRONG_DESTINATION: (
        'The robot put the {item} down {rest} {when} instead of in the {destination}.',
        'The {item} was released at the wrong place: it ended {rest}, not in the {destination}.',
        'I see the robot carry the {item} and let go of it {when} so that it lies {rest}, '
        'although the {destination} was its goal.',
    ),
    EventKind.DISPLACED: (
        'The {item} was pushed out of its place {when} and ended {rest}.',
        'The robot disturbed the {item}, which came to lie {rest} {when}.',
    ),
    EventKind.COLLISION: (
        'The robot collided with {struck} {when}, and the {target} did not get to the '
        '{destination}.',
        'I see the gripper run into {struck} {when}; the {target} ends {target_rest}.',
    ),
    EventKind.NOTHING_TRANSPORTED: (
        'The robot did not transport anything; the {target} is still {target_rest}.',
        'Nothing was carried: the {target} remained {target_rest}.',
    ),
}

_SUCCESS = (
    'The robot picked up the {target} from the {source} and placed it in the {destination}.',
    'The {target} was moved from the {source} to the {destination} as asked.',
    'I see the robot grasp the {target}, carry it over and leave it in the {destination}.',
)

_SUCCESS_AFTER_DROP = (
    'The {target} slipped out of the gripper {when}, but it fell into the {destination}, where it '
    'was to go.',
    'The robot lost its grip on the {target} {when}; by luck it landed in the {destination}.',
)
_SUCCESS_AFTER_MISS = (
    'The gripper missed the {target} at first, then grasped it and placed it in the '
    '{destination}.',
    'After a failed attempt the robot took the {target} from the {source} and put it in the '
    '{destination}.',
)


def explain(
    judgement: Judgement,
    scene: Scene,
    rng: np.random.Generator,
    *,
    start_ns: int,
    end_ns: int,
) -> str:
    """
    Return one sentence on the outcome; ``rng`` chooses the phrasing, the state all facts.

    ``start_ns`` and ``end_ns`` bound the task on the log's clock.
    """
    target = scene.items[scene.target].name
    facts = {
        'target': target,
        'source': tote_name(scene.source),
        'destination': tote_name(scene.destination),
    }
    cause = judgement.cause
    if cause is None:
        return _explain_success(judgement, facts, rng, start_ns, end_ns)
    facts |= {
        'item': scene.items[cause.item].name,
        'place': cause.place,
        'rest': _where(cause.came_to_rest),
        'when': _when(cause, start_ns, end_ns),
        'struck': f'the {cause.place}'
        if cause.furniture
        else f'the {scene.items[cause.item].name}',
        'target_rest': _where(judgement.target_rest),
    }
    return str(rng.choice(_SENTENCES[cause.kind])).format(**facts)


def _explain_success(
    judgement: Judgement,
    facts: dict[str, str],
    rng: np.random.Generator,
    start_ns: int,
    end_ns: int,
) -> str:
    for kind, sentences in (
        (EventKind.DROPPED, _SUCCESS_AFTER_DROP),
        (EventKind.MISSED, _SUCCESS_AFTER_MISS),
    ):
        for event in judgement.events:
            if event.kind is kind:
                when = _when(event, start_ns, end_ns)
                return str(rng.choice(sentences)).format(**facts, when=when)
    return str(rng.choice(_SUCCESS)).format(**facts)


def _when(event: Event, start_ns: int, end_ns: int) -> str:
    seconds = max(0, event.time_ns - start_ns) / 1e9
    fraction = (event.time_ns - start_ns) / max(1, end_ns - start_ns)
    if 0.45 <= fraction <= 0.55:
        return f'about halfway ({seconds:.1f} s after the start)'
    return f'{seconds:.1f} s after the start'


def _where(place: str) -> str:
    if place == TABLE:
        return 'on the table'
    if place == FLOOR:
        return 'on the floor'
    return f'in the {place}'
