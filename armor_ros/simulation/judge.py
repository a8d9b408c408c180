# SPDX-License-Identifier: Apache-2.0
"""The judge: what happened in an episode, read from the simulator's state and nothing else."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from armor_ros.simulation.scene import (
    TOTE_CENTERS,
    TOTE_HALF,
    Scene,
    tote_name,
)
from armor_ros.simulation.statelog import StateLog

TABLE = 'table'
FLOOR = 'floor'
GRIPPER = 'gripper'

# Metres: an item is lifted when it rose by so much in the grip; its slip begins when it moved by
# so much within the grip; it is lost when it is so far from where it was held.
_LIFT = 0.03
_SLIP = 0.012
_LOST = 0.04
# Newtons: less is a touch, not a collision.
_BLOW = 25.0
# Samples: shorter breaks of a hold are bridged, shorter holds are not counted.
_BRIDGE = 4
_SHORTEST_HOLD = 4


class EventKind(str, enum.Enum):
    """What can happen; the values stand in label files."""

    LIFTED = 'lifted'
    MISSED = 'missed_grasp'
    DROPPED = 'dropped'
    PLACED = 'placed'
    WRONG_OBJECT = 'wrong_object'
    WRONG_DESTINATION = 'wrong_destination'
    DISPLACED = 'displaced'
    COLLISION = 'collision'
    NOTHING_TRANSPORTED = 'nothing_transported'


@dataclass(frozen=True, slots=True)
class Event:
    """
    One event: what, when (nanoseconds of the log's clock), which item, and where.

    ``item`` indexes the scene's items. ``place`` is the tote ('left bin'), 'table', 'floor' or
    'gripper' in or over which it happened; ``came_to_rest`` where the item was at the end, which
    for a drop or a release may be another place. ``position`` is the item's, metres.
    ``furniture`` is True for a collision with a tote or the table; ``item`` is the named one then.
    """

    kind: EventKind
    time_ns: int
    item: int
    place: str
    came_to_rest: str
    position: tuple[float, float, float]
    furniture: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """
    The outcome, the earliest event that caused the failure (None on success), all events.

    ``target_rest`` is where the named item was at the end.
    """

    success: bool
    cause: Event | None
    events: tuple[Event, ...]
    target_rest: str


def judge(log: StateLog, scene: Scene) -> Judgement:
    """
    Judge a transport by the log of its states.

    Success means: at the end the named item lies in the destination, and no other item lies
    elsewhere than at the beginning.
    """
    events = sorted(_all_events(log, scene), key=lambda event: event.time_ns)
    first = [_place(log.items[0, i]) for i in range(len(scene.items))]
    last = [_final_place(log, i) for i in range(len(scene.items))]
    others_rest = all(first[i] == last[i] for i in range(len(scene.items)) if i != scene.target)
    success = last[scene.target] == tote_name(scene.destination) and others_rest
    cause = None if success else _cause(events, log, scene)
    return Judgement(success, cause, tuple(events), last[scene.target])


def _all_events(log: StateLog, scene: Scene) -> list[Event]:
    events: list[Event] = []
    lifts: list[tuple[int, int]] = []
    for item in range(len(scene.items)):
        for begin, end in _holds(log, item):
            found = _hold_events(log, scene, item, begin, end)
            if found:
                lifts.append((begin, end))
                events += found
    events += _missed_grasps(log, scene, lifts)
    events += _collisions(log, scene)
    lifted = {event.item for event in events if event.kind is EventKind.LIFTED}
    for item in range(len(scene.items)):
        if item not in lifted:
            events += _displacement(log, item)
    return events


def _holds(log: StateLog, item: int) -> list[tuple[int, int]]:
    """Return (first, last) samples of the times in which both fingers touched an item."""
    both: npt.NDArray[np.bool_] = log.touched[:, item, 0] & log.touched[:, item, 1]
    runs: list[tuple[int, int]] = []
    for begin, end in _runs(both):
        if runs and begin - runs[-1][1] <= _BRIDGE:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((begin, end))
    return [(begin, end) for begin, end in runs if end - begin + 1 >= _SHORTEST_HOLD]


def _hold_events(log: StateLog, scene: Scene, item: int, begin: int, end: int) -> list[Event]:
    """Return the lift, and how it ended; nothing for a hold that never lifted the item."""
    rise = log.items[begin : end + 1, item, 2] - log.items[begin, item, 2]
    risen = np.flatnonzero(rise > _LIFT)
    if not len(risen):
        return []
    lift = begin + int(risen[0])
    events = [_event(log, EventKind.LIFTED, lift, item)]
    if item != scene.target:
        events.append(_event(log, EventKind.WRONG_OBJECT, lift, item))
    if end == len(log) - 1:
        return events
    opened = np.flatnonzero(~log.closing[lift:])
    release = lift + int(opened[0]) if len(opened) else len(log) - 1
    if _moved(log, item, lift, release - 1) > _LOST:
        return [*events, _event(log, EventKind.DROPPED, _slip_begin(log, item, lift, end), item)]
    rest = _final_place(log, item)
    if item == scene.target and rest != tote_name(scene.destination):
        return [*events, _event(log, EventKind.WRONG_DESTINATION, release, item)]
    return [*events, _event(log, EventKind.PLACED, release, item)]


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


def _missed_grasps(log: StateLog, scene: Scene, lifts: list[tuple[int, int]]) -> list[Event]:
    """Return the closings of the gripper that lifted nothing, at the time the fingers met."""
    events = []
    for begin, end in _runs(log.closing):
        if any(first <= end and last >= begin for first, last in lifts):
            continue
        smallest = log.width[begin : end + 1].min()
        met = begin + int(np.flatnonzero(log.width[begin : end + 1] <= smallest + 0.002)[0])
        events.append(_event(log, EventKind.MISSED, met, scene.target))
    return events


def _collisions(log: StateLog, scene: Scene) -> list[Event]:
    """Return the moments at which the robot began to bear hard on its surroundings."""
    events = []
    for begin, end in _runs(log.blow > _BLOW):
        struck = log.struck[begin + int(np.argmax(log.blow[begin : end + 1]))]
        item = scene.target if struck < 0 else int(struck)
        event = _event(log, EventKind.COLLISION, begin, item)
        place = event.place if struck >= 0 else _place(log.tcp[begin])
        events.append(replace(event, place=place, furniture=bool(struck < 0)))
    return events


def _displacement(log: StateLog, item: int) -> list[Event]:
    """Return the moment at which an item that was never lifted came to lie elsewhere."""
    start, rest = _place(log.items[0, item]), _final_place(log, item)
    if start == rest:
        return []
    elsewhere = np.array([_place(position) != start for position in log.items[:, item]])
    stayed = np.flatnonzero(~elsewhere)
    left = min(int(stayed[-1]) + 1, len(log) - 1)
    return [_event(log, EventKind.DISPLACED, left, item)]


def _cause(events: list[Event], log: StateLog, scene: Scene) -> Event:
    """
    Return the earliest event without which the task would have succeeded.

    A missed grasp or a collision after which an item was lifted all the same is no cause.
    """
    last_lift = max((e.time_ns for e in events if e.kind is EventKind.LIFTED), default=-1)
    for event in events:
        made_good = (
            event.kind in (EventKind.MISSED, EventKind.COLLISION) and event.time_ns < last_lift
        )
        if event.kind not in (EventKind.LIFTED, EventKind.PLACED) and not made_good:
            return event
    return _event(log, EventKind.NOTHING_TRANSPORTED, len(log) - 1, scene.target)


def _event(log: StateLog, kind: EventKind, sample: int, item: int) -> Event:
    position = log.items[sample, item]
    return Event(
        kind=kind,
        time_ns=int(log.times_ns[sample]),
        item=item,
        place=_place(position),
        came_to_rest=_final_place(log, item),
        position=(float(position[0]), float(position[1]), float(position[2])),
    )


def _final_place(log: StateLog, item: int) -> str:
    if log.touched[-1, item].all() and log.closing[-1]:
        return GRIPPER
    return _place(log.items[-1, item])


def _place(position: npt.NDArray[np.float64]) -> str:
    """Return the tote above whose floor a point is, else 'table', or 'floor' when below it."""
    if position[2] < -0.05:
        return FLOOR
    for tote, center in enumerate(TOTE_CENTERS):
        if all(abs(position[k] - center[k]) <= TOTE_HALF[k] for k in range(2)):
            return tote_name(tote)
    return TABLE


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (first, last) indices of the stretches of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
