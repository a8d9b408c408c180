# SPDX-License-Identifier: Apache-2.0
"""The desk between recorder and inference: every task that ends leaves it once, answered."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from armor_ros.episodes.decoding import CompressedImage, RawImage
from armor_ros.episodes.diagnosis import (
    Diagnosis,
    RefinementSettings,
    ReportStatus,
    Round,
    diagnosis_of,
    settled,
)
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.episodes.outcome import check_frames
from armor_ros.episodes.recorder import EpisodeRecorder
from armor_ros.episodes.task import TaskEvent, TaskPhase
from armor_ros.serving.client import InferenceClient
from armor_ros.serving.events import Answer, ClientEvent, Detection, NoAnswer, RoundDone, Started
from armor_ros.serving.outcome import Outcome, Progress

SECOND = 1_000_000_000
# Steady seconds beyond post-roll and settling after which a task is taken as it is, although the
# clock of the stamps stands still (a paused simulation, the end of a replayed bag).
STALLED_CLOCK_SECONDS = 2.0


@dataclass(slots=True)
class _Submitted:
    episode: Episode
    ended_ns: int
    submitted_ns: int
    started_ns: int = 0
    settings: RefinementSettings | None = None
    trace: tuple[Round, ...] = ()


class TaskDesk:
    """
    Feeds the recorder, streams frames to inference while tasks run, and collects the answers.

    Not thread-safe: all methods belong to one thread, ``handle`` included, to which the owner
    brings the client's events. ``steady`` is a monotonic clock in nanoseconds. ``on_outcome`` is
    called exactly once for each ended task; ``on_progress`` any number of times before.
    """

    def __init__(
        self,
        recorder: EpisodeRecorder,
        client: InferenceClient,
        settings: Callable[[], RefinementSettings],
        steady: Callable[[], int],
        on_outcome: Callable[[Outcome], None],
        on_progress: Callable[[Progress], None],
        wait_seconds: float,
    ) -> None:
        self._recorder = recorder
        self._client = client
        self._settings = settings
        self._steady = steady
        self._on_outcome = on_outcome
        self._on_progress = on_progress
        self._wait_ns = int((wait_seconds + STALLED_CLOCK_SECONDS) * SECOND)
        self._numbers = itertools.count(1)
        # Task ids may come again (a looping bag), sessions never do.
        self._open: dict[str, str] = {}
        self._ended: dict[str, int] = {}
        self._submitted: dict[str, _Submitted] = {}
        self._unwanted: set[str] = set()

    @property
    def waiting(self) -> int:
        """Tasks that were given to inference and are not answered yet."""
        return len(self._submitted)

    @property
    def running(self) -> int:
        """Tasks that have started and not ended."""
        return len(self._open)

    def task_event(self, event: TaskEvent, now_ns: int) -> None:
        """Take a task's start or end."""
        self._follow(self._recorder.add_event(event, now_ns))

    def goal_status(self, action: str, goals: Sequence[GoalState], now_ns: int) -> None:
        """Take an action's status array."""
        self._follow(self._recorder.add_status(action, goals, now_ns))

    def window(self, event: TaskEvent, start_ns: int) -> None:
        """Take a task that is given by its bounds, after the fact."""
        self._recorder.window(event, start_ns)
        self._ended[event.task_id] = self._steady()

    def image(
        self, camera: str, stamp_ns: int, now_ns: int, image: RawImage | CompressedImage
    ) -> None:
        """Take an image that ``recorder.wants`` has asked for."""
        kept = self._recorder.add_image(camera, stamp_ns, now_ns, image)
        if kept is None:
            return
        for task_id in kept.tasks:
            session = self._open.get(task_id)
            if session is not None:
                self._client.push(session, kept.camera, kept.stamp_ns, kept.frame)

    def tick(self, now_ns: int) -> None:
        """Hand over the tasks whose clip is complete; to be called about twenty times a second."""
        episodes = self._recorder.advance(now_ns)
        if any(self._steady() - ended > self._wait_ns for ended in self._ended.values()):
            episodes += self._recorder.flush()
        for episode in episodes:
            self._submit(episode)

    def cancel(self, task_id: str) -> None:
        """Give up on the answer to a task; its outcome is CANCELED."""
        if task_id in self._ended:
            self._unwanted.add(task_id)
        for session, task in list(self._submitted.items()):
            if task.episode.task.task_id == task_id:
                self._client.cancel(session)

    def close(self) -> None:
        """Answer all that has ended and is not answered with CANCELED."""
        text = 'the monitor was deactivated before the answer'
        for episode in self._recorder.flush():
            ended = self._ended.pop(episode.task.task_id, self._steady())
            self._finish(_Submitted(episode, ended, self._steady()), ReportStatus.CANCELED, text)
        for session in list(self._submitted):
            task = self._submitted.pop(session)
            self._client.cancel(session)
            self._finish(task, ReportStatus.CANCELED, text)
        for session in self._open.values():
            self._client.cancel(session)
        self._open.clear()

    def handle(self, event: ClientEvent) -> None:
        """Take one event of the inference client; events of sessions already answered pass by."""
        session = getattr(event, 'session', None)
        task = self._submitted.get(session) if session is not None else None
        if task is None or session is None:
            return
        if isinstance(event, Started):
            task.started_ns = self._steady()
            self._on_progress(self._progress(task))
        elif isinstance(event, Detection):
            self._on_progress(self._progress(task, failure_probability=event.failure_probability))
        elif isinstance(event, RoundDone):
            diagnosis = self._diagnosis_so_far(task, event.rounds)
            self._on_progress(self._progress(task, rounds=event.rounds, diagnosis=diagnosis))
        elif isinstance(event, Answer):
            del self._submitted[session]
            self._answer(task, event)
        elif isinstance(event, NoAnswer):
            del self._submitted[session]
            self._finish(task, event.status, event.text)

    def _follow(self, events: Sequence[TaskEvent]) -> None:
        for event in events:
            if event.phase is TaskPhase.START:
                if event.task_id in self._open:  # it began anew
                    self._client.cancel(self._open[event.task_id])
                session = str(next(self._numbers))
                self._open[event.task_id] = session
                self._client.open(session, self._view(event), self._recorder.fps)
                for kept in self._recorder.frames_of(event.task_id):
                    self._client.push(session, kept.camera, kept.stamp_ns, kept.frame)
            else:
                self._ended[event.task_id] = self._steady()

    def _view(self, event: TaskEvent) -> RefinementSettings:
        """Return the settings with the camera named that will most likely be looked at."""
        settings = self._settings()
        if settings.camera:
            return settings
        cameras = event.cameras or self._recorder.cameras
        newest = self._newest_stamps()
        with_frames = [camera for camera in cameras if newest.get(camera)]
        return dataclasses.replace(settings, camera=(*with_frames, *cameras, '')[0])

    def _submit(self, episode: Episode) -> None:
        task_id = episode.task.task_id
        session = self._open.pop(task_id, None)
        now = self._steady()
        task = _Submitted(episode, self._ended.pop(task_id, now), now)
        try:
            self._hand_over(task, session)
        except Exception as error:  # whatever it is, the task is answered
            text = f'internal error: {type(error).__name__}: {error}'
            self._finish(task, ReportStatus.MODEL_ERROR, text)

    def _hand_over(self, task: _Submitted, session: str | None) -> None:
        """Give a task to inference, or answer it at once where there is nothing to ask."""
        task_id = task.episode.task.task_id
        if task_id in self._unwanted:
            self._unwanted.discard(task_id)
            status, text = ReportStatus.CANCELED, 'the verdict was no longer wanted'
        else:
            status, text = check_frames(task.episode, self._newest_stamps())
        if status is not ReportStatus.OK:
            if session is not None:
                self._client.cancel(session)
            self._finish(task, status, text)
            return
        if session is None:
            session = str(next(self._numbers))
            self._client.open(session)
        task.settings = self._settings()
        self._client.submit(session, task.episode, task.settings)
        # only now: events of the session are handled after this turn of the thread
        self._submitted[session] = task

    def _progress(self, task: _Submitted, **news: Any) -> Progress:
        now = self._steady()
        return Progress(
            episode=task.episode,
            queue_ns=task.started_ns - task.submitted_ns,
            inference_ns=now - task.started_ns,
            total_ns=now - task.ended_ns,
            **news,
        )

    def _diagnosis_so_far(self, task: _Submitted, rounds: tuple[Round, ...]) -> Diagnosis | None:
        """Return what a task's rounds amount to; None when the model has just been lost."""
        # After a lack of memory refinement begins anew, with fewer trajectories.
        before = [answer for answer in task.trace if answer.round < rounds[0].round]
        task.trace = (*before, *rounds)
        model = self._client.model
        if model is None or task.settings is None:
            return None
        settings = dataclasses.replace(settled(task.settings, model), trajectories=len(rounds))
        return diagnosis_of(task.trace, settings, model)

    def _newest_stamps(self) -> dict[str, int]:
        counters = self._recorder.counters()
        return {camera: int(values['last_stamp_ns']) for camera, values in counters.items()}

    def _answer(self, task: _Submitted, answer: Answer) -> None:
        self._on_outcome(
            Outcome(
                episode=task.episode,
                diagnosis=answer.diagnosis,
                status=ReportStatus.OK,
                text='',
                queue_ns=int(answer.queue_seconds * SECOND),
                inference_ns=int(answer.inference_seconds * SECOND),
                total_ns=self._steady() - task.ended_ns,
            )
        )

    def _finish(self, task: _Submitted, status: ReportStatus, text: str) -> None:
        now = self._steady()
        self._on_outcome(
            Outcome(
                episode=task.episode,
                diagnosis=None,
                status=status,
                text=text,
                queue_ns=now - task.submitted_ns,
                inference_ns=0,
                total_ns=now - task.ended_ns,
            )
        )
