# SPDX-License-Identifier: Apache-2.0
"""Natural language on what happened, made from the judged events alone."""

from __future__ import annotations

import numpy as np

from armor_ros.errors import ArmorError
from armor_ros.simulation import wording
from armor_ros.simulation.events import Event, EventKind, Judgement
from armor_ros.simulation.tasks.base import Task

STYLES = ('first_person', 'aha')

# By axis: the words for a gripper that is off to the negative and to the positive side.
_DIRECTIONS = (
    ('too close to the robot base', 'too far from the robot base'),
    ('too far to the left', 'too far to the right'),
    ('too low', 'too high'),
)
_AXES = 'xyz'
_TURNED = 0.25
# Metres: a gripper that is off by less was at the right place.
_OFF = 0.015


def explain(
    judgement: Judgement,
    task: Task,
    rng: np.random.Generator,
    *,
    start_ns: int,
    end_ns: int,
    style: str = 'first_person',
) -> str:
    """
    Return what happened in words; ``rng`` chooses the phrasing, the state all facts.

    ``start_ns`` and ``end_ns`` bound what a viewer sees, on the log's clock; the words count time
    from ``start_ns``. ``style`` is 'first_person' (one to three sentences as a watching person
    would write them) or 'aha' (one short sentence after "Yes, " or "No, "). Raises ArmorError on
    another style.
    """
    if style not in STYLES:
        raise ArmorError(f'no style {style!r} of explanations; choose from: {", ".join(STYLES)}')
    cause = judgement.cause
    if cause is None:
        return _explain_success(judgement, task, rng, start_ns, end_ns, style)
    facts = _facts(judgement, task, cause, start_ns, end_ns)
    special = _special_miss(cause)
    if style == 'aha':
        short = (
            wording.AHA_MISSES.get(special)
            or task.short_observations.get(cause.kind)
            or wording.AHA_FAILURES[cause.kind]
        )
        return _choose(rng, short).format(**facts)
    observations = (
        wording.MISSES.get(special)
        or task.observations.get(cause.kind)
        or wording.OBSERVATIONS[cause.kind]
    )
    opening, observation = _choose(rng, wording.OPENINGS), _choose(rng, observations)
    consequence = _choose(rng, wording.CONSEQUENCES)
    about_target = cause.item == task.target
    if facts['target_rest'] == task.aim or _repeats(consequence, observation, about_target):
        consequence = ''
    return (opening + observation + consequence).format(**facts)


def _repeats(consequence: str, observation: str, about_target: bool) -> bool:
    """Tell whether a sentence would say once more where the named item ended."""
    told = '{target_rest}' in observation or ('{rest}' in observation and about_target)
    return told and '{target_rest}' in consequence


def _special_miss(cause: Event) -> str:
    """Return 'turned' or 'unheld' for a missed grasp that was not off to one side, else ''."""
    if cause.kind is not EventKind.MISSED or max(np.abs(cause.offset)) >= _OFF:
        return ''
    return 'turned' if abs(cause.turn) > _TURNED else 'unheld'


def _explain_success(
    judgement: Judgement,
    task: Task,
    rng: np.random.Generator,
    start_ns: int,
    end_ns: int,
    style: str,
) -> str:
    if style == 'aha':
        words = {'target': task.named.name, 'done': task.done, 'aim': task.aim}
        return _choose(rng, wording.AHA_SUCCESSES).format(**words)
    for event in judgement.events:  # the earliest mishap that came to nothing
        if event.kind in wording.MENDED:
            facts = _facts(judgement, task, event, start_ns, end_ns)
            return _choose(rng, wording.MENDED[event.kind]).format(**facts)
    words = {'target': task.named.name, 'done': task.done, 'aim': task.aim}
    return _choose(rng, wording.SUCCESSES).format(**words)


def _choose(rng: np.random.Generator, phrasings: tuple[str, ...]) -> str:
    return phrasings[int(rng.integers(len(phrasings)))]


def _facts(
    judgement: Judgement, task: Task, event: Event, start_ns: int, end_ns: int
) -> dict[str, str]:
    axis = int(np.argmax(np.abs(event.offset)))
    direction = _DIRECTIONS[axis][event.offset[axis] > 0]
    seconds = max(0, event.time_ns - start_ns) / 1e9
    high = event.kind is EventKind.WRONG_SEQUENCE and event.offset == (0.0, 0.0, 0.0)
    return {
        'instruction': task.instruction,
        'target': task.named.name,
        'origin': task.origin,
        'aim': task.aim,
        'done': task.done,
        'item': task.items[event.item].name,
        'others': ' and the '.join(task.items[i].name for i in event.others),
        'place': event.place,
        'rest': task.at(event.came_to_rest),
        'target_rest': task.at(judgement.target_rest),
        'seconds': f'{seconds:.1f}',
        'when': _when(event, start_ns, end_ns),
        'struck': f'the {event.place if event.furniture else task.items[event.item].name}',
        'axis': _AXES[axis],
        'distance': f'{100 * abs(event.offset[axis]):.0f} cm',
        'direction': direction,
        'direction_goal': direction,
        'skewed': 'turned against' if abs(event.turn) > _TURNED else 'beside',
        'misorder': 'opened before the item was moved'
        if high
        else 'closed before it had come down',
    }


def _when(event: Event, start_ns: int, end_ns: int) -> str:
    seconds = max(0, event.time_ns - start_ns) / 1e9
    fraction = (event.time_ns - start_ns) / max(1, end_ns - start_ns)
    if 0.45 <= fraction <= 0.55:
        return f'about halfway ({seconds:.1f} s after the start)'
    return f'{seconds:.1f} s after the start'
