# SPDX-License-Identifier: Apache-2.0
"""The one path from camera messages and task events to Episodes, live and from a bag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from armor_ros.episodes.camera_track import CameraConfig, CameraTrack
from armor_ros.episodes.decoding import (
    CompressedImage,
    DecodeError,
    RawImage,
    decode_image,
    resize,
)
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.goal_tracker import GoalState, GoalTracker
from armor_ros.episodes.running_task import RunningTask, make_episodes
from armor_ros.episodes.settings import EpisodeSettings, seconds_to_ns
from armor_ros.episodes.stamp_clock import TOLERANCE_NS
from armor_ros.episodes.task import TaskEvent, TaskPhase, clean_event
from armor_ros.errors import ArmorError

__all__ = ['CameraConfig', 'EpisodeRecorder', 'KeptFrame']


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """A kept frame (H, W, 3), and the tasks not yet emitted whose clip it belongs to."""

    camera: str
    stamp_ns: int
    frame: npt.NDArray[np.uint8]
    tasks: tuple[str, ...]


class EpisodeRecorder:
    """
    Turns messages into Episodes.

    To be fed from one thread, in the order of receipt. ``receive_ns`` is the ROS clock at receipt
    (in a bag, the log time); what comes out depends on stamps and times of receipt alone, so that
    the same messages give the same Episodes, live or from a bag.

    Odd ends, so that every task is answered once and no clip ends before it starts:

    - An END without a START: the clip begins ``lookback`` seconds before it; ``truncated``.
    - An END stamped before its START: the clip is as long as the time between their receipts, at
      most ``lookback``; ``truncated``.
    - The receive clock goes back (more than 2 s): ended tasks are emitted as they are; open tasks
      that began later than the new time begin there; ``truncated``.
    - The stamps of a camera jump: ended tasks are emitted first, then the frames from before the
      jump are dropped; open tasks with that camera are ``truncated``.
    - More than ``max_open_tasks`` open, one open for more than ``max_task_seconds``, or an active
      goal that its server no longer lists: an END with status UNKNOWN, whose message says so.

    ``since_ns`` is when the monitor began to watch, see GoalTracker. Clips that are not
    ``stacked`` leave their frames where they are (FrameSequence), and take no time to make.
    """

    def __init__(
        self,
        settings: EpisodeSettings,
        cameras: Sequence[CameraConfig],
        since_ns: int | None = None,
        *,
        stacked: bool = True,
    ) -> None:
        names = [camera.name for camera in cameras]
        doubles = sorted(name for name, count in Counter(names).items() if count > 1)
        if doubles:
            raise ArmorError(f'camera {doubles[0]!r} is named twice; give each a name of its own')
        self._settings = settings
        self._cameras = tuple(cameras)
        self._stacked = stacked
        self.reset(since_ns)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of all cameras, in their order."""
        return tuple(camera.name for camera in self._cameras)

    @property
    def fps(self) -> float:
        """Frames a second and camera that are kept."""
        return self._settings.fps

    @property
    def open_tasks(self) -> tuple[str, ...]:
        """Ids of tasks that have started and not ended, oldest first."""
        return self._tracker.open_tasks

    def counters(self) -> dict[str, dict[str, int | str]]:
        """Return the counters of each camera by name."""
        return {name: track.counters() for name, track in self._tracks.items()}

    def task_counters(self) -> dict[str, int]:
        """Return the counters of tasks and goals, what was ignored included."""
        return self._tracker.counters()

    def reset(self, since_ns: int | None = None) -> None:
        """
        Forget all frames and tasks, unanswered ones too; counters begin anew.

        ``since_ns`` as for the constructor.
        """
        settings = self._settings
        self._tracks = {camera.name: CameraTrack(camera, settings) for camera in self._cameras}
        self._tracker = GoalTracker(settings, since_ns)
        self._tasks: dict[str, RunningTask] = {}
        self._finished: list[Episode] = []
        self._now_ns: int | None = None

    def wants(self, camera: str, stamp_ns: int, receive_ns: int) -> bool:
        """
        Count a message as seen, and tell whether its image is needed.

        If so, it is to be given to ``add_image`` or ``add_frame``, or reported to
        ``add_undecodable``, with the same stamps. A zero stamp means ``receive_ns``. Raises
        ArmorError for an unknown camera.
        """
        track = self._track(camera)
        self._follow(receive_ns)
        stamp_ns = stamp_ns or receive_ns
        if track.buffer.would_drop(stamp_ns):
            self._close_ended()
            for task in self._tasks.values():
                task.cut = task.cut or camera in task.cameras
        wanted = track.wants(stamp_ns)
        if not wanted:
            self._close_complete()
        return wanted

    def add_image(
        self, camera: str, stamp_ns: int, receive_ns: int, image: RawImage | CompressedImage
    ) -> KeptFrame | None:
        """
        Decode, resize and keep an image; None when it is not kept.

        Asks ``wants`` itself when that has not been asked. Never raises on bad data: it is
        counted.
        """
        awaited = self._track(camera).awaits(stamp_ns or receive_ns)
        if not awaited and not self.wants(camera, stamp_ns, receive_ns):
            return None
        try:
            size = self._settings.frame_size
            frame = resize(decode_image(image, smallest=size), size)
        except DecodeError as error:
            self.add_undecodable(camera, stamp_ns, receive_ns, str(error))
            return None
        return self.add_frame(camera, stamp_ns, receive_ns, frame)

    def add_frame(
        self, camera: str, stamp_ns: int, receive_ns: int, frame: npt.NDArray[np.uint8]
    ) -> KeptFrame | None:
        """
        Keep a frame (H, W, 3) uint8 RGB that ``wants`` has asked for; None when it is not kept.

        Any size is resized. The frame must not be changed afterwards.
        """
        stamp_ns = stamp_ns or receive_ns
        frame = resize(frame, self._settings.frame_size)
        kept = self._track(camera).push(stamp_ns, frame)
        tasks = tuple(
            task.task_id
            for task in self._tasks.values()
            if task.shows(camera, stamp_ns, self._settings)
        )
        self._close_complete()
        return KeptFrame(camera, stamp_ns, frame, tasks) if kept else None

    def add_undecodable(
        self, camera: str, stamp_ns: int, receive_ns: int, reason: str = ''
    ) -> None:
        """Count a message that ``wants`` has asked for and whose image cannot be read."""
        self._track(camera).reject(stamp_ns or receive_ns, reason)
        self._close_complete()

    def add_event(self, event: TaskEvent, receive_ns: int) -> list[TaskEvent]:
        """
        Take a START or END; return the events that take effect, cleaned and completed.

        A zero stamp means ``receive_ns``. Raises ArmorError for a phase that is none.
        """
        self._follow(receive_ns)
        return self._apply(self._tracker.update_event(event, receive_ns), receive_ns)

    def add_status(
        self, action: str, statuses: Sequence[GoalState], receive_ns: int
    ) -> list[TaskEvent]:
        """Take an action's status array; return the START and END events that take effect."""
        self._follow(receive_ns)
        events = self._tracker.update_status(action, statuses, receive_ns)
        return self._apply(events, receive_ns)

    def window(self, event: TaskEvent, start_ns: int) -> None:
        """
        Take a task given by its bounds: ``start_ns`` and the stamp of its END ``event``.

        A task that is open under the same id ends with it, at these bounds. Raises ArmorError
        when the end is before the start.
        """
        if event.stamp_ns < start_ns:
            raise ArmorError(
                f'task {event.task_id[:80]!r} ends at {event.stamp_ns} ns, before its start at '
                f'{start_ns} ns; give a start at or before the end'
            )
        now_ns = event.stamp_ns if self._now_ns is None else self._now_ns
        event = clean_event(replace(event, phase=TaskPhase.END))
        for effective in self._tracker.update_event(event, now_ns):
            if effective.task_id == event.task_id:
                event = effective
            else:
                self._apply([effective], now_ns)
        self._begin(event, max(0, start_ns), now_ns)
        self._tasks[event.task_id].finish(event, now_ns, self._settings)
        self._close_complete()

    def advance(self, now_ns: int) -> list[Episode]:
        """
        Return the Episodes that are complete at ``now_ns``, on the clock of ``receive_ns``.

        An Episode is complete when each of its cameras has come to the clip's end, or ``settle``
        seconds have passed since. Cheap: to be called often.
        """
        self._follow(now_ns)
        self._close_complete()
        return self._take_finished()

    def flush(self) -> list[Episode]:
        """Return the Episodes of all ended tasks at once, with the frames that are there."""
        self._close_ended()
        return self._take_finished()

    def frames_of(self, task_id: str) -> Iterator[KeptFrame]:
        """Yield the frames kept so far of a task not yet emitted, camera by camera, in time."""
        task = self._tasks.get(task_id)
        if task is None:
            return
        start_ns = task.clip_start_ns(self._settings)
        for camera in task.cameras:
            if camera not in self._tracks:
                continue
            buffer = self._tracks[camera].buffer
            newest_ns = start_ns if buffer.newest_ns is None else buffer.newest_ns
            end_ns = newest_ns if task.end is None else task.clip_end_ns(self._settings)
            for stamp_ns, frame in buffer.span(start_ns, end_ns):
                yield KeptFrame(camera, stamp_ns, frame, (task_id,))

    def _track(self, camera: str) -> CameraTrack:
        if camera not in self._tracks:
            known = ', '.join(self._tracks) or 'none'
            raise ArmorError(f'no camera {camera!r} is recorded; the cameras are: {known}')
        return self._tracks[camera]

    def _follow(self, receive_ns: int) -> None:
        """Follow the receive clock: end and close what is due before the next message counts."""
        if self._now_ns is not None and receive_ns < self._now_ns - TOLERANCE_NS:
            self._close_ended()
            for task in self._tasks.values():
                task.cut = task.cut or task.start_ns > receive_ns
                task.start_ns = min(task.start_ns, receive_ns)
            self._now_ns = receive_ns
        self._now_ns = receive_ns if self._now_ns is None else max(self._now_ns, receive_ns)
        self._apply(self._tracker.advance(receive_ns), self._now_ns)
        now_ns = self._now_ns
        self._close([t for t in self._tasks.values() if t.end and t.deadline_ns <= now_ns])

    def _apply(self, events: list[TaskEvent], receive_ns: int) -> list[TaskEvent]:
        for event in events:
            if event.phase == TaskPhase.START:
                self._begin(event, event.stamp_ns, receive_ns)
                continue
            task = self._tasks.get(event.task_id)
            if task is None or task.end is not None:
                lookback_ns = seconds_to_ns(self._settings.lookback)
                task = self._begin(event, max(0, event.stamp_ns - lookback_ns), receive_ns)
                task.cut = True
            task.cameras = self._cameras_of(event)
            task.finish(event, receive_ns, self._settings)
        if events:
            self._close_complete()
        return events

    def _begin(self, event: TaskEvent, start_ns: int, receive_ns: int) -> RunningTask:
        """Open a task; one that has ended under the same id is closed as it is."""
        known = self._tasks.get(event.task_id)
        if known is not None and known.end is not None:
            self._close([known])
        task = RunningTask(event.task_id, self._cameras_of(event), start_ns, receive_ns)
        self._tasks[event.task_id] = task
        return task

    def _cameras_of(self, event: TaskEvent) -> tuple[str, ...]:
        # Duplicates would make two clips of one camera.
        return tuple(dict.fromkeys(event.cameras)) or tuple(self._tracks)

    def _close_complete(self) -> None:
        """Close the ended tasks whose cameras have all come to the clip's end."""
        ended = [task for task in self._tasks.values() if task.end is not None]
        self._close([task for task in ended if self._is_complete(task)])

    def _is_complete(self, task: RunningTask) -> bool:
        end_ns = task.clip_end_ns(self._settings)
        known = [self._tracks[name] for name in task.cameras if name in self._tracks]
        return all(track.has_passed(end_ns) for track in known)

    def _close_ended(self) -> None:
        self._close([task for task in self._tasks.values() if task.end is not None])

    def _close(self, tasks: list[RunningTask]) -> None:
        if not tasks:
            return
        self._finished += make_episodes(tasks, self._tracks, self._settings, stacked=self._stacked)
        for task in tasks:
            del self._tasks[task.task_id]

    def _take_finished(self) -> list[Episode]:
        finished, self._finished = self._finished, []
        return finished
