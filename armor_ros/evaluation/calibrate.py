# SPDX-License-Identifier: Apache-2.0
"""
Calibration of a checkpoint on a run over labelled tasks.

The number of rounds is chosen first (``calibrate_rounds``); all else is about the answers within
so many. A temperature is fitted to the logit of the final answer's probability, and class-wise
split conformal scores are taken from the same tasks: dividing logits by a temperature keeps their
order, so the thresholds promise what they would without it. Choosing the rounds on these tasks
too favours them a little. Tasks must be like the coming ones, and the model must not have been
trained on them.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize

from armor_ros.configuration import config_from_dict
from armor_ros.episodes.diagnosis import RefinementSettings, ReturnPolicy
from armor_ros.episodes.text_verdict import TextVerdict
from armor_ros.errors import ArmorError
from armor_ros.evaluation.calibrate_rounds import RoundsChoice, check_rounds, choose_rounds
from armor_ros.evaluation.doubt import BINS, equal_mass_bins, negative_log_likelihood
from armor_ros.evaluation.intervals import Array, Flags
from armor_ros.evaluation.lines import Line, answer_within, cluster_of, has_reference
from armor_ros.model.calibration import (
    CALIBRATION_FILE,
    Calibration,
    check_size,
    check_target_error,
    hash_config,
    score_of,
    settings_record,
    tempered,
)
from armor_ros.model.config import ArmorConfig, read_config
from armor_ros.model.weights import CONFIG_FILE, check_weights, hash_weights

TARGET_ERROR = 0.1
# A temperature outside says that there is something else wrong than confidence.
SMALLEST_TEMPERATURE = 0.05
LARGEST_TEMPERATURE = 20.0
# Explained tasks of each outcome that it takes to learn which words tell of it, and how many of
# them have to use a word.
_EXPLAINED = 20
_LEAST_USED = 3


@dataclass(frozen=True)
class CalibrationSummary:
    """
    A calibration, and what it did on the tasks that it was made from.

    ``failures`` and ``successes`` count tasks; ``left_out`` counts the others by reason. The
    errors (negative log-likelihood in nats, expected calibration error) are before and after;
    ``answered`` is the share of the tasks that would get a verdict. ``rounds`` are the scores by
    number of rounds; the calibration is for the chosen number, unless another was asked for.
    """

    calibration: Calibration
    failures: int
    successes: int
    left_out: dict[str, int]
    nll: tuple[float, float]
    ece: tuple[float, float]
    answered: float
    rounds: RoundsChoice


@dataclass(frozen=True, slots=True)
class CheckpointIdentity:
    """What a calibration belongs to: a checkpoint's files and what it looks at."""

    weights_hash: str
    config_hash: str
    config: ArmorConfig


def identify_checkpoint(folder: Path) -> CheckpointIdentity:
    """Return what identifies a local checkpoint; raises ArmorError when it is none."""
    if not folder.is_dir():
        raise ArmorError(
            f'there is no checkpoint folder {folder}; a calibration is kept beside the weights, '
            'so give a local folder, for a model of the hub a copy of it'
        )
    check_weights(folder)
    file = folder / CONFIG_FILE
    config = read_config(file) if file.is_file() else ArmorConfig()
    return CheckpointIdentity(hash_weights(folder), hash_config(folder), config)


def calibrate(
    lines: Sequence[Line],
    checkpoint: CheckpointIdentity,
    *,
    target_error: float = TARGET_ERROR,
    weak: bool = False,
    rounds: int = 0,
) -> CalibrationSummary:
    """
    Calibrate a checkpoint on lines that it has answered.

    Tasks without an answer or a label are left out, and those with a weak label unless ``weak``.
    ``rounds`` is the number of rounds to calibrate for, 0 to choose it (``choose_rounds``).
    Raises ArmorError for predictions of other weights, for more rounds than the run was allowed,
    and when there are too few tasks, of different recordings, of one class for the target error.
    """
    check_target_error(target_error)
    chosen, left_out = _choose(lines, weak)
    _check_weights(chosen, checkpoint)
    chosen, settings = _of_one_kind(chosen, checkpoint, left_out)
    failed = np.array([line['label'] == 'failure' for line in chosen], np.bool_)
    kept = {label: _one_a_recording(chosen, failed == label) for label in (True, False)}
    check_size(len(kept[True]), len(kept[False]), target_error)
    if not kept[True] or not kept[False]:
        raise ArmorError('there must be tasks that failed and tasks that succeeded')
    policy = ReturnPolicy(settings['return_policy'])
    choice = choose_rounds(chosen, policy)
    if rounds:
        check_rounds(rounds, settings['rounds'])
    settings = {**settings, 'rounds': rounds or choice.rounds}
    answers = [_answer(line, settings['rounds'], policy) for line in chosen]
    raw = np.array([answer['failure_probability'] for answer in answers])
    temperature = fit_temperature(raw, failed)
    probability = np.array([tempered(value, temperature) for value in raw])
    calibration = Calibration(
        weights_hash=checkpoint.weights_hash,
        config_hash=checkpoint.config_hash,
        quantization=chosen[0]['model']['quantization'],
        settings=settings,
        temperature=temperature,
        target_error=target_error,
        labels='weak' if any(line.get('label_weak') for line in chosen) else 'strong',
        tasks=len(chosen),
        failure_scores=_scores(probability, kept[True], True),
        success_scores=_scores(probability, kept[False], False),
        words=_words(chosen),
    )
    given = [
        calibration.is_certain(float(value), bool(answer['failed']), target_error)
        for value, answer in zip(probability, answers, strict=True)
    ]
    return CalibrationSummary(
        calibration=calibration,
        failures=int(failed.sum()),
        successes=int((~failed).sum()),
        left_out=dict(sorted(left_out.items())),
        nll=(_nll(raw, failed), _nll(probability, failed)),
        ece=(_ece(raw, failed), _ece(probability, failed)),
        answered=float(np.mean(given)),
        rounds=choice,
    )


def _words(lines: Sequence[Line]) -> dict[str, float]:
    """Return the weights of words that tell outcomes apart; none where few are explained."""
    told = [(line['label_explanation'], line['label'] == 'failure')
            for line in lines if has_reference(line)]  # fmt: skip
    if min(sum(failed is outcome for _, failed in told) for outcome in (True, False)) < _EXPLAINED:
        return {}
    weights = TextVerdict.learn(told, least=_LEAST_USED).weights
    return {word: round(weight, 4) for word, weight in weights.items()}


def fit_temperature(raw: Array, failed: Flags) -> float:
    """
    Return the temperature of the logit with the least negative log-likelihood.

    Labels are softened as in Platt's method, to (n + 1) / (n + 2) of the class's n tasks, so that
    a set without a single error does not ask for certainty.
    """
    failures, successes = int(failed.sum()), int((~failed).sum())
    target = np.where(failed, (failures + 1) / (failures + 2), 1 / (successes + 2))
    # temperature 1 clips as inference does
    clipped = np.array([tempered(float(value), 1.0) for value in raw])
    logit = np.log(clipped / (1 - clipped))

    def loss(log_temperature: float) -> float:
        scaled = logit / np.exp(log_temperature)
        # -log sigmoid(x) = log(1 + exp(-x)), without overflow
        against, in_favour = np.logaddexp(0, scaled), np.logaddexp(0, -scaled)
        return float(np.mean(target * in_favour + (1 - target) * against))

    bounds = (np.log(SMALLEST_TEMPERATURE), np.log(LARGEST_TEMPERATURE))
    result = optimize.minimize_scalar(
        loss, bounds=bounds, method='bounded', options={'xatol': 1e-7}
    )
    return round(float(np.exp(result.x)), 4)


def check_free(folder: Path, *, force: bool) -> None:
    """Raise ArmorError when a checkpoint has a calibration that is not to be replaced."""
    if (folder / CALIBRATION_FILE).exists() and not force:
        raise ArmorError(
            f'{folder / CALIBRATION_FILE} exists; give --force to replace the calibration'
        )


def _choose(lines: Sequence[Line], weak: bool) -> tuple[list[Line], Counter[str]]:
    """Return the lines to calibrate on, and count the others by reason."""
    chosen, left_out = [], Counter[str]()
    for line in lines:
        if not line['label']:
            left_out['no label'] += 1
        elif line.get('label_weak') and not weak:
            left_out["a weak label (the robot's own word; --weak takes it)"] += 1
        elif line['verdict'] == 'UNKNOWN' or not line.get('trace'):
            left_out['no answer by the model'] += 1
        elif not line.get('settings'):
            left_out['no record of the settings'] += 1
        else:
            chosen.append(line)
    if not chosen:
        reasons = '; '.join(f'{count} with {reason}' for reason, count in left_out.items())
        raise ArmorError(f'no task can be calibrated on: {reasons}')
    return chosen, left_out


def _check_weights(lines: Sequence[Line], checkpoint: CheckpointIdentity) -> None:
    for line in lines:
        if (line.get('model') or {}).get('weights_hash') != checkpoint.weights_hash:
            raise ArmorError(
                f'task {line["task_id"]!r} was answered by other weights than the '
                "checkpoint's; give the run of this checkpoint"
            )


def _of_one_kind(
    lines: Sequence[Line], checkpoint: CheckpointIdentity, left_out: Counter[str]
) -> tuple[list[Line], dict[str, Any]]:
    """Return the lines answered with the commonest settings and quantization, and these."""
    kinds = [_kind(line, checkpoint) for line in lines]
    common, count = Counter(kinds).most_common(1)[0]
    if count < len(lines):
        left_out['other settings than most (memory ran out, or runs were mixed)'] += (
            len(lines) - count
        )
    chosen = [line for line, kind in zip(lines, kinds, strict=True) if kind == common]
    settings: dict[str, Any] = json.loads(common)['settings']
    return chosen, settings


def _kind(line: Line, checkpoint: CheckpointIdentity) -> str:
    recorded = dict(line['settings'])
    fps = recorded.pop('fps')
    known = {field.name for field in dataclasses.fields(RefinementSettings)}
    settings = config_from_dict(
        RefinementSettings, {name: value for name, value in recorded.items() if name in known}
    )
    record = settings_record(settings, checkpoint.config.input_mode, fps)
    return json.dumps(
        {'settings': record, 'quantization': line['model']['quantization']}, sort_keys=True
    )


def _answer(line: Line, rounds: int, policy: ReturnPolicy) -> Line:
    """Return the answer within so many rounds, as the model gave it."""
    answer = answer_within(line, rounds, policy)
    assert answer is not None, 'lines without an answer were left out'
    return answer


def _one_a_recording(lines: Sequence[Line], among: Flags) -> list[int]:
    """Return indices of tasks no two of which are of one recording; the choice is random."""
    order = np.random.default_rng(0).permutation(len(lines))
    chosen: dict[str, int] = {}
    for index in order:
        if among[index]:
            chosen.setdefault(cluster_of(lines[index]), int(index))
    return sorted(chosen.values())


def _scores(probability: Array, chosen: Sequence[int], failed: bool) -> tuple[float, ...]:
    return tuple(sorted(score_of(float(probability[index]), failed) for index in chosen))


def _nll(probability: Array, failed: Flags) -> float:
    return float(negative_log_likelihood(probability, failed).mean())


def _ece(probability: Array, failed: Flags) -> float:
    bins = equal_mass_bins(probability)
    surplus = np.bincount(bins, probability - failed, minlength=BINS)
    return float(np.abs(surplus).sum() / len(probability))
