# SPDX-License-Identifier: Apache-2.0
"""Diagnoser: an Episode in, a Diagnosis out (Algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from armor_ros.episodes.diagnosis import Diagnosis, RefinementSettings, Verdict
from armor_ros.episodes.episode import Episode
from armor_ros.inference.algorithm2 import (
    OnDetection,
    OnRound,
    Refinement,
    check_settings,
    refine,
)
from armor_ros.inference.episode_input import episode_input
from armor_ros.inference.errors import Canceled
from armor_ros.inference.policy import ModelPolicy
from armor_ros.model.armor import ArmorModel, Prefix

# Table 5 of the paper.
PAPER_SETTINGS = RefinementSettings()


class Diagnoser:
    """
    Answers for one model, one episode at a time.

    The same episode and settings give an equal Diagnosis. Not thread-safe by promise: use one
    thread a Diagnoser.
    """

    def __init__(self, model: ArmorModel) -> None:
        self.model = model.eval()

    def diagnose(
        self,
        episode: Episode,
        settings: RefinementSettings = PAPER_SETTINGS,
        *,
        on_round: OnRound | None = None,
        on_detection: OnDetection | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Diagnosis:
        """
        Run Algorithm 2 on an episode.

        ``on_detection`` is told round 0's failure probability before any text is generated,
        ``on_round`` the answers of all trajectories after each round. ``should_stop`` is asked
        before each step of the decoder.

        Raises Canceled when ``should_stop`` is true, ModelError when the model's numbers are not
        finite, ArmorError on bad settings or an episode without frames.
        """
        check_settings(settings)
        stop = should_stop if should_stop is not None else _never
        with torch.inference_mode():
            prefix = self.prefill(episode, settings, stop)
            policy = ModelPolicy(self.model, prefix, settings, stop)
            outcome = refine(policy, settings, on_round, on_detection)
        return self._diagnosis(outcome, settings)

    def prefill(
        self,
        episode: Episode,
        settings: RefinementSettings,
        should_stop: Callable[[], bool],
    ) -> Prefix:
        """Compute what all rounds and trajectories on an episode share."""
        if should_stop():
            raise Canceled
        model = self.model
        seen = episode_input(
            episode, model.config, model.geometry, settings.input_mode, settings.camera
        )
        tokens = model.prompts.prefix(episode.task.instruction, seen.views)
        return model.prefill(tokens, seen.vision)

    def _diagnosis(self, outcome: Refinement, settings: RefinementSettings) -> Diagnosis:
        """Report the selected answer with everything that led to it."""
        answer = outcome.trace[outcome.selected]
        return Diagnosis(
            verdict=Verdict.FAILURE if answer.failed else Verdict.SUCCESS,
            failure_probability=answer.failure_probability,
            explanation=answer.explanation,
            detection_entropy=answer.detection_entropy,
            explanation_entropy=answer.explanation_entropy,
            combined_entropy=answer.combined_entropy,
            selected=outcome.selected,
            trace=outcome.trace,
            settings=settings,
            model=self.model.info,
        )


def _never() -> bool:
    """Never stop."""
    return False
