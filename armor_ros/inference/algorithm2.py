# SPDX-License-Identifier: Apache-2.0
"""
Algorithm 2: refine M trajectories until the best one's entropy stops falling.

Only the algorithm is here; what a trajectory answers comes from a ``Policy``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from armor_ros.episodes.diagnosis import (
    ExplanationChoice,
    RefinementSettings,
    Round,
    select_answer,
)
from armor_ros.episodes.text_verdict import TextVerdict
from armor_ros.errors import ArmorError
from armor_ros.inference.errors import ModelError, OutOfTime
from armor_ros.inference.sampling import uniforms
from armor_ros.model.prompts import PreviousAnswer

OnRound = Callable[[tuple[Round, ...]], None]
OnDetection = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Detection:
    """The label's distribution: probability of failure, and its entropy in nats."""

    failure_probability: float
    entropy: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """A generated explanation and the mean entropy of its tokens in nats."""

    text: str
    entropy: float


class Policy(Protocol):
    """pi_theta of Algorithm 2, on one clip; answers all trajectories of a round at once."""

    def detect(self, previous: Sequence[PreviousAnswer]) -> list[Detection]:
        """Return the label's distribution given each trajectory's previous answer."""
        ...

    def explain(self, previous: Sequence[PreviousAnswer], round_index: int) -> list[Explanation]:
        """Return a sampled explanation given each trajectory's previous answer."""
        ...


@dataclass(frozen=True, slots=True)
class Refinement:
    """
    All rounds of all trajectories in order, and the index of the one returned.

    ``deadline_reached`` when refinement ended because time did.
    """

    trace: tuple[Round, ...]
    selected: int
    deadline_reached: bool = False


def refine(
    policy: Policy,
    settings: RefinementSettings,
    on_round: OnRound | None = None,
    on_detection: OnDetection | None = None,
    out_of_time: Callable[[], bool] | None = None,
    verdict: TextVerdict | None = None,
) -> Refinement:
    """
    Run Algorithm 2; rounds are numbered from 0.

    In round 0 no trajectory has a previous answer, so the label's distribution is computed once
    and ``on_detection`` is told its failure probability before any explanation is. Refinement
    stops when the lowest combined entropy of a round is not below the lowest so far by more than
    ``settings.tolerance``, or after ``settings.rounds`` rounds; or when ``out_of_time`` is true
    after a round, or the policy raises OutOfTime in a later one, which is then left out.
    ``verdict`` tells which explanations contradict their label; that only matters to the choice
    among those of a round.
    """
    check_settings(settings)
    previous = [PreviousAnswer()] * settings.trajectories
    lowest = math.inf
    trace: list[Round] = []
    is_late = False
    for index in range(settings.rounds):
        try:
            answers = _round(policy, previous, index, settings, on_detection)
        except OutOfTime:
            if not trace:
                raise
            is_late = True
            break
        if verdict is not None:
            answers = tuple(_checked(answer, verdict) for answer in answers)
        trace.extend(answers)
        if on_round is not None:
            on_round(answers)
        is_late = out_of_time is not None and out_of_time()
        best = min(answer.combined_entropy for answer in answers)
        if is_late or best >= lowest - settings.tolerance:
            break
        lowest = best
        previous = [PreviousAnswer(answer.failed, answer.explanation) for answer in answers]
    selected = select_answer(trace, settings.return_policy, settings.explanation_choice)
    return Refinement(tuple(trace), selected, is_late)


def _round(
    policy: Policy,
    previous: Sequence[PreviousAnswer],
    index: int,
    settings: RefinementSettings,
    on_detection: OnDetection | None,
) -> tuple[Round, ...]:
    """Ask all trajectories once."""
    if index == 0:
        detections = policy.detect(previous[:1]) * settings.trajectories
        if on_detection is not None:
            on_detection(detections[0].failure_probability)
    else:
        detections = policy.detect(previous)
    answers = _score(detections, policy.explain(previous, index), index, settings)
    if settings.explanation_choice is ExplanationChoice.AGREEMENT and len(answers) > 1:
        return _with_agreement(policy, answers)
    return answers


def _with_agreement(policy: Policy, answers: tuple[Round, ...]) -> tuple[Round, ...]:
    """
    Ask the detection about each explanation alone, and note how likely it finds the own label.

    Not a part of Algorithm 2: it changes neither what is conditioned on nor when refinement
    stops. When there is no time left for it, the answers stay as they are.
    """
    try:
        detections = policy.detect([PreviousAnswer(None, each.explanation) for each in answers])
    except OutOfTime:
        return answers
    agreeing = []
    for answer, detection in zip(answers, detections, strict=True):
        probability = detection.failure_probability
        if not math.isfinite(probability):
            raise ModelError(
                f'round {answer.round}, trajectory {answer.trajectory}: the failure probability '
                'given the explanation is not finite'
            )
        agreement = probability if answer.failed else 1 - probability
        agreeing.append(dataclasses.replace(answer, agreement=agreement))
    return tuple(agreeing)


def _checked(answer: Round, verdict: TextVerdict) -> Round:
    """Note whether an answer's explanation speaks of the other outcome."""
    contradicts = verdict.agrees(answer.explanation, not answer.failed)
    return dataclasses.replace(answer, contradicts=contradicts)


def check_settings(settings: RefinementSettings) -> None:
    """Raise ArmorError when a setting is out of its range; they must be ``settled``."""
    for name in ('rounds', 'trajectories', 'max_new_tokens'):
        value = getattr(settings, name)
        if value < 1:
            raise ArmorError(f'{name} is {value}; it must be at least 1')
    for name in ('tolerance', 'entropy_weight', 'temperature'):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= 0):
            raise ArmorError(f'{name} is {value}; it must be a number of at least 0')


def _score(
    detections: Sequence[Detection],
    explanations: Sequence[Explanation],
    index: int,
    settings: RefinementSettings,
) -> tuple[Round, ...]:
    """Put a round's answers on record and mark the one with the lowest combined entropy."""
    answers = []
    for trajectory, (detection, explanation) in enumerate(
        zip(detections, explanations, strict=True)
    ):
        combined = detection.entropy + settings.entropy_weight * explanation.entropy
        if not (math.isfinite(combined) and math.isfinite(detection.failure_probability)):
            raise ModelError(
                f'round {index}, trajectory {trajectory}: the entropy or the failure '
                'probability is not finite'
            )
        answers.append(
            Round(
                round=index,
                trajectory=trajectory,
                failure_probability=detection.failure_probability,
                failed=_label(detection.failure_probability, index, trajectory, settings),
                explanation=explanation.text,
                detection_entropy=detection.entropy,
                explanation_entropy=explanation.entropy,
                combined_entropy=combined,
                best=False,
            )
        )
    best = min(range(len(answers)), key=lambda m: answers[m].combined_entropy)
    answers[best] = dataclasses.replace(answers[best], best=True)
    return tuple(answers)


def _label(probability: float, index: int, trajectory: int, settings: RefinementSettings) -> bool:
    """Return whether the answer is "failed": the likelier label (a tie fails), or a sample."""
    if not settings.sample_label:
        return probability >= 0.5
    return float(uniforms(settings.seed, 'label', index, trajectory, 1)[0]) < probability
