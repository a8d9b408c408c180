# SPDX-License-Identifier: Apache-2.0
"""A study is run: each recipe over seeds, evaluated, and the tables written after each model."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from armor_ros.datasets.manifest import read_manifest
from armor_ros.errors import ArmorError
from armor_ros.evaluation.failure_kinds import sample_kinds
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.run import Listener, Silent, TrainingRequest, train
from armor_ros.training.run_folder import RunFolder
from armor_ros.training.study import Study, StudyRecipe, Way, is_sft, ways_of, with_seed
from armor_ros.training.study_answers import Progress, Questions, answer_all
from armor_ros.training.study_compute import (
    equal_compute,
    measured_costs,
    note_costs,
    noted_costs,
)
from armor_ros.training.study_probes import PROBES_FOLDER, choose, probe
from armor_ros.training.study_results import StudyResults
from armor_ros.training.study_sharing import train_sharing
from armor_ros.training.study_tables import write_results

CONTROL_FILE = 'control.json'

# Figures of a control by split, of a data set's folder and the splits.
Control = Callable[[Path, Sequence[str]], dict[str, dict[str, Any]]]


@contextlib.contextmanager
def unwatched(recipe: TrainingRecipe) -> Iterator[Listener]:
    """Train without telling anyone."""
    yield Silent()


@contextlib.contextmanager
def untold(name: str) -> Iterator[Progress | None]:
    """Evaluate without telling anyone."""
    yield None


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """
    Which study is run on what data, and where to.

    ``recipes`` are those of ``read_study``. Seeds are 0 to ``seeds`` - 1. ``only`` names the
    recipes that are trained now, all when empty, and ``shard`` (index from 1, count) leaves every
    so many-th seed to this run; the tables have all that are ready. ``control`` measures what the
    arm's motion alone gives away. ``watch`` shows a training run, ``tell`` an evaluation.
    """

    study: Study
    recipes: dict[str, TrainingRecipe]
    data: Path
    output: Path
    seeds: int = 3
    only: tuple[str, ...] = ()
    shard: tuple[int, int] = (1, 1)
    dtype: str = 'float32'
    cache: Path | None = None
    tracker: str = 'none'
    control: Control | None = None
    watch: Callable[[TrainingRecipe], AbstractContextManager[Listener]] = unwatched
    tell: Callable[[str], AbstractContextManager[Progress | None]] = untold


def run_study(request: StudyRequest) -> StudyResults:
    """
    Train and evaluate what is left of a study, and return all that is ready.

    Recipes are trained seed by seed, those of equal compute after the one that they are compared
    with. ``output``/study.json and study.md are written after each model. Raises ArmorError on
    mistakes in study, data and folder, Interrupted when a listener asked to stop.
    """
    if request.seeds < 1:
        raise ArmorError(f'seeds is {request.seeds}; give at least 1')
    chosen = [request.study.recipe(name) for name in request.only] or list(request.study.recipes)
    ways = _ways(request)
    _check_splits(request)
    results = StudyResults(request.study, request.recipes, request.data, request.output,
                           request.seeds, _control(request))  # fmt: skip
    wanted = {entry.trained_as or entry.name for entry in chosen}
    entries = [entry for entry in request.study.recipes if entry.name in wanted]
    entries.sort(key=lambda entry: bool(entry.compute_of))
    index, count = request.shard
    for seed in range(index - 1, request.seeds, count):
        for entry in entries:
            folder = results.folder(entry.name, seed)
            recipe = _laid_out(request, results, entry, seed)
            checkpoint = _train(request, recipe, folder)
            questions = Questions(request.data, recipe.data.cameras, request.study.evaluation)
            with request.tell(f'{entry.name}, seed {seed}') as progress:
                answers = results.answers(entry.name, seed)
                answer_all(checkpoint, questions, ways[entry.name], answers, progress)
            _probe(request, recipe, checkpoint, answers)
            _free_memory()
            write_results(results)
    return results


def _ways(request: StudyRequest) -> dict[str, tuple[Way, ...]]:
    """Return the ways in which each trained recipe is asked, for its own rows and for others'."""
    found: dict[str, dict[Way, None]] = {name: {} for name in request.recipes}
    for entry in request.study.recipes:
        name = entry.trained_as or entry.name
        found[name].update(dict.fromkeys(ways_of(entry, request.recipes[name])))
    return {name: tuple(ways) for name, ways in found.items()}


def _check_splits(request: StudyRequest) -> None:
    """Raise ArmorError, before anything is trained, where a split is missing or trained on."""
    for split in request.study.evaluation.splits:
        read_manifest(request.data, split)
        for name, recipe in request.recipes.items():
            if split == recipe.data.split:
                raise ArmorError(f'{name} learns from {split!r}, which is to be evaluated on')


def _control(request: StudyRequest) -> dict[str, dict[str, Any]]:
    """Return the control's figures by split, measured once for a folder and a data set."""
    if request.control is None:
        return {}
    questions = Questions(request.data, (), request.study.evaluation)
    file, digest = request.output / CONTROL_FILE, questions.digest()
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(file.read_text(encoding='utf-8'))
        if known['of'] == digest:
            figures: dict[str, dict[str, Any]] = known['splits']
            return figures
    found = request.control(request.data, request.study.evaluation.splits)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({'of': digest, 'splits': found}, indent=1) + '\n')
    return found


def _laid_out(
    request: StudyRequest, results: StudyResults, entry: StudyRecipe, seed: int
) -> TrainingRecipe:
    """Return the recipe of a seed; one of equal compute with the epochs that takes."""
    recipe = with_seed(request.recipes[entry.name], seed)
    if not entry.compute_of:
        return recipe
    folder = results.folder(entry.name, seed)
    other = with_seed(request.recipes[entry.compute_of], seed)
    costs = noted_costs(folder) or request.study.step_costs
    if not costs:
        log = RunFolder(results.folder(entry.compute_of, seed), writes=False)
        steps = log.lines('step')
        if not steps:
            raise ArmorError(
                f'{entry.name} is to take as much computation as {entry.compute_of}, which has '
                f'not been trained with seed {seed}; train it first, or give step_costs'
            )
        costs = measured_costs(steps, list(other.kinds), log.lines('sampling'))
    laid_out = equal_compute(recipe, other, request.data, costs)
    note_costs(folder, entry.compute_of, costs)
    return laid_out


def _train(request: StudyRequest, recipe: TrainingRecipe, folder: Path) -> Path:
    """Train what is left of a recipe; what others begin with too is trained once."""

    def run(own: TrainingRecipe, place: Path) -> Path:
        with request.watch(own) as listener:
            checkpoint = train(_training(request, own, place, listener))
        _free_memory()
        return checkpoint

    others = [with_seed(other, recipe.seed) for other in request.recipes.values()]
    return train_sharing(recipe, folder, others, request.output / 'shared', run)


def _probe(request: StudyRequest, recipe: TrainingRecipe, checkpoint: Path, answers: Path) -> None:
    """Ask whether the heads of a model listen to each other; fine-tuned ones have but one."""
    settings = request.study.evaluation
    if is_sft(recipe) or not settings.probes:
        return
    samples = choose(request.data, settings.splits, settings.probes)
    kinds = sample_kinds(samples)
    output, limit = answers / PROBES_FOLDER, settings.max_new_tokens
    probe(checkpoint, recipe, request.data, samples, kinds, output, limit, request.cache)


def _training(
    request: StudyRequest, recipe: TrainingRecipe, folder: Path, listener: Listener
) -> TrainingRequest:
    return TrainingRequest(
        recipe=recipe,
        data=request.data,
        output=folder,
        dtype=request.dtype,
        cache=request.cache,
        # once is enough, and pictures that cannot be read are named later too
        check=recipe.seed == 0,
        tracker=request.tracker,
        listener=listener,
    )


def _free_memory() -> None:
    """Give back what the last model held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
