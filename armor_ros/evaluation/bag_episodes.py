# SPDX-License-Identifier: Apache-2.0
"""A recording's tasks as Episodes, through the same recorder as the live node's."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from armor_ros.datasets.bags import (
    Bag,
    BagClock,
    BagImage,
    BagMessage,
    BagStatus,
    BagTaskEvent,
)
from armor_ros.datasets.cameras import usual_order
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.recorder import CameraConfig, EpisodeRecorder
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.task import TaskPhase
from armor_ros.errors import ArmorError

# Messages that are looked at to find out which clock a recording's stamps belong to.
_PEEK = 5000
_MAX_LISTED = 12
_MAX_PROBLEMS = 3


class BagEpisodes:
    """
    Iterates over the Episodes of an open recording, in the order in which they complete.

    A message's time of receipt is its log time. Where /clock was recorded and the cameras' stamps
    belong to it (a simulation that was recorded on the wall clock), it is the latest /clock, as it
    was for a node with use_sim_time. ``cameras`` None means all that are found, front, wrist and
    overhead first. ``on_position`` is told how far the reading is, from 0 to 1.

    Raises ArmorError when none of the given cameras is in the recording.
    """

    def __init__(
        self,
        bag: Bag,
        settings: EpisodeSettings,
        cameras: Sequence[CameraConfig] | None = None,
        on_position: Callable[[float], None] | None = None,
    ) -> None:
        self._bag = bag
        self._settings = settings
        self._info = bag.info()
        self.cameras = _in_usual_order(self._info.cameras) if cameras is None else tuple(cameras)
        self._check_cameras()
        self._names = {camera.topic: camera.name for camera in self.cameras}
        self._on_position = on_position or (lambda position: None)
        self._offset_ns = self._find_clock()
        self._clock_ns: int | None = None
        start_ns = self._info.start_ns + (self._offset_ns or 0)
        self._recorder = EpisodeRecorder(settings, self.cameras, since_ns=start_ns)
        self._goals_seen = 0
        self._ended_by_event: set[str] = set()

    def __iter__(self) -> Iterator[Episode]:
        """Read the recording to its end; once."""
        duration = max(1, self._info.duration_ns)
        for message in self._bag.read(set(self._names)):
            self._on_position((message.log_ns - self._info.start_ns) / duration)
            now_ns = self._feed(message)
            yield from self._recorder.advance(now_ns)
        yield from self._recorder.flush()
        running = self._recorder.open_tasks
        if running:
            listed = ', '.join(running[:_MAX_LISTED])
            self._bag.problems[f'tasks still running at the end of the bag: {listed}'] += 1

    def status_source(self, task_id: str) -> Literal['event', 'status']:
        """Tell what ended a task: a TaskEvent, or an action's status."""
        return 'event' if task_id in self._ended_by_event else 'status'

    def newest_ns(self) -> dict[str, int]:
        """Return the newest stamp of each camera so far, 0 where there is none."""
        return {
            name: int(counters['last_stamp_ns'])
            for name, counters in self._recorder.counters().items()
        }

    def bad_images(self) -> tuple[int, int]:
        """Return how many of the images that were looked at could not be decoded, of how many."""
        counters = self._recorder.counters().values()
        bad = sum(int(camera['undecodable']) for camera in counters)
        return bad, bad + sum(int(camera['kept']) for camera in counters)

    def why_no_task(self) -> str:
        """Return a sentence for a recording that gave no Episode: what it holds, what to do."""
        info = self._info
        sentence = f'{info.path} holds no task that ended'
        watched = [action for action in info.actions if self._settings.watches(action)]
        if watched and self._goals_seen:
            sentence += f': no goal of {", ".join(watched)} ended while it was recorded'
            remedy = 'record until the action has ended'
        elif info.actions and not watched:
            sentence += f': its actions {", ".join(info.actions)} are left out by the settings'
            remedy = 'change the globs of the parameter actions'
        else:
            found = f'the actions {", ".join(info.actions)}' if info.actions else 'no action'
            sentence += f': it has {found} and no ended TaskEvent; its topics are {self._topics()}'
            remedy = 'record <action>/_action/status or /armor/task_event beside the cameras'
        bad, looked_at = self.bad_images()
        if bad:
            sentence += f'; {bad} of {looked_at} images could not be decoded'
        for problem in sorted(self._bag.problems)[:_MAX_PROBLEMS]:
            sentence += f'; {problem}'
        return f'{sentence}. To evaluate it, {remedy}'

    def _topics(self) -> str:
        names = [topic.name for topic in self._info.topics]
        more = len(names) - _MAX_LISTED
        return (', '.join(names[:_MAX_LISTED]) or 'none') + (
            f' and {more} more' if more > 0 else ''
        )

    def _check_cameras(self) -> None:
        known = {topic.name for topic in self._info.topics}
        missing = [camera for camera in self.cameras if camera.topic not in known]
        for camera in missing:
            near = difflib.get_close_matches(camera.topic, sorted(known), n=3)
            hint = f'; near names: {", ".join(near)}' if near else ''
            sentence = f'camera {camera.name}: {self._info.path} has no topic {camera.topic}{hint}'
            if len(missing) == len(self.cameras):
                raise ArmorError(sentence)
            self._bag.problems[sentence] += 1

    def _find_clock(self) -> int | None:
        """Return the first /clock minus its log time if stamps follow /clock, else None."""
        if not any(topic.name == '/clock' and topic.count for topic in self._info.topics):
            return None
        offset: int | None = None
        stamped: BagImage | None = None
        told = Counter(self._bag.problems)
        for count, message in enumerate(self._bag.read(set(self._names))):
            if offset is None and isinstance(message, BagClock):
                offset = message.clock_ns - message.log_ns
            elif stamped is None and isinstance(message, BagImage) and message.stamp_ns:
                stamped = message
            if count > _PEEK or (offset is not None and stamped is not None):
                break
        # The same messages are read again, with the same problems.
        self._bag.problems.clear()
        self._bag.problems.update(told)
        if offset is None or stamped is None:
            return offset
        ahead = stamped.stamp_ns - stamped.log_ns
        return offset if abs(ahead - offset) < abs(ahead) else None

    def _receive_ns(self, message: BagMessage) -> int:
        if self._offset_ns is None:
            return message.log_ns
        if isinstance(message, BagClock):
            self._clock_ns = message.clock_ns
        if self._clock_ns is None:
            return max(0, message.log_ns + self._offset_ns)
        return self._clock_ns

    def _feed(self, message: BagMessage) -> int:
        """Give one message to the recorder; return its time of receipt."""
        recorder = self._recorder
        now_ns = self._receive_ns(message)
        if isinstance(message, BagImage):
            recorder.add_image(self._names[message.topic], message.stamp_ns, now_ns, message.image)
        elif isinstance(message, BagStatus):
            self._goals_seen += len(message.goals)
            recorder.add_status(message.action, message.goals, now_ns)
        elif isinstance(message, BagTaskEvent):
            for event in recorder.add_event(message.event, now_ns):
                if event.phase is TaskPhase.END:
                    self._ended_by_event.add(event.task_id)
        return now_ns


def _in_usual_order(cameras: Sequence[CameraConfig]) -> tuple[CameraConfig, ...]:
    by_name = {camera.name: camera for camera in cameras}
    return tuple(by_name[name] for name in usual_order(by_name))
