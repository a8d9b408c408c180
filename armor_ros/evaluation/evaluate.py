# SPDX-License-Identifier: Apache-2.0
"""Recordings in, predictions.jsonl and pictures of the evidence out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from armor_ros.datasets.bags import Bag
from armor_ros.episodes.collage import render_clip, render_collage, save_picture
from armor_ros.episodes.config_hash import config_hash
from armor_ros.episodes.diagnosis import Diagnosis, RefinementSettings, ReportStatus, Round
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.outcome import check_frames
from armor_ros.episodes.recorder import CameraConfig
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.text import safe_file_name
from armor_ros.errors import ArmorError
from armor_ros.evaluation.bag_episodes import BagEpisodes
from armor_ros.evaluation.case import Case
from armor_ros.evaluation.prediction import Prediction, Timing, is_finite

PREDICTIONS = 'predictions.jsonl'
EVIDENCE = 'evidence'
# Reading is reported this often at most, in parts of a recording.
_STEP = 0.01


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


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """
    How far an evaluation is.

    ``position`` is the part of all recordings that has been read, from 0 to 1; ``tasks`` counts
    the lines written; ``prediction`` is the one just written, None between.
    """

    bag: Path
    position: float
    tasks: int
    prediction: Prediction | None = None


@dataclass(frozen=True, slots=True)
class EvaluationSummary:
    """
    What an evaluation gave.

    ``verdicts`` and ``statuses`` count lines by name; ``problems`` are sentences on what was
    wrong with the recordings but could be passed over, each with its recording and how often;
    ``failures`` are sentences on recordings that gave no line at all.
    """

    predictions: Path
    tasks: int
    verdicts: dict[str, int]
    statuses: dict[str, int]
    disagreements: int
    problems: tuple[tuple[Path, str, int], ...]
    failures: tuple[str, ...]


def evaluate_bags(
    bags: Sequence[str | Path],
    diagnoser: EpisodeDiagnoser,
    settings: EvaluationSettings,
    output: str | Path,
    cameras: Sequence[CameraConfig] | None = None,
    on_progress: Callable[[EvaluationProgress], None] | None = None,
) -> EvaluationSummary:
    """
    Give every task of some recordings the verdict that the robot would have given.

    Writes ``output``/predictions.jsonl, one line a task in the order of their completion, and a
    picture of each task's evidence below ``output``/evidence. The same input gives the same bytes,
    the ``timing`` of each line apart. ``cameras`` None means those found in each recording.

    A task without usable frames, and one on which the model fails, is a line with the verdict
    UNKNOWN. A recording without tasks, or one that cannot be read, is told in ``failures``; when
    there is no other, ArmorError says why.
    """
    if not bags:
        raise ArmorError('no recordings were given; name at least one rosbag2 folder or file')
    _check_camera(settings.refinement.camera, cameras)
    run = _Run(diagnoser, settings, Path(output), cameras, on_progress, len(bags))
    return run.evaluate([Path(bag) for bag in bags])


def _check_camera(name: str, cameras: Sequence[CameraConfig] | None) -> None:
    if name and cameras is not None and name not in {camera.name for camera in cameras}:
        known = ', '.join(camera.name for camera in cameras)
        raise ArmorError(f'the primary camera {name!r} is none of the cameras: {known}')


class Stopwatch:
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


class _Run:
    """One evaluation on its way."""

    def __init__(
        self,
        diagnoser: EpisodeDiagnoser,
        settings: EvaluationSettings,
        output: Path,
        cameras: Sequence[CameraConfig] | None,
        on_progress: Callable[[EvaluationProgress], None] | None,
        bag_count: int,
    ) -> None:
        self._diagnoser = diagnoser
        self._settings = settings
        self._output = output
        self._cameras = cameras
        self._on_progress = on_progress or (lambda progress: None)
        self._bag_count = bag_count
        self._bags_done = 0
        self._tasks = 0
        self._told = -1.0
        self._verdicts: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._disagreements = 0
        self._problems: list[tuple[Path, str, int]] = []
        self._failures: list[str] = []
        self._pictures: Counter[str] = Counter()

    def evaluate(self, bags: Sequence[Path]) -> EvaluationSummary:
        """Evaluate all recordings, and write as it goes: an interrupted run leaves its lines."""
        path = self._output / PREDICTIONS
        try:
            self._output.mkdir(parents=True, exist_ok=True)
            with path.open('w', encoding='utf-8', errors='backslashreplace') as file:
                for bag in bags:
                    self._try_bag(bag, file)
                    self._bags_done += 1
        except OSError as error:
            raise ArmorError(
                f'cannot write to {self._output}: {error.strerror or error}; choose another '
                'output folder or make room'
            ) from error
        if not self._tasks:
            raise ArmorError('\n'.join(self._failures))
        return EvaluationSummary(
            predictions=path,
            tasks=self._tasks,
            verdicts=dict(sorted(self._verdicts.items())),
            statuses=dict(sorted(self._statuses.items())),
            disagreements=self._disagreements,
            problems=tuple(self._problems),
            failures=tuple(self._failures),
        )

    def _try_bag(self, path: Path, file: IO[str]) -> None:
        before = self._tasks
        try:
            with Bag(path) as bag:
                try:
                    episodes = self._evaluate_bag(path, bag, file)
                finally:
                    self._problems += [(path, *item) for item in sorted(bag.problems.items())]
                if self._tasks == before:
                    self._failures.append(episodes.why_no_task())
        except ArmorError as error:
            self._failures.append(str(error))

    def _evaluate_bag(self, path: Path, bag: Bag, file: IO[str]) -> BagEpisodes:
        def tell_position(part: float) -> None:
            position = (self._bags_done + min(1.0, part)) / self._bag_count
            if position >= self._told + _STEP / self._bag_count:
                self._told = position
                self._on_progress(EvaluationProgress(path, position, self._tasks))

        episodes = BagEpisodes(bag, self._settings.episodes, self._cameras, tell_position)
        for episode in episodes:
            prediction = self._predict(path, episode, episodes.newest_ns())
            file.write(prediction.to_json() + '\n')
            file.flush()
            self._count(prediction)
            self._on_progress(EvaluationProgress(path, self._told, self._tasks, prediction))
        return episodes

    def _count(self, prediction: Prediction) -> None:
        self._tasks += 1
        self._verdicts[prediction.verdict.name] += 1
        self._statuses[prediction.status.name] += 1
        self._disagreements += prediction.disagrees

    def _predict(self, bag: Path, episode: Episode, newest_ns: dict[str, int]) -> Prediction:
        status, text = check_frames(episode, newest_ns)
        diagnosis: Diagnosis | None = None
        watch = Stopwatch()
        if status is ReportStatus.OK:
            diagnosis, text = self._diagnose(episode, watch)
            status = ReportStatus.OK if diagnosis else ReportStatus.MODEL_ERROR
        settings = self._settings
        return Prediction(
            case=Case(episode, bag.resolve().name),
            status=status,
            status_text=text,
            diagnosis=diagnosis,
            config_hash=config_hash(settings.episodes, diagnosis.settings, diagnosis.model)
            if diagnosis
            else '',
            picture=self._save_picture(bag, episode) if episode.frame_count else '',
            timing=watch.timing(),
        )

    def _diagnose(self, episode: Episode, watch: Stopwatch) -> tuple[Diagnosis | None, str]:
        """Return the diagnosis, or None and a sentence: one bad task is not to cost the others."""
        try:
            settings = self._settings.refinement
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

    def _save_picture(self, bag: Path, episode: Episode) -> str:
        """Write what the verdict rests on; return its path relative to the output folder."""
        if not self._settings.pictures:
            return ''
        name = safe_file_name(episode.task.task_id)
        self._pictures[name] += 1
        if self._pictures[name] > 1:
            name = f'{name}.{self._pictures[name]}'
        relative = f'{EVIDENCE}/{name}.jpg'
        try:
            picture = render_collage(episode) if len(episode.clips) > 1 else render_clip(episode)
            save_picture(self._output / relative, picture)
        except ArmorError as error:
            # A verdict is worth more than its picture.
            self._problems.append((bag, str(error), 1))
            return ''
        return relative
