# SPDX-License-Identifier: Apache-2.0
"""The training loop: phase after phase on whatever hardware accelerate finds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.training.accounts import told_accounts
from armor_ros.training.auxiliary import StateHead
from armor_ros.training.kept_vision import tower_digest, with_embeddings
from armor_ros.training.optimization import freeze_for, make_accelerator, make_optimizer
from armor_ros.training.reading import ReadAhead, Turn
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.sampled import (
    Sampled,
    SamplingReport,
    accounts_file,
    explanations_file,
    fold_file,
    read_history,
    sampling_seconds,
)
from armor_ros.training.samples import TrainingData
from armor_ros.training.schedule import PhasePlan, StepReport, plan_phase
from armor_ros.training.sharding import is_sharded, make_answerable
from armor_ros.training.standardize import MEASURED_CLIPS, standardize_vision
from armor_ros.training.state import STATE_FOLDER, Progress, RunState
from armor_ros.training.stepper import Stepper
from armor_ros.training.steps import BatchMaker, TrainingModule
from armor_ros.training.validation import Trial, Validation
from armor_ros.training.verification import truths, verified_explanations


class Interrupted(Exception):  # noqa: N818 (not an error)
    """The run was asked to stop, and its state is kept."""


class Trainer:
    """
    Trains a model by a recipe.

    The state is kept in ``output``/state every ``save_seconds`` and at the end of each phase, so
    that the same call goes on where an interrupted one ended; on a CPU with the same bits.
    """

    def __init__(
        self,
        model: ArmorModel,
        data: TrainingData,
        recipe: TrainingRecipe,
        output: Path,
        *,
        validation: TrainingData | None = None,
        on_step: Callable[[StepReport], None] | None = None,
        on_trial: Callable[[Trial], None] | None = None,
        on_phase: Callable[[int, ArmorModel], None] | None = None,
        on_sampling: Callable[[SamplingReport], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        save_seconds: float = 600.0,
        accelerator: Accelerator | None = None,
    ) -> None:
        """
        Prepare to train ``model``, whose adapters, if it has some, are in place.

        ``on_step`` is told of each optimizer step, ``on_trial`` how the model does on the samples
        of ``validation``, ``on_phase`` when a phase has ended, and ``on_sampling`` of what was
        sampled before one began. ``should_stop`` is asked after each step.
        """
        self.accelerator = accelerator or make_accelerator(recipe)
        self._recipe = recipe
        self._output = output
        self._data = data
        self._on_step = on_step or (lambda report: None)
        self._on_trial = on_trial or (lambda trial: None)
        self._on_phase = on_phase or (lambda phase, model: None)
        self._on_sampling = on_sampling or (lambda report: None)
        self._should_stop = should_stop or (lambda: False)
        self._save_seconds = save_seconds
        self._dense = [sample.dense for sample in data.samples]
        self._model = model
        if recipe.gradient_checkpointing:
            _checkpoint_activations(model)
        self.module: Any = TrainingModule(model, state_head=_state_head(recipe, model))
        self._state = RunState(
            self.accelerator, output / STATE_FOLDER, only_trained=recipe.lora is not None
        )
        self._validation = None
        if validation is not None and recipe.evaluation.samples:
            self._validation = Validation(self.accelerator, validation, recipe)

    @property
    def progress(self) -> Progress | None:
        """Where an interrupted run goes on; None when it has yet to begin."""
        return self._state.progress()

    def train(self) -> ArmorModel:
        """
        Run all phases that are left; return the model, in eval mode.

        Raises Interrupted when it was asked to stop, ArmorError when a sample cannot be read or
        the kept state is damaged.
        """
        progress = self.progress or Progress()
        for index in range(progress.phase, len(self._recipe.phases)):
            self._train_phase(plan_phase(self._recipe, index, self._dense), progress)
        return self._model.eval()

    def _train_phase(self, plan: PhasePlan, progress: Progress) -> None:
        optimizer, rates = self._prepare(plan)
        first = 0
        if progress.phase == plan.index and self.progress is not None:
            self._state.load(progress)
            first = progress.step
        self._supervise(plan)
        self._keep_vision(plan)
        sampled = self._sample(plan, first) if first < plan.steps else Sampled()
        plan = self._explained(plan, sampled)
        stepper = self._stepper(plan, sampled, optimizer, rates)
        accelerator = self.accelerator
        place = (accelerator.process_index, accelerator.num_processes)
        saved = time.monotonic()
        with ReadAhead(self._data, plan, *place) as reader:
            for step in range(first, plan.steps):
                self._on_step(stepper.take(step, self._seen(reader.take(step))))
                self._try(plan, step)
                stops, is_due = self._agree(time.monotonic() - saved > self._save_seconds)
                if stops or is_due or step + 1 == plan.steps:
                    self._state.save(Progress(plan.index, step + 1))
                    saved = time.monotonic()
                if stops:
                    raise Interrupted
        self._unwrap()
        if plan.phase.kind == 'perception':
            every = max(1, len(self._data) // MEASURED_CLIPS)
            measured = range(0, len(self._data), every)[:MEASURED_CLIPS]
            standardize_vision(self.module, [self._data[index].clip for index in measured])
        self._on_phase(plan.index, self._model)

    def _prepare(self, plan: PhasePlan) -> tuple[Any, list[float]]:
        """
        Wrap module and optimizer for a phase; FSDP2's module stays wrapped to the end.

        Returns the optimizer and the full rate of each of its groups.
        """
        accelerator = self.accelerator
        freeze_for(self.module, plan.rates)
        optimizer, rates = make_optimizer(self.module, self._recipe.optimizer, plan.rates)
        if is_sharded(self.module):
            accelerator._optimizers.clear()
            self._wrapped, optimizer = self.module, accelerator.prepare_optimizer(optimizer)
        else:
            self._wrapped, optimizer = accelerator.prepare(self.module, optimizer)
            self.module = accelerator.unwrap_model(self._wrapped)
        make_answerable(self.module)
        return optimizer, rates

    def _stepper(
        self, plan: PhasePlan, sampled: Sampled, optimizer: Any, rates: list[float]
    ) -> Stepper:
        maker = BatchMaker(
            self._model, plan.phase, truths(self._data), plan.seed, self.module.answer, sampled
        )
        return Stepper(self.accelerator, plan, self._wrapped, optimizer, rates, maker)

    def _sample(self, plan: PhasePlan, first: int) -> Sampled:
        """Return what a phase learns from beside the data; ask for what is not kept already."""
        phase, output = plan.phase, self._output
        explanations: dict[str, str] = {}
        accounts: dict[str, str] = {}
        files = [fold_file(output, plan.index, fold) for fold in range(phase.folds)]
        history = read_history(output, plan) if phase.folds else None
        if phase.verified:
            file = self._sampling_file(explanations_file(output, plan.index), first)
            explanations = verified_explanations(
                self.accelerator, self.module, self._data, plan, file, self._pause
            )
            files.append(file)
        if phase.tells_accounts and self._model.config.prompts.account_task:
            file = self._sampling_file(accounts_file(output, plan.index), first)
            accounts = told_accounts(
                self.accelerator, self.module, self._data, plan, file, self._pause
            )
            files.append(file)
        if files and not first:
            answers = len(plan.chosen) * plan.passes if phase.folds else 0
            answers += len(accounts)
            kept = sum(map(bool, explanations.values()))
            seconds = sum(map(sampling_seconds, files))
            self._on_sampling(
                SamplingReport(plan.index, 0, len(explanations) + answers, kept + answers, seconds)
            )
        return Sampled(explanations, accounts, history)

    def _sampling_file(self, file: Path, first: int) -> Path:
        """Return where a phase keeps what it sampled; ArmorError when it learned from it, gone."""
        if first and not file.is_file():
            raise ArmorError(
                f'{file} is missing, from which the phase has learned; remove {self._output} to '
                'begin anew'
            )
        return file

    def _explained(self, plan: PhasePlan, sampled: Sampled) -> PhasePlan:
        """Return the plan with sampled explanations counted, to spread them over its batches."""
        dense = tuple(
            explained or bool(sampled.explanations.get(self._data.samples[index].id))
            for index, explained in zip(plan.chosen, plan.dense, strict=True)
        )
        return dataclasses.replace(plan, dense=dense)

    def _pause(self) -> None:
        """Raise Interrupted between two turns of sampling, when the run was asked to stop."""
        if self._agree(is_due=False)[0]:
            raise Interrupted

    def _unwrap(self) -> None:
        if not is_sharded(self.module):
            self.module = self.accelerator.unwrap_model(self._wrapped, keep_fp32_wrapper=False)
            self.accelerator.free_memory()

    def _supervise(self, plan: PhasePlan) -> None:
        """Read of the simulator's state what a phase learns from."""
        self._data.supervise([plan.phase])
        if self._validation is not None:
            self._validation.data.supervise([plan.phase])

    def _keep_vision(self, plan: PhasePlan) -> None:
        """Keep what the vision tower sees for as long as a phase leaves it as it is."""
        frozen = plan.rates[1] == 0 and not is_sharded(self.module)
        tower = tower_digest(self._model, self._recipe.precision) if frozen else None
        self._data.freeze(tower)
        if self._validation is not None:
            self._validation.data.freeze(tower)

    def _seen(self, turns: Sequence[Turn]) -> list[Turn]:
        """Return samples with the embeddings of what they show, where these are kept."""
        kept, packed = self._data.kept, self.module.packed
        with self.accelerator.autocast():
            return [
                [(with_embeddings(sample, kept, packed), epoch) for sample, epoch in turn]
                for turn in turns
            ]

    def _try(self, plan: PhasePlan, step: int) -> None:
        if self._validation is not None and plan.tries_after(step):
            self._on_trial(self._validation.run(self._wrapped, self.module, plan, step))

    def _agree(self, is_due: bool) -> tuple[bool, bool]:
        """Return whether any process was asked to stop, and whether the first wants to save."""
        accelerator = self.accelerator
        if accelerator.num_processes == 1:
            return self._should_stop(), is_due
        is_due = is_due and accelerator.is_main_process
        said = torch.tensor([float(self._should_stop()), float(is_due)])
        stops, due = accelerator.reduce(said.to(accelerator.device), 'sum').tolist()
        return stops > 0, due > 0


def _checkpoint_activations(model: ArmorModel) -> None:
    """Compute activations a second time in the backward pass instead of keeping them."""
    backbone = model.backbone
    # Newer releases of transformers have renamed it.
    enable = getattr(backbone, 'activation_checkpointing_enable', None)
    (enable or backbone.gradient_checkpointing_enable)({'use_reentrant': False})


def _state_head(recipe: TrainingRecipe, model: ArmorModel) -> StateHead | None:
    """Return the head that asks for the simulator's state, where a phase wants it."""
    if not recipe.asks_state:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return StateHead(model.backbone.config.text_config.hidden_size)
