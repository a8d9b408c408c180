# SPDX-License-Identifier: Apache-2.0
"""Which tasks are open, and which events about them take effect."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, replace

from armor_ros.episodes.settings import EpisodeSettings, seconds_to_ns
from armor_ros.episodes.task import UNNAMED, TaskEvent, TaskPhase, clean_event
from armor_ros.errors import ArmorError


@dataclass(slots=True)
class _Open:
    start: TaskEvent
    receive_ns: int
    stale: bool = False


class TaskRegistry:
    """
    Turns START and END events as they come into events that take effect.

    - A repeated START of an open task is ignored, unless its stamp is earlier or the clock has
      gone back since: then the task has begun anew.
    - A START above ``max_open_tasks`` first ends the oldest open task with status UNKNOWN, so
      that it is answered; its own END is then a repeated one.
    - A repeated END is ignored. An END of a task never started takes effect.
    - A task open for longer than ``max_task_seconds`` is ended with status UNKNOWN.

    An END that takes effect carries the name, instruction, cameras and context of its START
    where it has none of its own.
    """

    def __init__(self, settings: EpisodeSettings) -> None:
        self._settings = settings
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._ended: OrderedDict[str, int] = OrderedDict()
        self.counters: Counter[str] = Counter()

    @property
    def open_tasks(self) -> tuple[str, ...]:
        """Ids of tasks that have started and not ended, oldest first."""
        return tuple(self._open)

    def take(self, event: TaskEvent, receive_ns: int) -> list[TaskEvent]:
        """
        Return the events that take effect, cleaned, in order.

        A zero stamp means ``receive_ns``. Raises ArmorError for a phase that is none.
        """
        event = clean_event(replace(event, stamp_ns=event.stamp_ns or receive_ns))
        if event.phase == TaskPhase.START:
            return self._start(event, receive_ns)
        if event.phase == TaskPhase.END:
            return self._end(event)
        raise ArmorError(
            f'phase of task {event.task_id!r} is {event.phase}; it must be 1 (START) or 2 (END)'
        )

    def end_long(self, now_ns: int) -> list[TaskEvent]:
        """Return the ENDs of tasks that have been open for too long."""
        limit = self._settings.max_task_seconds
        events: list[TaskEvent] = []
        while self._open:
            task_id, oldest = next(iter(self._open.items()))
            if now_ns - oldest.receive_ns <= seconds_to_ns(limit):
                break
            self.counters['ended_too_long'] += 1
            events += self._force_end(task_id, now_ns, f'no END was seen within {limit:g} s')
        return events

    def clock_back(self, now_ns: int) -> None:
        """Follow the receive clock back to ``now_ns``: what ended later has yet to happen."""
        for entry in self._open.values():
            entry.stale = True
            entry.receive_ns = min(entry.receive_ns, now_ns)
        for task_id in [key for key, stamp in self._ended.items() if stamp > now_ns]:
            del self._ended[task_id]

    def clear(self) -> None:
        """Forget all tasks."""
        self._open.clear()
        self._ended.clear()

    def _start(self, event: TaskEvent, receive_ns: int) -> list[TaskEvent]:
        known = self._open.get(event.task_id)
        if known is not None:
            if event.stamp_ns >= known.start.stamp_ns and not known.stale:
                self.counters['repeated_starts'] += 1
                return []
            del self._open[event.task_id]
        events: list[TaskEvent] = []
        if len(self._open) >= self._settings.max_open_tasks:
            self.counters['ended_by_limit'] += 1
            reason = (
                f'no END was seen before more than {self._settings.max_open_tasks} tasks were open'
            )
            events += self._force_end(next(iter(self._open)), receive_ns, reason)
        self._ended.pop(event.task_id, None)
        self._open[event.task_id] = _Open(event, receive_ns)
        self.counters['started'] += 1
        return [*events, event]

    def _force_end(self, task_id: str, stamp_ns: int, reason: str) -> list[TaskEvent]:
        return self._end(TaskEvent(TaskPhase.END, task_id, stamp_ns, message=reason))

    def _end(self, event: TaskEvent) -> list[TaskEvent]:
        entry = self._open.pop(event.task_id, None)
        if entry is not None:
            event = _complete(event, entry.start)
        elif self._is_repeated(event):
            self.counters['repeated_ends'] += 1
            return []
        else:
            self.counters['ends_without_start'] += 1
        self._ended[event.task_id] = event.stamp_ns
        self._ended.move_to_end(event.task_id)
        while len(self._ended) > self._settings.goal_memory:
            self._ended.popitem(last=False)
        self.counters['ended'] += 1
        return [event]

    def _is_repeated(self, event: TaskEvent) -> bool:
        # Tasks without an id share one, so that only the stamp can tell their ENDs apart.
        if event.task_id == UNNAMED:
            return self._ended.get(UNNAMED) == event.stamp_ns
        return event.task_id in self._ended


def _complete(end: TaskEvent, start: TaskEvent) -> TaskEvent:
    own = {key for key, _ in end.context}
    return replace(
        end,
        name=end.name or start.name,
        instruction=end.instruction or start.instruction,
        cameras=end.cameras or start.cameras,
        context=(*(pair for pair in start.context if pair[0] not in own), *end.context),
    )
