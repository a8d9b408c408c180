# SPDX-License-Identifier: Apache-2.0
"""The desk: frames stream while a task runs, and every ended task leaves it once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from armor_ros.episodes.decoding import RawImage
from armor_ros.episodes.diagnosis import (
    ModelInfo,
    RefinementSettings,
    ReportStatus,
    ReturnPolicy,
    Round,
    Verdict,
)
from armor_ros.episodes.recorder import CameraConfig, EpisodeRecorder
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.task import TaskEvent, TaskPhase
from armor_ros.serving.desk import STALLED_CLOCK_SECONDS, TaskDesk
from armor_ros.serving.events import Detection, NoAnswer, RoundDone, Started
from armor_ros.serving.outcome import Outcome, Progress

SECOND = 10**9
SETTLE = 0.5


@dataclass
class RecordingClient:
    """Writes down what the desk asks of inference, and answers nothing."""

    calls: list[tuple[str, ...]] = field(default_factory=list)
    model: ModelInfo | None = None
    views: list[tuple[str, float]] = field(default_factory=list)

    def open(
        self, session: str, settings: RefinementSettings | None = None, fps: float | None = None
    ) -> None:
        self.calls.append(('open', session))
        if settings is not None and fps is not None:
            self.views.append((settings.camera, fps))

    def push(self, session: str, camera: str, stamp_ns: int, frame: Any) -> None:
        self.calls.append(('push', session, camera))

    def submit(self, session: str, episode: Any, settings: Any) -> None:
        self.calls.append(('submit', session, episode.task.task_id))

    def cancel(self, session: str) -> None:
        self.calls.append(('cancel', session))

    def named(self, name: str) -> list[tuple[str, ...]]:
        return [call for call in self.calls if call[0] == name]


class Scene:
    """A desk with one camera, and clocks that the test moves."""

    def __init__(self) -> None:
        self.now = 100 * SECOND
        self.steady = 0
        self.client = RecordingClient()
        self.settings = RefinementSettings()
        self.outcomes: list[Outcome] = []
        self.progress: list[Progress] = []
        settings = EpisodeSettings(frame_height=16, frame_width=16, settle=SETTLE)
        self.recorder = EpisodeRecorder(settings, [CameraConfig('front', '/front')])
        self.desk = TaskDesk(
            self.recorder,
            self.client,  # type: ignore[arg-type]
            lambda: self.settings,
            lambda: self.steady,
            self.outcomes.append,
            self.progress.append,
            wait_seconds=SETTLE,
        )

    def event(self, phase: TaskPhase, task_id: str = 'a') -> None:
        self.desk.task_event(TaskEvent(phase, task_id, self.now), self.now)

    def film(self, seconds: float) -> None:
        """Let both clocks run for some seconds, with a frame every 0.2 s."""
        for _ in range(round(seconds * 5)):
            self.now += SECOND // 5
            self.steady += SECOND // 5
            if self.recorder.wants('front', self.now, self.now):
                image = RawImage('rgb8', 16, 16, 48, False, np.zeros(768, np.uint8))
                self.desk.image('front', self.now, self.now, image)
            self.desk.tick(self.now)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_frames_stream_while_the_task_runs_and_it_is_submitted_once(scene: Scene) -> None:
    scene.film(1.0)
    scene.event(TaskPhase.START)
    scene.film(1.0)
    assert scene.client.calls[0] == ('open', '1')
    # one was there at the start's own stamp, five came since
    assert len(scene.client.named('push')) == 6
    assert scene.client.named('submit') == []
    assert scene.desk.running == 1
    scene.event(TaskPhase.END)
    scene.film(1.0)
    assert scene.client.named('submit') == [('submit', '1', 'a')]
    assert (scene.desk.running, scene.desk.waiting) == (0, 1)
    scene.film(5.0)
    assert len(scene.client.named('submit')) == 1
    assert scene.outcomes == []


def test_the_server_is_told_which_camera_will_be_looked_at(scene: Scene) -> None:
    scene.event(TaskPhase.START, 'before any frame')
    scene.film(1.0)
    scene.event(TaskPhase.START, 'after')
    chosen = TaskEvent(TaskPhase.START, 'of its own', scene.now, cameras=('wrist', 'front'))
    scene.desk.task_event(chosen, scene.now)
    scene.settings = RefinementSettings(camera='wrist')
    scene.event(TaskPhase.START, 'given')
    # the wrist has given no frame, so that the front is what the model will see
    assert scene.client.views == [('front', 5.0), ('front', 5.0), ('front', 5.0), ('wrist', 5.0)]


def test_an_answer_is_handed_on_once_and_late_words_pass_by(scene: Scene) -> None:
    scene.event(TaskPhase.START)
    scene.film(1.0)
    scene.event(TaskPhase.END)
    scene.film(1.0)
    scene.desk.handle(Started('1'))
    scene.desk.handle(Detection('1', 0.25))
    scene.desk.handle(NoAnswer('1', ReportStatus.TIMEOUT, 'too late'))
    scene.desk.handle(NoAnswer('1', ReportStatus.MODEL_ERROR, 'later still'))
    scene.desk.handle(Detection('1', 0.5))
    assert [news.failure_probability for news in scene.progress] == [None, 0.25]
    (outcome,) = scene.outcomes
    assert (outcome.status, outcome.text) == (ReportStatus.TIMEOUT, 'too late')
    assert outcome.total_ns == SECOND
    assert scene.desk.waiting == 0


def answer(index: int, trajectory: int, doubt: float, probability: float = 0.9) -> Round:
    words = f'words {index}.{trajectory}'
    return Round(index, trajectory, probability, probability > 0.5, words, 0.1, 0.2, doubt, False)


@pytest.mark.parametrize(
    ('policy', 'selected'), [(ReturnPolicy.LAST, [1, 2, 1]), (ReturnPolicy.BEST, [1, 1, 1])]
)
def test_each_round_gives_the_answer_so_far(
    scene: Scene, policy: ReturnPolicy, selected: list[int]
) -> None:
    scene.settings = RefinementSettings(return_policy=policy, trajectories=2, seed=5)
    scene.client.model = ModelInfo('m', 'r', 'none', 'abc', True)
    scene.event(TaskPhase.START)
    scene.film(1.0)
    scene.event(TaskPhase.END)
    scene.film(SETTLE + 0.2)
    session = scene.client.named('submit')[0][1]
    scene.steady += SECOND
    scene.desk.handle(Started(session))
    first = (answer(0, 0, 0.6), answer(0, 1, 0.4))
    second = (answer(1, 0, 0.5, 0.2), answer(1, 1, 0.7, 0.2))
    for rounds in (first, second, first):  # refinement may begin anew for want of memory
        scene.steady += SECOND
        scene.desk.handle(RoundDone(session, rounds))
    so_far = [progress.diagnosis for progress in scene.progress[1:]]
    assert [diagnosis.selected for diagnosis in so_far] == selected
    assert [diagnosis.trace for diagnosis in so_far] == [first, (*first, *second), first]
    assert [diagnosis.rounds for diagnosis in so_far] == [1, 2, 1]
    assert so_far[0].explanation == 'words 0.1'
    assert so_far[1].verdict is (
        Verdict.SUCCESS if policy is ReturnPolicy.LAST else Verdict.FAILURE
    )
    assert {diagnosis.settings for diagnosis in so_far} == {scene.settings}
    assert [progress.inference_ns for progress in scene.progress] == [
        count * SECOND for count in range(4)
    ]
    (waited,) = {progress.queue_ns for progress in scene.progress}
    assert SECOND <= waited < 2 * SECOND
    assert scene.progress[3].total_ns > 4 * SECOND
    # with fewer trajectories than were asked for, and without a model to name
    scene.desk.handle(RoundDone(session, first[:1]))
    assert scene.progress[-1].diagnosis.settings.trajectories == 1
    scene.client.model = None
    scene.desk.handle(RoundDone(session, first))
    assert scene.progress[-1].diagnosis is None
    assert scene.progress[-1].rounds == first


@pytest.mark.parametrize(('known', 'rounds'), [(0, 4), (2, 2)])
def test_an_answer_so_far_names_the_rounds_that_the_model_brings(
    scene: Scene, known: int, rounds: int
) -> None:
    scene.settings = RefinementSettings(rounds=0, trajectories=1)
    scene.client.model = ModelInfo('m', 'r', 'none', 'abc', True, 'calibration', known)
    scene.event(TaskPhase.START)
    scene.film(1.0)
    scene.event(TaskPhase.END)
    scene.film(SETTLE + 0.2)
    session = scene.client.named('submit')[0][1]
    scene.desk.handle(RoundDone(session, (answer(0, 0, 0.6),)))
    assert scene.progress[-1].diagnosis.settings.rounds == rounds


def test_a_clock_that_stands_still_does_not_hold_a_task_back(scene: Scene) -> None:
    scene.event(TaskPhase.START)
    scene.film(1.0)
    scene.now += 1
    scene.event(TaskPhase.END)
    scene.steady += int((SETTLE + STALLED_CLOCK_SECONDS) * SECOND)
    scene.desk.tick(scene.now)
    assert scene.client.named('submit') == []
    scene.steady += 1
    scene.desk.tick(scene.now)
    assert scene.client.named('submit') == [('submit', '1', 'a')]


def test_a_task_without_frames_is_answered_at_once(scene: Scene) -> None:
    scene.event(TaskPhase.START)
    scene.event(TaskPhase.END)
    scene.now += SECOND
    scene.desk.tick(scene.now)
    (outcome,) = scene.outcomes
    assert outcome.status is ReportStatus.NO_FRAMES
    assert scene.client.calls == [('open', '1'), ('cancel', '1')]


def test_a_task_canceled_before_its_clip_is_complete_never_reaches_the_model(
    scene: Scene,
) -> None:
    scene.event(TaskPhase.START)
    scene.film(1.0)
    scene.event(TaskPhase.END)
    scene.desk.cancel('a')
    scene.film(1.0)
    (outcome,) = scene.outcomes
    assert outcome.status is ReportStatus.CANCELED
    assert scene.client.named('submit') == []


def test_a_task_that_begins_anew_gives_up_its_first_session(scene: Scene) -> None:
    scene.event(TaskPhase.START)
    scene.film(1.0)
    scene.now -= 30 * SECOND
    scene.event(TaskPhase.START)
    assert ('cancel', '1') in scene.client.calls
    assert scene.client.named('open') == [('open', '1'), ('open', '2')]


def test_an_error_on_the_way_to_the_model_is_an_answer(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene.client, 'submit', lambda *_: 1 / 0)
    for task_id in ('a', 'b'):
        scene.event(TaskPhase.START, task_id)
    scene.film(1.0)
    for task_id in ('a', 'b'):
        scene.event(TaskPhase.END, task_id)
    scene.film(1.0)
    assert [outcome.status for outcome in scene.outcomes] == [ReportStatus.MODEL_ERROR] * 2
    assert 'ZeroDivisionError' in scene.outcomes[0].text
    scene.desk.close()
    assert len(scene.outcomes) == 2


def test_closing_answers_what_is_ended_and_drops_what_runs(scene: Scene) -> None:
    for task_id in ('submitted', 'settling', 'running'):
        scene.event(TaskPhase.START, task_id)
    scene.film(1.0)
    scene.event(TaskPhase.END, 'submitted')
    scene.film(1.0)
    scene.event(TaskPhase.END, 'settling')
    scene.desk.close()
    assert sorted(outcome.episode.task.task_id for outcome in scene.outcomes) == [
        'settling',
        'submitted',
    ]
    assert {outcome.status for outcome in scene.outcomes} == {ReportStatus.CANCELED}
    assert {call[1] for call in scene.client.named('cancel')} == {'1', '2', '3'}
