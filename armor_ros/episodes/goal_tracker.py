# SPDX-License-Identifier: Apache-2.0
"""The goals of actions, followed through their status arrays, become tasks."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.stamp_clock import TOLERANCE_NS
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus, clean_task_id
from armor_ros.episodes.task_registry import TaskRegistry

_UNKNOWN = 0
_ACTIVE = frozenset({1, 2, 3})  # ACCEPTED, EXECUTING, CANCELING
_TERMINAL = frozenset({4, 5, 6})  # SUCCEEDED, CANCELED, ABORTED
_STATUS_SUFFIX = '/_action/status'
# Status arrays in a row that must lack an active goal before it counts as gone.
_MISSES = 2
# How long after a goal's END an array that still shows it active may be one that was overtaken.
_OVERTAKEN_NS = 500_000_000

# Action and goal id.
_Key = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class GoalState:
    """
    One entry of ``action_msgs/GoalStatusArray``.

    ``goal_id`` is the UUID's 16 bytes, ``stamp_ns`` the instant at which the goal was accepted,
    ``status`` the number as it came.
    """

    goal_id: bytes
    stamp_ns: int
    status: int


class _Phase(enum.Enum):
    TASK = enum.auto()  # active, and a task
    NESTED = enum.auto()  # active inside another action's goal: no task
    ENDED = enum.auto()
    HISTORY = enum.auto()  # had ended before anything was seen of it


@dataclass(slots=True)
class _Goal:
    action: str
    task_id: str
    stamp_ns: int
    seen_ns: int
    phase: _Phase
    # The clock went back to before this goal's end: it has yet to happen again.
    again: bool = False
    ended_ns: int = 0
    misses: int = 0


class GoalTracker:
    """
    Turns status arrays and task events into the START and END events that take effect.

    The first active state of a goal is its START at the stamp of the goal, the first terminal one
    its END at the time of receipt; a goal first seen terminal has both. Goals that are already
    terminal in the first array of their action are history, except those accepted at or after
    ``since_ns`` (when the monitor began to watch; None: no exception). After its END a goal
    that is active again is a new run (a bag that loops), once the clock went back or half a second
    has passed; sooner it is an array that was overtaken. An active goal that the action server no
    longer lists (it was restarted) ends with status UNKNOWN.

    With ``outermost_only`` a goal is nested, and no task, when it was accepted while a task of
    another action was running. Task ids are ``<action>/<uuid in hex>``. At most ``goal_memory``
    goals are remembered; a goal that has been forgotten counts as history when it appears again.
    """

    def __init__(self, settings: EpisodeSettings, since_ns: int | None = None) -> None:
        self._settings = settings
        self._since_ns = since_ns
        self._registry = TaskRegistry(settings)
        self._goals: OrderedDict[_Key, _Goal] = OrderedDict()
        self._active: dict[_Key, _Goal] = {}
        self._seen_actions: set[str] = set()
        self._forgotten_until_ns: dict[str, int] = {}
        self._now_ns: int | None = None
        self._counters: Counter[str] = Counter()

    @property
    def open_tasks(self) -> tuple[str, ...]:
        """Ids of tasks that have started and not ended, oldest first."""
        return self._registry.open_tasks

    def counters(self) -> dict[str, int]:
        """Return what was counted: tasks started and ended, and everything that was ignored."""
        return dict(self._registry.counters + self._counters)

    def reset(self) -> None:
        """Forget all goals and tasks; counters stay."""
        self._registry.clear()
        self._goals.clear()
        self._active.clear()
        self._seen_actions.clear()
        self._forgotten_until_ns.clear()
        self._now_ns = None

    def advance(self, now_ns: int) -> list[TaskEvent]:
        """Follow the receive clock; return the ENDs of tasks that have been open for too long."""
        if self._now_ns is not None and now_ns < self._now_ns - TOLERANCE_NS:
            self._clock_back(now_ns)
            self._now_ns = now_ns
        self._now_ns = now_ns if self._now_ns is None else max(self._now_ns, now_ns)
        return self._registry.end_long(self._now_ns)

    def update_event(self, event: TaskEvent, receive_ns: int | None = None) -> list[TaskEvent]:
        """
        Take a START or END, and return the events that take effect.

        ``receive_ns`` None means the event's own stamp; a zero stamp means ``receive_ns``.
        Raises ArmorError for a phase that is none.
        """
        receive_ns = event.stamp_ns if receive_ns is None else receive_ns
        return [*self.advance(receive_ns), *self._registry.take(event, receive_ns)]

    def update_status(
        self, action: str, statuses: Sequence[GoalState], receive_ns: int
    ) -> list[TaskEvent]:
        """
        Take one status array, and return the events that take effect.

        ``action`` is the action's name, or its status topic.
        """
        action = action.removesuffix(_STATUS_SUFFIX)
        events = self.advance(receive_ns)
        if not self._settings.watches(action):
            self._counters['ignored_actions'] += 1
            return events
        first = action not in self._seen_actions
        self._seen_actions.add(action)
        memory = self._settings.goal_memory
        for state in statuses:
            if state.status in _ACTIVE:
                events += self._see_active(action, state, receive_ns)
            elif state.status in _TERMINAL:
                events += self._see_terminal(action, state, receive_ns, first)
            elif state.status != _UNKNOWN:
                self._counters['ignored_statuses'] += 1
            if len(self._goals) >= 2 * memory:
                events += self._forget(memory, receive_ns)
        events += self._end_vanished(action, statuses, receive_ns)
        return events + self._forget(memory, receive_ns)

    def _see_active(self, action: str, state: GoalState, now_ns: int) -> list[TaskEvent]:
        goal = self._recall(action, state, now_ns)
        if goal is None or goal.phase is _Phase.HISTORY:
            return self._begin(action, state, now_ns)
        if goal.phase is _Phase.ENDED:
            if goal.again or now_ns - goal.ended_ns >= _OVERTAKEN_NS:
                return self._begin(action, state, now_ns)
            self._counters['overtaken_statuses'] += 1
        return []

    def _see_terminal(
        self, action: str, state: GoalState, now_ns: int, first: bool
    ) -> list[TaskEvent]:
        key = (action, bytes(state.goal_id))
        goal = self._recall(action, state, now_ns)
        if goal is None and state.stamp_ns <= self._forgotten_until_ns.get(action, -1):
            return []
        if goal is None and first and self._is_older(state):
            self._counters['history_goals'] += 1
            self._remember(action, state, now_ns, _Phase.HISTORY)
            return []
        events: list[TaskEvent] = []
        if goal is None or (goal.again and not first):
            events += self._begin(action, state, now_ns)
        self._goals[key].again = False
        if key in self._active:
            events += self._end(key, TaskStatus(state.status), now_ns)
        return events

    def _is_older(self, state: GoalState) -> bool:
        return self._since_ns is None or state.stamp_ns < self._since_ns

    def _begin(self, action: str, state: GoalState, now_ns: int) -> list[TaskEvent]:
        stamp_ns = state.stamp_ns or now_ns
        if self._settings.outermost_only and self._runs_inside_another(action, stamp_ns):
            self._counters['nested_goals'] += 1
            self._remember(action, state, now_ns, _Phase.NESTED)
            return []
        goal = self._remember(action, state, now_ns, _Phase.TASK)
        event = TaskEvent(
            phase=TaskPhase.START,
            task_id=goal.task_id,
            stamp_ns=stamp_ns,
            name=action,
            instruction=self._settings.instruction_for(action),
        )
        return self._registry.take(event, now_ns)

    def _runs_inside_another(self, action: str, stamp_ns: int) -> bool:
        running = self._registry.open_tasks
        return any(
            goal.phase is _Phase.TASK
            and goal.action != action
            and goal.stamp_ns <= stamp_ns
            and goal.task_id in running
            for goal in self._active.values()
        )

    def _end(
        self, key: _Key, status: TaskStatus, now_ns: int, message: str = ''
    ) -> list[TaskEvent]:
        goal = self._active.pop(key)
        was_task = goal.phase is _Phase.TASK
        goal.phase, goal.ended_ns = _Phase.ENDED, now_ns
        if not was_task:
            return []
        event = TaskEvent(TaskPhase.END, goal.task_id, now_ns, status=status, message=message)
        return self._registry.take(event, now_ns)

    def _end_vanished(
        self, action: str, statuses: Sequence[GoalState], now_ns: int
    ) -> list[TaskEvent]:
        listed = {bytes(state.goal_id) for state in statuses} if self._active else set()
        events: list[TaskEvent] = []
        for key, goal in list(self._active.items()):
            if goal.action != action:
                continue
            goal.misses = 0 if key[1] in listed else goal.misses + 1
            if goal.misses >= _MISSES and now_ns - goal.seen_ns > TOLERANCE_NS:
                self._counters['vanished_goals'] += 1
                message = 'the action server no longer lists this goal'
                events += self._end(key, TaskStatus.UNKNOWN, now_ns, message)
        return events

    def _recall(self, action: str, state: GoalState, now_ns: int) -> _Goal | None:
        key = (action, bytes(state.goal_id))
        goal = self._goals.get(key)
        if goal is not None:
            goal.seen_ns = now_ns
            self._goals.move_to_end(key)
        return goal

    def _remember(self, action: str, state: GoalState, now_ns: int, phase: _Phase) -> _Goal:
        key = (action, bytes(state.goal_id))
        task_id = clean_task_id(f'{action}/{key[1].hex()}')
        goal = _Goal(action, task_id, state.stamp_ns, now_ns, phase)
        self._goals[key] = goal
        self._goals.move_to_end(key)
        if phase in (_Phase.TASK, _Phase.NESTED):
            self._active[key] = goal
        return goal

    def _forget(self, limit: int, now_ns: int) -> list[TaskEvent]:
        """Forget the goals longest unseen above ``limit``, those that are not active first."""
        surplus = len(self._goals) - limit
        if surplus <= 0:
            return []
        idle = [key for key in self._goals if key not in self._active]
        events: list[TaskEvent] = []
        for key in [*idle, *self._active][:surplus]:
            if key in self._active:
                message = 'more goals are active than the monitor remembers'
                events += self._end(key, TaskStatus.UNKNOWN, now_ns, message)
            goal = self._goals.pop(key)
            until = self._forgotten_until_ns.get(goal.action, -1)
            self._forgotten_until_ns[goal.action] = max(until, goal.stamp_ns)
            self._counters['forgotten_goals'] += 1
        return events

    def _clock_back(self, now_ns: int) -> None:
        """Follow the receive clock back: what ended after ``now_ns`` will happen again."""
        self._counters['clock_jumps'] += 1
        self._registry.clock_back(now_ns)
        self._seen_actions.clear()
        if self._since_ns is not None:
            self._since_ns = min(self._since_ns, now_ns)
        for goal in self._goals.values():
            goal.again = goal.phase is _Phase.ENDED and goal.ended_ns > now_ns
            goal.seen_ns = min(goal.seen_ns, now_ns)
        for action, until_ns in self._forgotten_until_ns.items():
            self._forgotten_until_ns[action] = min(until_ns, now_ns)
