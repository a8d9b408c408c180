# SPDX-License-Identifier: Apache-2.0
"""
Phases with which several recipes of a study begin are trained once.

What a run is after some phases is a function of these, the data and the seed alone, so a recipe
goes on from the state that another run was kept in, as an interrupted one does: with the same
bits on a processor.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.recipe_files import recipe_digest
from armor_ros.training.run_folder import LOG_FILE
from armor_ros.training.state import STATE_FOLDER

_NAME = 'shared'

# Trains a recipe in a folder, or goes on with it.
Train = Callable[[TrainingRecipe, Path], Path]


def train_sharing(
    recipe: TrainingRecipe,
    folder: Path,
    others: Iterable[TrainingRecipe],
    shared: Path,
    train: Train,
) -> Path:
    """
    Train a recipe in ``folder``, its first phases in ``shared`` where one of ``others`` has them.

    Returns what ``train`` returns. The log of the first phases is copied, so that it tells what
    all of the training took.
    """
    recipes = list(others)
    first = shared_part(recipe, recipes)
    if first is not None and not (folder / STATE_FOLDER).exists():
        place = shared / recipe_digest(first)
        train_sharing(first, place, recipes, shared, train)
        _go_on_from(place, folder)
    return train(recipe, folder)


def shared_part(recipe: TrainingRecipe, others: Iterable[TrainingRecipe]) -> TrainingRecipe | None:
    """Return the longest beginning of a recipe that one of ``others`` has too; None without."""
    counts = [_common(recipe, other) for other in others]
    count = max((count for count in counts if count < len(recipe.phases)), default=0)
    if not count:
        return None
    first = dataclasses.replace(recipe, name=_NAME, phases=recipe.phases[:count])
    if not any(phase.quotes_both for phase in first.phases):
        first = _quoting_nothing(first)
    # else one of the two would have a head for the simulator's state, and the other none
    return first if first.asks_state == recipe.asks_state else None


def _common(recipe: TrainingRecipe, other: TrainingRecipe) -> int:
    """Return with how many equal phases two recipes begin that are otherwise the same."""
    renamed = dataclasses.replace(other, name=recipe.name, phases=recipe.phases)
    if _quoting_nothing(renamed) != _quoting_nothing(recipe):
        return 0
    if other.asks_state != recipe.asks_state:
        return 0
    count = 0
    for own, others in zip(recipe.phases, other.phases, strict=False):
        if own != others or (own.quotes_both and recipe.model.quotes != other.model.quotes):
            break
        count += 1
    return count


def _quoting_nothing(recipe: TrainingRecipe) -> TrainingRecipe:
    """Return a recipe as it is before the first phase whose prompts may quote both answers."""
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, quotes=None))


def _go_on_from(place: Path, folder: Path) -> None:
    """Copy state and log of a finished run; the state last, which says that the rest is there."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(place / LOG_FILE, folder / LOG_FILE)
    unfinished = folder / f'.{STATE_FOLDER}.part'
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(place / STATE_FOLDER, unfinished)
    unfinished.rename(folder / STATE_FOLDER)
