# SPDX-License-Identifier: Apache-2.0
"""A whole training run: data checked, model made, phases trained, checkpoint written."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator

from armor_ros.datasets.manifest import Sample
from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.training.card import model_card
from armor_ros.training.checks import (
    cut_explanations,
    read_everything,
    read_splits,
    worse_than_guessing,
)
from armor_ros.training.cross_fitting import cross_fit
from armor_ros.training.export import (
    check_dtype,
    check_stored_dtype,
    export_checkpoint,
    whole_model,
)
from armor_ros.training.optimization import make_accelerator, with_precision
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.run_folder import DataFacts, RunFolder, data_facts
from armor_ros.training.sampled import SamplingReport
from armor_ros.training.samples import TrainingData
from armor_ros.training.schedule import StepReport, plan_phase
from armor_ros.training.start import sample_texts, starting_model
from armor_ros.training.state import Progress
from armor_ros.training.trackers import check_tracker, open_tracker, track
from armor_ros.training.trainer import Interrupted, Trainer
from armor_ros.training.validation import Trial


class Listener(Protocol):
    """Hears how a run goes on."""

    def plan(self, steps: list[int], done: int) -> None:
        """Hear the steps of each phase, and how many are done already."""

    def checking(self, done: int, total: int) -> None:
        """Hear how many samples have been read to check them."""

    def caution(self, text: str) -> None:
        """Hear of what is allowed and hardly meant, or of what has hardly come out as meant."""

    def step(self, report: StepReport) -> None:
        """Hear of an optimizer step."""

    def trial(self, trial: Trial) -> None:
        """Hear how the model does."""

    def sampled(self, report: SamplingReport) -> None:
        """Hear what was sampled before a phase."""

    def should_stop(self) -> bool:
        """Tell whether the run is to stop after this step, its state kept."""


class Silent:
    """A listener for runs that nobody watches."""

    def plan(self, steps: list[int], done: int) -> None:
        """Do nothing."""

    def checking(self, done: int, total: int) -> None:
        """Do nothing."""

    def caution(self, text: str) -> None:
        """Do nothing."""

    def step(self, report: StepReport) -> None:
        """Do nothing."""

    def trial(self, trial: Trial) -> None:
        """Do nothing."""

    def sampled(self, report: SamplingReport) -> None:
        """Do nothing."""

    def should_stop(self) -> bool:
        """Never stop."""
        return False


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """
    What is trained on what, and where to.

    ``data`` is the folder of a manifest data set. ``dtype`` float32 or bf16 is that of the
    checkpoint's weights. ``cache`` keeps decoded pictures between epochs and runs. ``check`` reads
    every sample before the first step. ``tracker`` is one that accelerate offers, or 'none'.
    ``save_seconds`` is how often the state is kept.
    """

    recipe: TrainingRecipe
    data: Path
    output: Path
    dtype: str = 'float32'
    cache: Path | None = None
    check: bool = True
    tracker: str = 'tensorboard'
    save_seconds: float = 600.0
    listener: Listener = field(default_factory=Silent)


def train(request: TrainingRequest) -> Path:
    """
    Run all of a recipe that is left, and return the checkpoint's folder.

    A finished run returns at once. Raises ArmorError on mistakes in recipe, data and folder,
    Interrupted when the listener asked to stop.
    """
    check_tracker(request.tracker)
    check_dtype(request.dtype)
    _check_cache(request.cache)
    recipe = with_precision(request.recipe)
    try:
        return _run(dataclasses.replace(request, recipe=recipe))
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _check_cache(cache: Path | None) -> None:
    """Raise ArmorError where nothing can be kept, and not once for each sample."""
    if cache is None:
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArmorError(
            f'cannot keep pictures in {cache}: {error.strerror or error}; give another --cache'
        ) from error


def _run(request: TrainingRequest) -> Path:
    """Do what ``train`` does, and leave the processes as they are, for another run."""
    recipe = request.recipe
    samples, others = read_splits(request.data, recipe)
    facts = data_facts(request.data, samples, others)
    accelerator = _make_accelerator(request)
    folder = RunFolder(request.output, writes=accelerator.is_main_process)
    folder.check(recipe, facts)
    if folder.checkpoint.is_dir():
        check_stored_dtype(folder.checkpoint, request.dtype)
    else:
        with folder.held():
            folder.begin(recipe, facts)
            accelerator.wait_for_everyone()
            _train_in(folder, request, samples, others, facts, accelerator)
    return folder.checkpoint


def _train_in(
    folder: RunFolder,
    request: TrainingRequest,
    samples: Sequence[Sample],
    others: Sequence[Sample],
    facts: DataFacts,
    accelerator: Accelerator,
) -> None:
    """Train what is left of a recipe, and write the checkpoint."""
    recipe, listener = request.recipe, request.listener
    if any(phase.folds for phase in recipe.phases):
        _cross_fit(request, samples)
        # models that answered folds had accelerators of their own
        accelerator = _make_accelerator(request)
    options: dict[str, Any] = {'phases': recipe.phases, 'cache': request.cache}
    fresh = functools.partial(_start, request, samples, str(accelerator.device))
    model = fresh()
    cameras = recipe.data.cameras
    data = TrainingData(request.data, samples, model, cameras, **options)
    tries = [TrainingData(request.data, others, model, cameras, **options)] if others else []
    trainer = _make_trainer(request, model, data, tries, accelerator, folder)
    if request.check and trainer.progress is None and accelerator.is_main_process:
        for text in cut_explanations(samples, recipe, model.prompts):
            listener.caution(text)
        read_everything([data, *tries], listener.checking)
    accelerator.wait_for_everyone()
    folder.rewind(trainer.progress)
    steps = _steps(recipe, samples)
    done = _done(trainer.progress, steps)
    listener.plan(steps, done)
    open_tracker(accelerator, recipe, done)
    try:
        trainer.train()
        if (text := worse_than_guessing(folder.lines('step'))) and accelerator.is_main_process:
            listener.caution(text)
        _export(request, accelerator, trainer, model, fresh, folder, facts)
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def _cross_fit(request: TrainingRequest, samples: Sequence[Sample]) -> None:
    """Train models on folds of the data, and keep what they answer on the others."""

    def train_fold(recipe: TrainingRecipe, output: Path) -> Path:
        return _run(
            dataclasses.replace(
                request, recipe=recipe, output=output, dtype='float32', tracker='none'
            )
        )

    def pause() -> None:
        if request.listener.should_stop():
            raise Interrupted

    cross_fit(
        request.recipe,
        request.data,
        samples,
        request.output,
        train_fold,
        cache=request.cache,
        on_turn=pause,
    )


def _make_accelerator(request: TrainingRequest) -> Accelerator:
    log_with = None if request.tracker == 'none' else request.tracker
    return make_accelerator(
        request.recipe, log_with=log_with, project_dir=str(request.output / 'logs')
    )


def _start(request: TrainingRequest, samples: Sequence[Sample], device: str) -> ArmorModel:
    quantized = request.recipe.lora is not None and request.recipe.lora.quantization != 'none'
    texts = sample_texts(samples)
    return starting_model(request.recipe, texts, device if quantized else 'cpu')


def _make_trainer(
    request: TrainingRequest,
    model: ArmorModel,
    data: TrainingData,
    tries: list[TrainingData],
    accelerator: Accelerator,
    folder: RunFolder,
) -> Trainer:
    listener = request.listener
    steps = _steps(request.recipe, data.samples)

    def on_step(report: StepReport) -> None:
        folder.note(report)
        track(accelerator, report, sum(steps[: report.phase]) + report.step)
        listener.step(report)

    def on_sampling(report: SamplingReport) -> None:
        folder.note(report)
        listener.sampled(report)

    def on_trial(trial: Trial) -> None:
        folder.note(trial)
        track(accelerator, trial, sum(steps[: trial.phase]) + trial.step)
        listener.trial(trial)

    return Trainer(
        model,
        data,
        request.recipe,
        request.output,
        validation=tries[0] if tries else None,
        on_step=on_step,
        on_trial=on_trial,
        on_sampling=on_sampling,
        should_stop=listener.should_stop,
        save_seconds=request.save_seconds,
        accelerator=accelerator,
    )


def _steps(recipe: TrainingRecipe, samples: Sequence[Sample]) -> list[int]:
    """Return the steps of each phase."""
    dense = [sample.dense for sample in samples]
    return [plan_phase(recipe, index, dense).steps for index in range(len(recipe.phases))]


def _done(progress: Progress | None, steps: Sequence[int]) -> int:
    return 0 if progress is None else sum(steps[: progress.phase]) + progress.step


def _export(
    request: TrainingRequest,
    accelerator: Accelerator,
    trainer: Trainer,
    model: ArmorModel,
    fresh: Callable[[], ArmorModel],
    folder: RunFolder,
    facts: DataFacts,
) -> None:
    whole = whole_model(accelerator, trainer.module, model, fresh)
    if whole is not None:
        card = model_card(
            request.recipe, facts, folder.lines('step'), folder.lines('trial'), request.dtype
        )
        export_checkpoint(whole, request.recipe, folder.checkpoint, card, request.dtype)
    accelerator.wait_for_everyone()
