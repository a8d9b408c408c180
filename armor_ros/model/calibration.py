# SPDX-License-Identifier: Apache-2.0
"""
What was learnt on recorded tasks of how far a checkpoint's probabilities can be trusted.

A temperature on the logit makes the probability of failure a calibrated one. Class-wise split
conformal thresholds decide whether an answer is given at all: of the tasks that failed, at most
the target error is called a success, and of those that succeeded at most as many a failure, on
average over calibration sets of tasks like the coming ones (exchangeable with them).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from armor_ros.configuration import config_from_dict
from armor_ros.episodes.config_hash import config_hash
from armor_ros.episodes.diagnosis import InputMode, ModelInfo, RefinementSettings
from armor_ros.errors import ArmorError
from armor_ros.model.weights import CONFIG_FILE

CALIBRATION_FILE = 'armor_calibration.json'
SCHEMA = 1
# Rounds, and trajectories, at most.
MOST_ANSWERS = 255

# As near to 0 and 1 as a probability in single precision can be told from them.
_CLIP = 1e-7
# Settings that make no difference to how often the model is right.
_FREE = ('seed', 'target_error')


@dataclass(frozen=True, slots=True)
class Calibration:
    """
    A calibration of one checkpoint under one choice of settings.

    ``weights_hash`` and ``quantization`` are those of ModelInfo, ``config_hash`` is the hash of
    armor_config.json, ``settings`` as ``settings_record`` gives them; their ``rounds`` and
    ``trajectories`` are those that a checkpoint takes when it is not told how many.
    ``target_error`` is the level meant when none is asked for. ``labels`` says whose word the
    truth was: 'strong' or 'weak' (the robot's own stack). The scores are 1 - the calibrated
    probability of the true label, ascending, of tasks that failed and of tasks that succeeded, one
    of each a recording.
    ``words`` are the weights of a ``TextVerdict``, learned from what people or a simulator said of
    the tasks; empty where too few are explained.
    """

    weights_hash: str
    config_hash: str
    quantization: str
    settings: dict[str, Any]
    temperature: float
    target_error: float
    labels: Literal['strong', 'weak']
    tasks: int
    failure_scores: tuple[float, ...]
    success_scores: tuple[float, ...]
    words: dict[str, float] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ArmorError(f'schema is {self.schema}; this version reads {SCHEMA}')
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ArmorError(f'temperature is {self.temperature}; it must be a positive number')
        check_target_error(self.target_error)
        for name in ('rounds', 'trajectories'):
            value = self.settings.get(name)
            if not (isinstance(value, int) and 1 <= value <= MOST_ANSWERS):
                raise ArmorError(
                    f'settings.{name} is {value!r}; it must be a number from 1 to {MOST_ANSWERS}'
                )
        for name in ('failure_scores', 'success_scores'):
            scores = getattr(self, name)
            if list(scores) != sorted(scores) or not all(0 <= score <= 1 for score in scores):
                raise ArmorError(f'{name} must ascend from 0 to 1')

    @property
    def rounds(self) -> int:
        """Rounds of refinement at most with which it was made, and is to be used."""
        rounds: int = self.settings['rounds']
        return rounds

    @property
    def trajectories(self) -> int:
        """Trajectories with which it was made, and is to be used."""
        trajectories: int = self.settings['trajectories']
        return trajectories

    @property
    def identity(self) -> str:
        """Return a hash of all of it, for the hash of the settings that decide a verdict."""
        return config_hash(self)

    def probability(self, raw: float) -> float:
        """Return the calibrated probability of failure for the one that the model gave."""
        return tempered(raw, self.temperature)

    def is_certain(self, failure_probability: float, failed: bool, target_error: float) -> bool:
        """
        Tell whether an answer may be given at an error level in [0, 1].

        ``failure_probability`` is calibrated. The opposite label must be excluded: less likely
        than it was for all but the share ``target_error`` of the tasks that truly had it. At a
        level of 1 every answer is given. Raises ArmorError when there were too few tasks for it.
        """
        self.check(target_error)
        scores = self.success_scores if failed else self.failure_scores
        return score_of(failure_probability, not failed) > threshold(scores, target_error)

    def check(self, target_error: float) -> None:
        """Raise ArmorError for an error level that the calibration set is too small for."""
        check_target_error(target_error)
        check_size(len(self.failure_scores), len(self.success_scores), target_error)

    def why_not(self, settings: RefinementSettings, input_mode: InputMode, fps: float) -> str:
        """Return why this is no calibration for answers under some settings; '' if it is one."""
        asked = settings_record(settings, input_mode, fps)
        different = [
            f'{name} is {asked.get(name)!r}, and was {self.settings.get(name)!r}'
            for name in sorted(asked.keys() | self.settings.keys())
            if asked.get(name) != self.settings.get(name)
        ]
        return '; '.join(different)


def settings_record(
    settings: RefinementSettings, input_mode: InputMode, fps: float
) -> dict[str, Any]:
    """Return the settings that a calibration depends on, by name, as JSON has them."""
    record: dict[str, Any] = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name not in _FREE
    }
    mode = settings.input_mode or input_mode
    return {
        **record,
        'return_policy': settings.return_policy.value,
        'explanation_choice': settings.explanation_choice.value,
        'input_mode': mode.value,
        'fps': float(fps),
    }


def score_of(failure_probability: float, failed: bool) -> float:
    """Return how badly a label fits a task: 1 - its calibrated probability."""
    return 1 - failure_probability if failed else 1 - (1 - failure_probability)


def tempered(probability: float, temperature: float) -> float:
    """Return a probability with its logit divided by a temperature."""
    clipped = min(max(probability, _CLIP), 1 - _CLIP)
    return 1 / (1 + math.exp(-math.log(clipped / (1 - clipped)) / temperature))


def threshold(scores: Sequence[float], target_error: float) -> float:
    """
    Return the split-conformal quantile of ascending scores.

    A coming task of the same class has a larger score with probability ``target_error`` at most.
    Infinite when there are too few scores for that, negative infinity at an error of 1.
    """
    rank = math.ceil((len(scores) + 1) * (1 - target_error) - 1e-9)
    if rank < 1:
        return -math.inf
    return scores[rank - 1] if rank <= len(scores) else math.inf


def least_count(target_error: float) -> int:
    """Return how many tasks of each class an error level needs at least; it is positive."""
    return math.ceil(1 / target_error - 1e-9) - 1


def check_target_error(target_error: float) -> None:
    """Raise ArmorError for what is no error level that could be promised."""
    if not 0 < target_error <= 1:
        raise ArmorError(f'target_error is {target_error}; it must be above 0 and at most 1')


def check_size(failures: int, successes: int, target_error: float) -> None:
    """Raise ArmorError when so many tasks of each class are too few for an error level."""
    needed = least_count(target_error)
    if min(failures, successes) < needed:
        reachable = 1 / (min(failures, successes) + 1)
        raise ArmorError(
            f'target_error is {target_error:g}, for which {needed} failed and {needed} '
            f'successful tasks of different recordings are needed; the calibration set has '
            f'{failures} failed and {successes} successful ones, enough for an error of '
            f'{reachable:.4g}. Calibrate with more tasks, or accept a larger error'
        )


def read_calibration(folder: Path) -> Calibration | None:
    """Return the calibration beside a checkpoint, None without; ArmorError if it is broken."""
    file = folder / CALIBRATION_FILE
    if not file.is_file():
        return None
    try:
        return config_from_dict(Calibration, json.loads(file.read_text(encoding='utf-8')))
    except (OSError, ValueError, ArmorError) as error:
        raise ArmorError(f'{file}: {error}; remove it, or calibrate anew') from error


def write_calibration(calibration: Calibration, folder: Path) -> Path:
    """Write a calibration beside a checkpoint, in whole or not at all; raises ArmorError."""
    file = folder / CALIBRATION_FILE
    partial = file.with_name(f'.{file.name}.part')
    text = json.dumps(dataclasses.asdict(calibration), indent=1, allow_nan=False) + '\n'
    try:
        partial.write_text(text, encoding='utf-8')
        partial.replace(file)
    except OSError as error:
        raise ArmorError(f'cannot write {file}: {error.strerror or error}') from error
    return file


def calibration_for(folder: Path, info: ModelInfo) -> tuple[Calibration | None, str]:
    """
    Return a folder's calibration for a model loaded from it, or None and why there is none.

    Raises ArmorError when the file is broken.
    """
    calibration = read_calibration(folder)
    if calibration is None:
        return None, 'the checkpoint has none; armor calibrate makes one'
    if calibration.weights_hash != info.weights_hash:
        return None, f'{folder / CALIBRATION_FILE} is for other weights'
    if calibration.config_hash != hash_config(folder):
        return None, f'{folder / CALIBRATION_FILE} is for another {CONFIG_FILE}'
    if calibration.quantization != info.quantization:
        return None, (
            f'{folder / CALIBRATION_FILE} is for quantization {calibration.quantization!r}, not '
            f'{info.quantization!r}'
        )
    return calibration, ''


def hash_config(folder: Path) -> str:
    """Return the SHA-256 (hex) of a checkpoint's armor_config.json, '' without one."""
    file = folder / CONFIG_FILE
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ''
