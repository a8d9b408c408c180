# SPDX-License-Identifier: Apache-2.0
"""
Cross-fitted rollouts: what an online phase quotes is answered by models that did not see the clip.

A policy is nearly always right about the clips that it has learned from, so its own answers show
it few of the errors that it will make, and quote to it, at work. Here the data is cut into folds.
For each, a model is trained on the other ones by the phases so far, answers the rounds of the
fold's clips, and is thrown away. These answers are as wrong as those at work. They are not those
of the model in training, and do not follow it while it learns: that is the price.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState

from armor_ros.datasets.manifest import Sample
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.training.folds import fold_numbers
from armor_ros.training.forward import PackedForward
from armor_ros.training.kept_vision import tower_digest, with_embeddings
from armor_ros.training.optimization import make_accelerator
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.rollout import rollout
from armor_ros.training.run_folder import FOLDS_FOLDER, RunFolder
from armor_ros.training.sampled import (
    add_seconds,
    ask_all,
    fold_file,
    read_sampled,
    sampling_seconds,
)
from armor_ros.training.samples import TrainingData
from armor_ros.training.schedule import PhasePlan, plan_phase
from armor_ros.training.state import STATE_FOLDER, read_progress
from armor_ros.training.steps import rollout_settings

# Trains a recipe in a folder and returns its checkpoint.
Train = Callable[[TrainingRecipe, Path], Path]


def cross_fit(
    recipe: TrainingRecipe,
    root: Path,
    samples: Sequence[Sample],
    output: Path,
    train: Train,
    *,
    cache: Path | None = None,
    on_turn: Callable[[], None] = lambda: None,
) -> None:
    """
    Write what the folds' clips are answered, where a phase of a recipe that is left asks for it.

    ``samples`` are those that the recipe learns from. What ``output`` has already is kept;
    ``on_turn`` may interrupt, see ``ask_all``.
    """
    fitted = [index for index, phase in enumerate(recipe.phases) if phase.folds]
    progress = read_progress(output / STATE_FOLDER)
    if not fitted or (progress is not None and progress.phase >= fitted[0]):
        return
    plan = plan_phase(recipe, fitted[0], [sample.dense for sample in samples])
    for fold in range(plan.phase.folds):
        members = fold_of(samples, plan, fold)
        file = fold_file(output, plan.index, fold)
        is_done = len(read_sampled(file)) == len(members) * plan.passes
        # nobody writes before all have looked
        PartialState().wait_for_everyone()
        if is_done:
            continue
        folder = output / FOLDS_FOLDER / str(fold)
        checkpoint = train(fold_recipe(plan, fold), folder)
        accelerator = make_accelerator(recipe)
        # once, whatever interrupts the answering
        if accelerator.is_main_process and not sampling_seconds(file):
            add_seconds(file, _seconds(folder))
        model = load_checkpoint(checkpoint, device=str(accelerator.device), dtype='float32')
        data = TrainingData(root, members, model, recipe.data.cameras, cache=cache)
        if not any(plan_phase(recipe, index, ()).rates[1] for index in range(plan.index)):
            data.freeze(tower_digest(model, recipe.precision))
        _answer(accelerator, plan, model, data, file, on_turn)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            shutil.rmtree(folder)


def fold_recipe(plan: PhasePlan, fold: int) -> TrainingRecipe:
    """Return the recipe of the model that answers a fold: the phases so far, on the others."""
    recipe = plan.recipe
    return dataclasses.replace(
        recipe,
        name=f'{recipe.name or "recipe"}-fold-{fold}',
        phases=recipe.phases[: plan.index],
        data=dataclasses.replace(recipe.data, folds=plan.phase.folds, left_out=fold),
        evaluation=dataclasses.replace(recipe.evaluation, samples=0),
    )


def fold_of(samples: Sequence[Sample], plan: PhasePlan, fold: int) -> list[Sample]:
    """
    Return the samples of a fold that a phase uses.

    ``samples`` are all that the recipe learns from: the models of the phases before leave out a
    fold of these, whichever of them this phase uses.
    """
    folds = fold_numbers(samples, plan.phase.folds, plan.recipe.data.seed)
    return [samples[index] for index in plan.chosen if folds[index] == fold]


def _answer(
    accelerator: Accelerator,
    plan: PhasePlan,
    model: ArmorModel,
    data: TrainingData,
    file: Path,
    on_turn: Callable[[], None],
) -> None:
    """Answer the rounds of all clips, once for each pass of the phase."""
    settings, packed = rollout_settings(plan.phase), PackedForward(model, freeze_vision=True)
    asked = [(index, epoch) for epoch in range(plan.passes) for index in range(len(data))]

    def answer(turns: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        samples = [data[index] for index, _ in turns]
        names = [
            f'{plan.seed}/{epoch}/{sample.id}'
            for sample, (_, epoch) in zip(samples, turns, strict=True)
        ]
        with accelerator.autocast():
            samples = [with_embeddings(sample, data.kept, packed) for sample in samples]
            history = rollout(model, [sample.clip for sample in samples], names, settings, 0)
        return [
            {
                'sample': sample.id,
                'epoch': epoch,
                'rounds': [dataclasses.astuple(answer) for answer in answers],
            }
            for sample, (_, epoch), answers in zip(samples, turns, history, strict=True)
        ]

    ask_all(accelerator, file, asked, answer, plan.recipe.micro_batch_size, on_turn)


def _seconds(run: Path) -> float:
    """Return how long a run trained and sampled."""
    folder = RunFolder(run, writes=False)
    lines = [*folder.lines('step'), *folder.lines('sampling')]
    return sum(float(line['seconds']) for line in lines)
