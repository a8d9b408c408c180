# SPDX-License-Identifier: Apache-2.0
"""The judge: what happened in an episode, read from the simulator's state and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from armor_ros.simulation.events import HARMLESS, Event, EventKind, Judgement
from armor_ros.simulation.scene import SHAPES
from armor_ros.simulation.statelog import StateLog, runs
from armor_ros.simulation.tasks.base import Task

# Metres: an item is lifted when it rose by so much in the grip; its slip begins when it moved by
# so much within the grip; it is lost when it is so far from where it was held, or still moves by
# so much from one sample to the next.
_LIFT = 0.03
_SLIP = 0.012
_LOST = 0.04
_SLIDING = 0.003
# Newtons: less is a touch, not a collision.
_BLOW = 25.0
# Samples: shorter breaks of a hold are bridged, shorter holds are not counted.
_BRIDGE = 4
_SHORTEST_HOLD = 4
# Metres: closed so far above the item, the fingers did so too early; let go of so high and so
# near to where it was taken, the item was not carried.
_HIGH = 0.06
_NOT_CARRIED = 0.06
# Metres: fingers that are further apart than this have not met.
_EMPTY = 0.012
# Samples: a touch so shortly before the item begins to slip is what knocked it, and one that is
# seen so shortly after, as a knock takes no time.
_BUMP = 15
_BUMP_AFTER = 3
# Samples (one second): where an item was before the fingers came near it.
_BEFORE = 50
# Samples: a lid that is open for longer counts even if it falls shut again.
_SPILL = 25
# Radians: a lid that is open further than this does not count as closed.
_LID_OPEN = 0.5


def judge(log: StateLog, task: Task) -> Judgement:
    """Judge an episode by the log of its states: the task's own condition, and all events."""
    events = sorted(_all_events(log, task), key=lambda event: event.time_ns)
    success = task.succeeded(log) and not _opened(log, task)
    cause = None if success else _cause(events, log, task)
    return Judgement(success, cause, tuple(events), task.rest_of(log, task.target))


def _all_events(log: StateLog, task: Task) -> list[Event]:
    events: list[Event] = []
    lifts: list[tuple[int, int]] = []
    for item in range(len(task.items)):
        for begin, end in _holds(log, item):
            found = _hold_events(log, task, item, begin, end)
            if found:
                lifts.append((begin, end))
                events += found
    events += _collisions(log, task)
    events += _opened(log, task)
    events += task.own_events(log)
    if not task.lifts:
        return events
    events += _empty_closings(log, task, lifts)
    lifted = {item for event in events for item in _taken_up(event)}
    for item in range(len(task.items)):
        if item not in lifted:
            events += _displacement(log, task, item)
    return events


def _taken_up(event: Event) -> tuple[int, ...]:
    if event.kind is EventKind.MULTI_PICK:
        return event.others
    return (event.item,) if event.kind is EventKind.LIFTED else ()


def _holds(log: StateLog, item: int) -> list[tuple[int, int]]:
    """Return (first, last) samples of the times in which both fingers touched an item."""
    both: npt.NDArray[np.bool_] = log.touched[:, item, 0] & log.touched[:, item, 1]
    holds: list[tuple[int, int]] = []
    for begin, end in runs(both):
        if holds and begin - holds[-1][1] <= _BRIDGE:
            holds[-1] = (holds[-1][0], end)
        else:
            holds.append((begin, end))
    return [(begin, end) for begin, end in holds if end - begin + 1 >= _SHORTEST_HOLD]


def _hold_events(log: StateLog, task: Task, item: int, begin: int, end: int) -> list[Event]:
    """Return the lift, and how it ended; nothing for a hold that never lifted the item."""
    rise = log.items[begin : end + 1, item, 2] - log.items[begin, item, 2]
    risen = np.flatnonzero(rise > _LIFT)
    if not len(risen):
        return []
    lift = begin + int(risen[0])
    events = [task.event_at(log, EventKind.LIFTED, lift, item)]
    if item != task.target:
        events.append(task.event_at(log, EventKind.WRONG_OBJECT, lift, item))
    events += _multi_pick(log, task, item, lift, end)
    if end == len(log) - 1:
        return events
    opened = np.flatnonzero(~log.closing[lift:])
    release = lift + int(opened[0]) if len(opened) else len(log) - 1
    if _lost(log, item, lift, release - 1):
        slip = _slip_begin(log, item, lift, end)
        bumps = _bump(log, task, item, max(lift, slip - _BUMP), slip + _BUMP_AFTER)
        dropped = task.event_at(log, EventKind.DROPPED, slip, item)
        times = [event.time_ns for event in (dropped, *bumps)]
        return [*events, *bumps, replace(dropped, time_ns=max(times))]
    return [*events, _release(log, task, item, begin, release)]


def _release(log: StateLog, task: Task, item: int, begin: int, release: int) -> Event:
    """Return what the opening of the fingers around an item amounts to."""
    kind = task.release_kind(log, item, release)
    offset = (0.0, 0.0, 0.0)
    if kind is not EventKind.PLACED and item == task.target:
        way = log.items[release - 1, item] - log.items[begin, item]
        if way[2] > _HIGH and np.hypot(way[0], way[1]) < _NOT_CARRIED:
            kind = EventKind.WRONG_SEQUENCE
        else:
            offset = task.goal_offset(log, release)
    return replace(task.event_at(log, kind, release, item), offset=offset)


def _bump(log: StateLog, task: Task, item: int, begin: int, end: int) -> list[Event]:
    """Return the touch, between two samples, by which a held item was knocked off its hold."""
    others = log.meets[begin : end + 1, item]
    touching = np.flatnonzero(log.leans[begin : end + 1, item] | others.any(axis=1))
    if not len(touching):
        return []
    sample = begin + int(touching[0])
    struck = np.flatnonzero(log.meets[sample, item])
    event = task.event_at(log, EventKind.COLLISION, sample, item)
    if len(struck):
        return [replace(event, item=int(struck[0]), others=(item,))]
    return [replace(event, furniture=True)]


def _multi_pick(log: StateLog, task: Task, item: int, lift: int, end: int) -> list[Event]:
    """Return the moment at which a second item rose with the one that is held."""
    rise = log.items[lift : end + 1, :, 2] - log.items[0, :, 2]
    near = np.linalg.norm(log.items[lift : end + 1] - log.tcp[lift : end + 1, None], axis=2) < 0.12
    along = (rise > _LIFT) & near
    along[:, item] = False
    if item != task.target:  # told once, for the first of the two
        along[:, task.target] = False
    firsts = np.flatnonzero(along.any(axis=1))
    if not len(firsts):
        return []
    others = tuple(int(i) for i in np.flatnonzero(along[firsts[0]]))
    event = task.event_at(log, EventKind.MULTI_PICK, lift + int(firsts[0]), item)
    return [replace(event, others=others)]


def _lost(log: StateLog, item: int, lift: int, sample: int) -> bool:
    """
    Tell whether a held item left the fingers by ``sample``, the last at which they were closed.

    One that was on its way out when they opened did. One whose lid opens may move in them.
    """
    if np.abs(log.lids[lift : sample + 1, item]).max() > _LID_OPEN:
        return not log.touched[sample, item].any()
    moved = _moved(log, item, lift, sample)
    going = _moved(log, item, sample - 1, sample) > _SLIDING or not log.touched[sample, item].any()
    return moved > _LOST or (moved > _SLIP and going)


def _slip_begin(log: StateLog, item: int, lift: int, end: int) -> int:
    """Return the sample at which the item first moved within the fingers, before it was lost."""
    for sample in range(lift, end + 1):
        if _moved(log, item, lift, sample) > _SLIP:
            return sample
    return end


def _moved(log: StateLog, item: int, since: int, sample: int) -> float:
    """Return how far an item moved relative to the fingertips between two samples, metres."""
    offsets = log.items[[since, sample], item] - log.tcp[[since, sample]]
    return float(np.linalg.norm(offsets[1] - offsets[0]))


def _empty_closings(log: StateLog, task: Task, lifts: list[tuple[int, int]]) -> list[Event]:
    """
    Return the closings of the gripper that lifted nothing, at the time the fingers met.

    Fingers that closed high above the item and then came down on it did so in the wrong order;
    fingers that stayed apart with nothing between them did not close far enough.
    """
    events = []
    for begin, end in runs(log.closing):
        if any(first <= end and last >= begin for first, last in lifts):
            continue
        smallest = log.width[begin : end + 1].min()
        met = begin + int(np.flatnonzero(log.width[begin : end + 1] <= smallest + 0.002)[0])
        way = log.tcp[begin : end + 1] - log.items[begin, task.target]
        over = way[np.hypot(way[:, 0], way[:, 1]) < _NOT_CARRIED, 2]
        early = way[0, 2] > _HIGH and len(over) and over.min() < way[0, 2] - _HIGH
        kind = EventKind.WRONG_SEQUENCE if early else EventKind.MISSED
        if smallest > _EMPTY and not log.touched[begin : end + 1].all(axis=2).any():
            kind = EventKind.INCOMPLETE_GRASP
        event = task.event_at(log, kind, met)
        offset, turn = _misalignment(log, task, begin)
        events.append(replace(event, offset=offset, turn=turn))
    return events


def _misalignment(
    log: StateLog, task: Task, sample: int
) -> tuple[tuple[float, float, float], float]:
    """Return by how much the gripper was off the grasp of the named item when it closed."""
    before = max(0, sample - _BEFORE)
    shape = SHAPES[task.named.shape]
    grasp = log.items[before, task.target] + [0.0, 0.0, shape.grasp - shape.height / 2]
    off = log.tcp[sample] - grasp
    turn = 0.0 if shape.round else log.yaw[sample] - log.item_yaw(task.target, before)
    wrapped = (turn + np.pi / 2) % np.pi - np.pi / 2
    return (float(off[0]), float(off[1]), float(off[2])), float(wrapped)


def _collisions(log: StateLog, task: Task) -> list[Event]:
    """Return the moments at which the robot began to bear hard on its surroundings."""
    events = []
    for begin, end in runs(log.blow > _BLOW):
        struck = log.struck[begin + int(np.argmax(log.blow[begin : end + 1]))]
        item = task.target if struck < 0 else int(struck)
        event = task.event_at(log, EventKind.COLLISION, begin, item)
        place = event.place if struck >= 0 else task.place_of(log.tcp[begin])
        event = replace(event, place=place, furniture=bool(struck < 0))
        told = task.hard_contact(log, begin, event)
        if told is not None:
            events.append(told)
    return events


def _opened(log: StateLog, task: Task) -> list[Event]:
    """Return the moments at which lids opened that stayed open, or long enough to spill."""
    events = []
    opened = np.abs(log.lids) > _LID_OPEN
    for item in np.flatnonzero(opened[-1] | (opened.sum(axis=0) > _SPILL)):
        first = int(np.flatnonzero(opened[:, item])[0])
        events.append(task.event_at(log, EventKind.OPENED, first, int(item)))
    return events


def _displacement(log: StateLog, task: Task, item: int) -> list[Event]:
    """Return the moment at which an item that was never lifted came to lie elsewhere."""
    start, rest = task.place_of(log.items[0, item]), task.rest_of(log, item)
    if start == rest:
        return []
    elsewhere = np.array([task.place_of(position) != start for position in log.items[:, item]])
    stayed = np.flatnonzero(~elsewhere)
    left = min(int(stayed[-1]) + 1, len(log) - 1)
    return [task.event_at(log, EventKind.DISPLACED, left, item)]


def _cause(events: list[Event], log: StateLog, task: Task) -> Event:
    """
    Return the earliest event without which the task would have succeeded.

    A missed grasp or a collision after which an item was lifted all the same is no cause.
    """
    held = (EventKind.LIFTED, EventKind.MOVED)
    last_lift = max((e.time_ns for e in events if e.kind in held), default=-1)
    mendable = (
        EventKind.MISSED,
        EventKind.INCOMPLETE_GRASP,
        EventKind.COLLISION,
        EventKind.WRONG_SEQUENCE,
    )
    for event in events:
        made_good = event.kind in mendable and event.time_ns < last_lift
        if event.kind not in HARMLESS and not made_good:
            return event
    last = task.event_at(log, task.shortfall, len(log) - 1)
    return replace(last, offset=task.goal_offset(log, len(log) - 1))
