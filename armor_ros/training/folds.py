# SPDX-License-Identifier: Apache-2.0
"""Cutting samples into folds that keep recordings whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from armor_ros.datasets.manifest import Sample
from armor_ros.training.recipe import DataRecipe


def fold_numbers(samples: Sequence[Sample], folds: int, seed: int) -> list[int]:
    """
    Return the fold of each sample, from 0; folds have equally many recordings, but for one.

    Samples of one group or recording share a fold; which, the seed decides.
    """
    names = [sample.group or sample.episode or sample.id for sample in samples]

    def rank(name: str) -> bytes:
        return hashlib.sha256(f'{seed}/fold/{name}'.encode('utf-8', 'surrogatepass')).digest()

    order = {name: index for index, name in enumerate(sorted({*names}, key=rank))}
    return [order[name] % folds for name in names]


def without_fold(samples: Sequence[Sample], recipe: DataRecipe) -> list[Sample]:
    """Return the samples without the fold that a recipe leaves out; all where it has none."""
    if not recipe.folds:
        return list(samples)
    folds = fold_numbers(samples, recipe.folds, recipe.seed)
    return [own for own, fold in zip(samples, folds, strict=True) if fold != recipe.left_out]
