# SPDX-License-Identifier: Apache-2.0
"""From the model's answer to the verdict: calibrated, and withheld where it is too doubtful."""

from __future__ import annotations

import dataclasses
import logging

from armor_ros.episodes.diagnosis import Diagnosis, InputMode, RefinementSettings, Verdict
from armor_ros.errors import ArmorError
from armor_ros.model.calibration import Calibration

_logger = logging.getLogger(__name__)


class Decision:
    """
    Decides on the verdict of one model's answers.

    With a calibration for the settings in use, the probability of failure becomes the calibrated
    one and an answer that is too doubtful for the target error ABSTAIN. The trace keeps what the
    model said. ``settings.target_error`` 0 means the level that the calibration was made with, 1
    that every answer is given.
    """

    def __init__(
        self, calibration: Calibration | None, input_mode: InputMode, reason: str = ''
    ) -> None:
        """``input_mode`` is what the checkpoint was trained with, ``reason`` why there is none."""
        self._calibration = calibration
        self._input_mode = input_mode
        self._reason = reason or 'the checkpoint has no calibration'
        self._told: set[str] = set()

    def check(self, settings: RefinementSettings, fps: float) -> None:
        """
        Raise ArmorError when an error level is asked for that cannot be promised.

        Because there is no calibration for these settings, or too small a one.
        """
        if not 0 <= settings.target_error <= 1:
            raise ArmorError(
                f'target_error is {settings.target_error}; it must be in [0, 1], 0 for the level '
                'of the calibration'
            )
        if not settings.target_error:
            return
        calibration, reason = self._usable(settings, fps)
        if calibration is not None:
            calibration.check(settings.target_error)
        elif settings.target_error < 1:
            raise ArmorError(
                f'target_error is {settings.target_error:g}, which nothing vouches for: {reason}. '
                'Calibrate with these settings, or set target_error to 0'
            )

    def apply(self, diagnosis: Diagnosis, asked: RefinementSettings, fps: float) -> Diagnosis:
        """
        Return the diagnosis with its calibrated probability and the verdict that follows.

        ``asked`` are the settings asked for; where memory ran out, the diagnosis has others, its
        answer is not calibrated, and if an error level was asked for it is withheld.
        """
        calibration, reason = self._usable(diagnosis.settings, fps)
        if calibration is None:
            self._tell(reason)
            if 0 < asked.target_error < 1:
                diagnosis = dataclasses.replace(diagnosis, verdict=Verdict.ABSTAIN)
            return diagnosis
        level = asked.target_error or calibration.target_error
        probability = calibration.probability(diagnosis.failure_probability)
        failed = diagnosis.trace[diagnosis.selected].failed
        is_certain = calibration.is_certain(probability, failed, level)
        return dataclasses.replace(
            diagnosis,
            verdict=diagnosis.verdict if is_certain else Verdict.ABSTAIN,
            failure_probability=probability,
            calibrated=True,
            target_error=level if level < 1 else 0.0,
        )

    def _usable(self, settings: RefinementSettings, fps: float) -> tuple[Calibration | None, str]:
        """Return the calibration for some settings, or None and why there is none."""
        if self._calibration is None:
            return None, self._reason
        different = self._calibration.why_not(settings, self._input_mode, fps)
        if different:
            return None, f'it is for other settings: {different}'
        return self._calibration, ''

    def _tell(self, reason: str) -> None:
        """Log once why answers are not calibrated; who has calibrated may think they are."""
        if reason not in self._told:
            self._told.add(reason)
            level = logging.INFO if self._calibration is None else logging.WARNING
            _logger.log(level, 'answers are not calibrated: %s', reason)
