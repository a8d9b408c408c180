# SPDX-License-Identifier: Apache-2.0
"""The Diagnosis: what the model says of an episode, round by round (Algorithm 2)."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Texts that a monitor may name as likely; each is searched at every step of the decoder.
MAX_USUAL_EXPLANATIONS = 64
# T_refine of Table 5.
PAPER_ROUNDS = 4
PAPER_TRAJECTORIES = 3


class Verdict(enum.IntEnum):
    """The answer on one task. Values equal the constants of ``FailureReport.msg``."""

    UNKNOWN = 0
    SUCCESS = 1
    FAILURE = 2
    ABSTAIN = 3


class ReportStatus(enum.IntEnum):
    """Why a report says what it says. Values equal the constants of ``FailureReport.msg``."""

    OK = 0
    NO_FRAMES = 1
    STALE_FRAMES = 2
    MODEL_NOT_READY = 3
    TIMEOUT = 4
    QUEUE_FULL = 5
    MODEL_ERROR = 6
    CANCELED = 7


class ReturnPolicy(str, enum.Enum):
    """
    Which round Algorithm 2 returns.

    LAST is the paper's: the round at which refinement stops. BEST is the round with the lowest
    combined entropy.
    """

    LAST = 'last'
    BEST = 'best'


class ExplanationChoice(str, enum.Enum):
    """
    Which trajectory of the returned round is reported.

    PAPER is Algorithm 2's: the one with the lowest combined entropy. AGREEMENT keeps that one's
    label, and of the trajectories with this label takes the one whose explanation, given alone as
    a condition, makes the label likeliest to the detection. CONSENSUS keeps the label, too, and
    takes the explanation that has most words in common with those of the others; of those alone
    that do not contradict the label, if there are such.
    """

    PAPER = 'paper'
    AGREEMENT = 'agreement'
    CONSENSUS = 'consensus'


class InputMode(str, enum.Enum):
    """What the model looks at: one camera's video, or one collage of all (appendix B.1)."""

    CLIP = 'clip'
    COLLAGE = 'collage'


@dataclass(frozen=True, slots=True)
class RefinementSettings:
    """
    The settings of Algorithm 2, with the values of the paper's Table 5, and of what is reported.

    ``rounds`` is T_refine and ``trajectories`` M; 0 are those of the model's calibration (the
    paper's where there is none; see ``settled``). ``entropy_weight`` is lambda,
    ``tolerance`` epsilon (nats), ``temperature`` tau. ``input_mode`` and ``camera`` left at None
    and '' mean what the checkpoint was trained with, and the first camera with frames.
    ``deadline`` is in seconds of inference, after which the best answer so far is reported; 0 is
    none. With one, answers depend on the speed of the machine. ``target_error`` in [0, 1] is the
    share of failures, and of successes, that may get the opposite verdict; what is too doubtful
    for it is ABSTAIN. 0 means the level of the checkpoint's calibration if it has one, 1 that
    every answer is given.
    """

    rounds: int = PAPER_ROUNDS
    trajectories: int = PAPER_TRAJECTORIES
    tolerance: float = 1e-4
    entropy_weight: float = 0.1
    temperature: float = 0.7
    max_new_tokens: int = 80
    return_policy: ReturnPolicy = ReturnPolicy.LAST
    sample_label: bool = False
    seed: int = 0
    input_mode: InputMode | None = None
    camera: str = ''
    deadline: float = 0.0
    target_error: float = 0.0
    explanation_choice: ExplanationChoice = ExplanationChoice.CONSENSUS


@dataclass(frozen=True, slots=True)
class Round:
    """
    One trajectory's answers in one round; rounds and trajectories are numbered from 0.

    Entropies are in nats: ``detection_entropy`` of the two-way label, ``explanation_entropy`` the
    mean over generated tokens, the end token included, of the untempered distributions,
    ``combined_entropy`` = detection + lambda * explanation. ``best`` marks the trajectory with
    the lowest combined entropy of its round (m* in Algorithm 2). ``agreement`` in [0, 1] is the
    probability of this label for the detection whose only condition is this explanation; None
    where it was not asked for (see ExplanationChoice), or time ran out. ``contradicts`` says that
    the explanation speaks of the other outcome, as far as its words tell (see ``TextVerdict``);
    without a calibration that knows such words, none does.
    """

    round: int
    trajectory: int
    failure_probability: float
    failed: bool
    explanation: str
    detection_entropy: float
    explanation_entropy: float
    combined_entropy: float
    best: bool
    agreement: float | None = None
    contradicts: bool = False


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """
    Which model answered.

    ``trained`` is False for weights that were never trained. ``calibration`` is a hash of the
    calibration that was found beside them, '' without; ``rounds`` and ``trajectories`` are those
    that it is for, 0 without.
    """

    model_id: str
    revision: str
    quantization: str
    weights_hash: str
    trained: bool
    calibration: str = ''
    rounds: int = 0
    trajectories: int = 0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """
    The answer of Algorithm 2 on one episode, with every round on record.

    ``selected`` indexes into ``trace``. ``calibrated`` tells whether ``failure_probability`` is
    a calibrated one, ``target_error`` at which error level (0 when it is not).
    ``deadline_reached`` says that this is the best answer that there was when time ran out.
    ``frame_stride`` n says that the clip was too long for the memory set aside, so that only
    every n-th pair of frames, and the last, was looked at. ``late_frames`` counts the frames that
    had been streamed too late, or not at all, to be encoded before the episode ended. ``account``
    is what the model told of the clip before it judged, '' where the checkpoint is not asked to.
    """

    verdict: Verdict
    failure_probability: float
    explanation: str
    detection_entropy: float
    explanation_entropy: float
    combined_entropy: float
    selected: int
    trace: tuple[Round, ...]
    settings: RefinementSettings
    model: ModelInfo
    calibrated: bool = False
    target_error: float = 0.0
    deadline_reached: bool = False
    frame_stride: int = 1
    late_frames: int = 0
    account: str = ''

    @property
    def rounds(self) -> int:
        """Rounds that were run."""
        return 1 + max(entry.round for entry in self.trace)


def settled(settings: RefinementSettings, model: ModelInfo) -> RefinementSettings:
    """Return settings where 0 rounds and trajectories are the model's, or else the paper's."""
    return dataclasses.replace(
        settings,
        rounds=settings.rounds or model.rounds or PAPER_ROUNDS,
        trajectories=settings.trajectories or model.trajectories or PAPER_TRAJECTORIES,
    )


def select_answer(
    trace: Sequence[Round],
    policy: ReturnPolicy,
    choice: ExplanationChoice = ExplanationChoice.PAPER,
) -> int:
    """
    Return the index of the answer that is reported; the earliest among equals.

    ``policy`` decides on the round, ``choice`` on the trajectory.
    """
    last = trace[-1].round
    candidates = [
        position
        for position, answer in enumerate(trace)
        if policy is ReturnPolicy.BEST or answer.round == last
    ]
    best = min(candidates, key=lambda position: trace[position].combined_entropy)
    if choice is ExplanationChoice.PAPER:
        return best
    said = trace[best]
    alike = [
        position
        for position, answer in enumerate(trace)
        if (answer.round, answer.failed) == (said.round, said.failed)
    ]
    if choice is ExplanationChoice.AGREEMENT:
        scores = {
            position: agreement
            for position in alike
            if (agreement := trace[position].agreement) is not None
        }
    else:
        alike = [position for position in alike if not trace[position].contradicts] or alike
        scores = _consensus({position: trace[position].explanation for position in alike})
    if not scores:
        return best
    return min(scores, key=lambda position: (-scores[position], trace[position].combined_entropy))


def _consensus(texts: Mapping[int, str]) -> dict[int, float]:
    """
    Return how much of each text is in the others, on average: the F1 of words, however often.

    The text with the most is the one of least expected loss, were one of the others the truth
    (minimum Bayes risk).
    """
    words = {
        position: Counter(re.findall(r'\w+', text.lower())) for position, text in texts.items()
    }

    def overlap(one: Counter[str], other: Counter[str]) -> float:
        return 2.0 * (one & other).total() / max(1, one.total() + other.total())

    return {
        position: sum(overlap(own, other) for key, other in words.items() if key != position)
        / max(1, len(words) - 1)
        for position, own in words.items()
    }


def diagnosis_of(
    trace: Sequence[Round], settings: RefinementSettings, model: ModelInfo
) -> Diagnosis:
    """Return the diagnosis that some rounds amount to, by the settings' policy and choice."""
    selected = select_answer(trace, settings.return_policy, settings.explanation_choice)
    answer = trace[selected]
    return Diagnosis(
        verdict=Verdict.FAILURE if answer.failed else Verdict.SUCCESS,
        failure_probability=answer.failure_probability,
        explanation=answer.explanation,
        detection_entropy=answer.detection_entropy,
        explanation_entropy=answer.explanation_entropy,
        combined_entropy=answer.combined_entropy,
        selected=selected,
        trace=tuple(trace),
        settings=settings,
        model=model,
    )
