# SPDX-License-Identifier: Apache-2.0
"""Whether a data set can teach what a recipe asks for, told before the first step."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from armor_ros.datasets.manifest import Sample, read_manifest
from armor_ros.episodes.text import clean_text
from armor_ros.errors import ArmorError
from armor_ros.model.prompts import PromptEncoder
from armor_ros.training.folds import without_fold
from armor_ros.training.phase_recipe import PhaseRecipe
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.samples import TrainingData, read_samples

_FAULTS_LISTED = 20
_LAST_STEPS = 10
# Twice the loss of even odds.
_GUESSING = 2 * math.log(2)


def read_splits(root: Path, recipe: TrainingRecipe) -> tuple[list[Sample], list[Sample]]:
    """
    Return the samples to learn from and those to try the model on, after a look at the manifest.

    Raises ArmorError naming what is missing and the remedy.
    """
    samples = read_samples(root, recipe.data)
    if recipe.data.split == recipe.data.validation:
        raise ArmorError(
            f'data.validation is {recipe.data.validation!r}, the split that is learned from; name '
            'another, or "" for none'
        )
    _check_labels(samples, recipe)
    for phase in recipe.phases:
        _check_phase(samples, phase)
    _check_folds(samples, recipe)
    others: list[Sample] = []
    if recipe.evaluation.samples and recipe.data.validation:
        others = _read_validation(root, recipe)
    for sample in (*samples, *others):
        _check_views(sample, recipe)
    return samples, others


def _read_validation(root: Path, recipe: TrainingRecipe) -> list[Sample]:
    try:
        return list(read_manifest(root, recipe.data.validation))
    except ArmorError as error:
        raise ArmorError(
            f'{error}; name one in data.validation, or "" to train without trying the model'
        ) from error


def _check_labels(samples: Sequence[Sample], recipe: TrainingRecipe) -> None:
    labels = Counter(sample.label for sample in samples)
    if len(labels) < 2:
        found = next(iter(labels), 'nothing')
        raise ArmorError(
            f'all {len(samples)} samples of the split {recipe.data.split!r} are labelled '
            f'{found!r}; a detector needs both: add the others, or choose another split'
        )


def _check_phase(samples: Sequence[Sample], phase: PhaseRecipe) -> None:
    """Refuse a phase that has nothing to learn from."""
    dense = sum(sample.dense for sample in samples)
    quotes = phase.kind == 'expert' and phase.conditioning == 'paper'
    needs = phase.only_dense or phase.explain or quotes
    if needs and not dense:
        raise ArmorError(
            f'phase {phase.kind} needs explained samples, and of {len(samples)} none is: add '
            'explanations, raise data.dense, or leave the phase out'
        )
    explained = {sample.label for sample in samples if sample.dense}
    if phase.verified and len(explained) < 2:
        raise ArmorError(
            f'phase {phase.kind} verifies explanations, which takes explained failures and '
            f'successes to learn from; explained is {" and ".join(explained) or "none"}. Add the '
            'others, or set verified to 0'
        )
    if phase.asks_state or phase.asks_facts:
        without = [sample.id for sample in samples if sample.state is None]
        if without:
            raise ArmorError(
                f'phase {phase.kind} learns from the state of a simulator, which {len(without)} '
                f'of {len(samples)} samples lack, first {without[0]!r}; set auxiliary to 0 and '
                'leave perception and facts out'
            )


def _check_folds(samples: Sequence[Sample], recipe: TrainingRecipe) -> None:
    """Refuse folds without which the phases before would have nothing to learn from."""
    for index, phase in enumerate(recipe.phases):
        for fold in range(phase.folds):
            data = dataclasses.replace(recipe.data, folds=phase.folds, left_out=fold)
            kept = without_fold(samples, data)
            try:
                _check_labels(kept, recipe)
                for before in recipe.phases[:index]:
                    _check_phase(kept, before)
            except ArmorError as error:
                raise ArmorError(
                    f'without fold {fold} of {phase.folds}, which phase {phase.kind} has answered '
                    f'by a model that has not seen it: {error}. Or take other folds, or none'
                ) from error


def _check_views(sample: Sample, recipe: TrainingRecipe) -> None:
    if not set(sample.views) & set(recipe.data.cameras):
        raise ArmorError(
            f'sample {sample.id!r} has none of the cameras {", ".join(recipe.data.cameras)}; its '
            f'views: {", ".join(sample.views) or "none"}. Name them in data.cameras'
        )


def cut_explanations(
    samples: Sequence[Sample], recipe: TrainingRecipe, prompts: PromptEncoder
) -> list[str]:
    """
    Say of each phase that samples explanations how many of the data's are longer than it lets be.

    A model that has learned to speak as the data does is then quoted cut off in the middle.
    """
    lengths = [
        len(prompts.encode_text(clean_text(sample.explanation)))
        for sample in samples
        if sample.explanation is not None
    ]
    found = []
    for number, phase in enumerate(recipe.phases, 1):
        limit = phase.max_new_tokens
        cut = sum(length > limit for length in lengths)
        if cut and (phase.kind == 'online' or phase.verified):
            found.append(
                f'phase {number}, {phase.kind}: max_new_tokens is {limit}, and {cut} of '
                f'{len(lengths)} explanations have more, up to {max(lengths)}; such texts would '
                f'be cut off where it samples them: give {max(lengths)} or more'
            )
    return found


def worse_than_guessing(steps: Sequence[Mapping[str, Any]]) -> str:
    """
    Say so where the model has come to know less of the labels than one that guesses, '' else.

    ``steps`` are lines of a run's log. A loss of ln 2 is that of even odds, which some batches
    exceed by chance; sums of losses that come apart are far from there, and may be finite.
    """
    last = [float(step['detection']) for step in steps[-_LAST_STEPS:]]
    loss = sum(last) / max(1, len(last))
    if loss <= _GUESSING:
        return ''
    return (
        f'the detection loss of the last steps is {loss:.3g} in the mean, and that of guessing '
        f'{math.log(2):.2f}: training has come apart, and the model is worth nothing. Begin anew '
        'in another folder with lower learning rates'
    )


def read_everything(
    data: Sequence[TrainingData], tell: Callable[[int, int], None], workers: int = 2
) -> None:
    """
    Read all samples once, as training will; ``tell`` hears of (done, all).

    What a cache keeps of them is there afterwards. Raises ArmorError that lists what is wrong.
    """
    places = [(part, index) for part in data for index in range(len(part))]
    faults: list[str] = []

    def read(place: tuple[TrainingData, int]) -> str:
        part, index = place
        try:
            part[index]
        except (ArmorError, OSError, ValueError) as error:
            return f'sample {part.samples[index].id!r}: {error}'
        return ''

    with ThreadPoolExecutor(workers) as pool:
        for done, fault in enumerate(pool.map(read, places), 1):
            tell(done, len(places))
            if fault:
                faults.append(fault)
    if faults:
        listed = faults[:_FAULTS_LISTED]
        more = len(faults) - len(listed)
        if more:
            listed.append(f'and {more} more')
        listed.append('armor dataset validate looks at the whole data set')
        raise ArmorError('\n'.join(listed))
