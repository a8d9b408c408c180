# SPDX-License-Identifier: Apache-2.0
"""Those who answer cases: the model as the robot would run it, and baselines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from armor_ros.episodes.config_hash import config_hash
from armor_ros.episodes.diagnosis import (
    Diagnosis,
    ModelInfo,
    RefinementSettings,
    ReportStatus,
    Round,
)
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.outcome import check_frames
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.errors import ArmorError
from armor_ros.evaluation.baselines.answer import Answer, Baseline
from armor_ros.evaluation.case import Case
from armor_ros.evaluation.prediction import Prediction, Timing, is_finite


class Predictor(Protocol):
    """
    Answers cases.

    ``identity`` tells apart those that may answer differently, ``parallel`` says how many cases
    it takes at once, from several threads.
    """

    identity: str
    parallel: int

    def predict(self, case: Case) -> Prediction:
        """Return the answer; whatever goes wrong with one case is an answer too."""


class EpisodeDiagnoser(Protocol):
    """What evaluation asks of a model; ``armor_ros.inference.diagnoser.Diagnoser`` is one."""

    def diagnose(
        self,
        episode: Episode,
        settings: RefinementSettings,
        *,
        deadline: float | None = None,
        on_round: Callable[[tuple[Round, ...]], None] | None = None,
        on_detection: Callable[[float], None] | None = None,
    ) -> Diagnosis:
        """Return the diagnosis of one episode, cut short ``deadline`` seconds from now."""


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How episodes are cut and diagnosed, and whether pictures of the evidence are written."""

    episodes: EpisodeSettings = field(default_factory=EpisodeSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    pictures: bool = True


class ModelPredictor:
    """Answers by Algorithm 2. ``model`` names the weights, where that matters (see identity)."""

    parallel = 1

    def __init__(
        self,
        diagnoser: EpisodeDiagnoser,
        settings: EvaluationSettings,
        model: ModelInfo | None = None,
        calibration: str = '',
    ) -> None:
        self._diagnoser = diagnoser
        self._settings = settings
        self.identity = config_hash(settings.episodes, settings.refinement, model, calibration)

    def predict(self, case: Case) -> Prediction:
        """Return the diagnosis; without frames, or when the model fails, why there is none."""
        status, text = check_frames(case.episode, case.newest_ns)
        diagnosis: Diagnosis | None = None
        watch = _Stopwatch()
        if status is ReportStatus.OK:
            diagnosis, text = self._diagnose(case.episode, watch)
            status = ReportStatus.OK if diagnosis else ReportStatus.MODEL_ERROR
        episodes = self._settings.episodes
        return Prediction(
            case=case,
            status=status,
            status_text=text,
            diagnosis=diagnosis,
            config_hash=config_hash(episodes, diagnosis.settings, diagnosis.model)
            if diagnosis
            else '',
            timing=watch.timing(),
        )

    def _diagnose(self, episode: Episode, watch: _Stopwatch) -> tuple[Diagnosis | None, str]:
        """Return the diagnosis, or None and a sentence: one bad task is not to cost the others."""
        settings = self._settings.refinement
        try:
            diagnosis = self._diagnoser.diagnose(
                episode,
                settings,
                deadline=settings.deadline or None,
                on_round=watch.note_round,
                on_detection=watch.note_detection,
            )
        except ArmorError as error:
            return None, str(error)
        except Exception as error:
            return None, f'inference failed: {type(error).__name__}: {error}'
        if not is_finite(diagnosis):
            return None, 'the model answered with a value that is not a number'
        return diagnosis, ''


class BaselinePredictor:
    """Answers by a baseline. ``identity`` tells apart baselines of one name."""

    def __init__(
        self, baseline: Baseline, settings: EvaluationSettings, identity: str = ''
    ) -> None:
        self._baseline = baseline
        self._hash = config_hash(settings.episodes, baseline.name)
        self.identity = f'{self._hash}.{identity}'
        self.parallel = baseline.parallel

    def predict(self, case: Case) -> Prediction:
        """Return the answer; where the baseline needs to see something and cannot, why not."""
        status, text = ReportStatus.OK, ''
        answer: Answer | None = None
        watch = _Stopwatch()
        try:
            answer = self._baseline.answer(case.episode)
        except ArmorError as error:
            status, text = check_frames(case.episode, case.newest_ns)
            if status is ReportStatus.OK:
                status, text = ReportStatus.MODEL_ERROR, str(error)
        return Prediction(
            case=case,
            status=status,
            status_text=text,
            baseline=self._baseline.name,
            answer=answer,
            config_hash=self._hash,
            timing=watch.timing(),
        )


class _Stopwatch:
    """Takes the times of one inference, from when it is made; see ``Timing``."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._detection: float | None = None
        self._rounds: list[float] = []

    def note_detection(self, probability: float) -> None:
        """Note that round 0's detection is there, again when inference had to start anew."""
        self._detection = time.perf_counter() - self._began
        self._rounds.clear()

    def note_round(self, answers: tuple[Round, ...]) -> None:
        """Note that a round is complete."""
        self._rounds.append(time.perf_counter() - self._began - sum(self._rounds))

    def timing(self) -> Timing:
        """Return the times up to now."""
        seconds = time.perf_counter() - self._began
        return Timing(seconds, self._detection, tuple(self._rounds))
