# SPDX-License-Identifier: Apache-2.0
"""The training loop: phase after phase on whatever hardware accelerate finds."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.training.auxiliary import StateHead
from armor_ros.training.order import global_batch, share_of
from armor_ros.training.recipe import PhaseRecipe, TrainingRecipe
from armor_ros.training.samples import TrainingData, TrainingSample
from armor_ros.training.steps import BatchMaker, LossSums, TrainingModule

STATE_FOLDER = 'state'
PROGRESS_FILE = 'progress.json'


@dataclass(frozen=True, slots=True)
class StepReport:
    """
    What an optimizer step did.

    ``step`` of ``steps`` in phase number ``phase``; losses are means over the batch, 0 where the
    phase has none; ``accuracy`` is that of the labels, before the step.
    """

    phase: int
    step: int
    steps: int
    learning_rate: float
    detection: float
    language: float
    auxiliary: float
    accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an interrupted run goes on: the next step of a phase."""

    phase: int = 0
    step: int = 0


def steps_of(phase: PhaseRecipe, samples: int, batch_size: int) -> int:
    """Return the optimizer steps of a phase, at least one."""
    return max(1, math.ceil(phase.epochs * samples / batch_size))


def rate_at(step: int, steps: int, warmup_ratio: float) -> float:
    """Return the share of the learning rate at a step: a linear warm-up, then a cosine to 0."""
    warmup = math.ceil(warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


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
        on_step: Callable[[StepReport], None] | None = None,
        on_phase: Callable[[int, ArmorModel], None] | None = None,
        save_seconds: float = 600.0,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.accelerator = accelerator or make_accelerator(recipe)
        self._check_batch(recipe)
        self._recipe = recipe
        self._data = data
        self._output = output
        self._on_step = on_step or (lambda report: None)
        self._on_phase = on_phase or (lambda phase, model: None)
        self._save_seconds = save_seconds
        self._dense = [sample.dense for sample in data.samples]
        head = None
        if any(phase.auxiliary or phase.kind == 'perception' for phase in recipe.phases):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                head = StateHead(model.backbone.config.text_config.hidden_size)
        self._module: Any = TrainingModule(model, state_head=head)
        self._model = model

    def train(self) -> ArmorModel:
        """Run all phases that are left; return the model, in eval mode."""
        progress = self._read_progress()
        for index, phase in enumerate(self._recipe.phases):
            if index >= progress.phase:
                first = progress.step if index == progress.phase else 0
                self._train_phase(index, phase, first)
        return self._model.eval()

    def _train_phase(self, index: int, phase: PhaseRecipe, first: int) -> None:
        recipe, accelerator = self._recipe, self.accelerator
        chosen = [i for i, dense in enumerate(self._dense) if dense or not phase.only_dense]
        steps = steps_of(phase, len(chosen), recipe.batch_size)
        rates = self._rates(phase)
        self._freeze(phase, rates)
        optimizer = torch.optim.AdamW(self._groups(rates), betas=(0.9, 0.999))
        module, optimizer = accelerator.prepare(self._module, optimizer)
        if first:
            accelerator.load_state(str(self._state_folder()))
        maker = BatchMaker(
            self._model,
            phase,
            [s.explanation for s in self._data.samples if s.explanation],
            f'{recipe.seed}/{index}',
        )
        saved = time.monotonic()
        for step in range(first, steps):
            self._on_step(self._step(index, phase, chosen, step, steps, module, optimizer, maker))
            if time.monotonic() - saved > self._save_seconds and step + 1 < steps:
                self._save(Progress(index, step + 1))
                saved = time.monotonic()
        accelerator.free_memory()
        self._module = accelerator.unwrap_model(module)
        self._on_phase(index, self._model)
        if index + 1 < len(recipe.phases):
            self._save(Progress(index + 1, 0))

    def _step(
        self,
        index: int,
        phase: PhaseRecipe,
        chosen: Sequence[int],
        step: int,
        steps: int,
        module: Any,
        optimizer: Any,
        maker: BatchMaker,
    ) -> StepReport:
        began = time.perf_counter()
        recipe, accelerator = self._recipe, self.accelerator
        seed = f'{recipe.seed}/{index}'
        batch = global_batch([self._dense[i] for i in chosen], seed, step, recipe.batch_size)
        turns = share_of(
            batch, accelerator.process_index, accelerator.num_processes, recipe.micro_batch_size
        )
        factor = rate_at(step, steps, recipe.optimizer.warmup_ratio)
        for group in optimizer.param_groups:
            group['lr'] = group['rate'] * factor
        micro = [
            maker.make([self._sample(chosen[i]) for i, _ in turn], turn[0][1]).to(
                accelerator.device
            )
            for turn in turns
        ]
        # Means are over the whole batch, wherever its samples are.
        counts = torch.tensor(
            [
                float(sum(len(each.packed.detections) for each in micro)),
                float(sum(each.packed.target_tokens for each in micro)),
                float(sum(s.known.sum() * len(s.values) for each in micro for s in each.states)),
            ]
        )
        counts = accelerator.reduce(counts.to(accelerator.device), 'sum').clamp(min=1.0)
        speaks = phase.kind not in ('perception',) and bool(counts[1] > 1)
        # Dropout is a function of the step, so that an interrupted run goes on as if it were not.
        torch.manual_seed(_number(f'{seed}/{step}/{accelerator.process_index}'))
        self._module.train()
        totals = torch.zeros(4, device=accelerator.device)
        rounds = phase.rounds if phase.kind == 'online' else 1
        scale = accelerator.num_processes * len(micro)
        for each in micro:
            with accelerator.accumulate(module), accelerator.autocast():
                sums: LossSums = module(each, speaks=speaks)
                weights = (rounds, rounds * recipe.language_weight, self._auxiliary(phase))
                losses = (sums.detection, sums.language, sums.auxiliary)
                loss = sum(
                    weight * part / count
                    for weight, part, count in zip(weights, losses, counts, strict=True)
                )
                accelerator.backward(loss * scale)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(module.parameters(), recipe.optimizer.clip_norm)
                optimizer.step()
                optimizer.zero_grad()
            totals += torch.stack([*(p.detach() for p in losses), sums.counts[2].to(totals)])
        totals = accelerator.reduce(totals, 'sum')
        detection, language, auxiliary = (totals[:3] / counts).tolist()
        return StepReport(
            index, step, steps, self._rates(phase)[0] * factor, detection, language, auxiliary,
            float(totals[3] / counts[0]), time.perf_counter() - began,
        )  # fmt: skip

    def _sample(self, index: int) -> TrainingSample:
        return self._data[index]

    def _auxiliary(self, phase: PhaseRecipe) -> float:
        return phase.auxiliary or (1.0 if phase.kind == 'perception' else 0.0)

    def _rates(self, phase: PhaseRecipe) -> tuple[float, float]:
        """Return the learning rates of all but the vision tower, and of it."""
        optimizer = self._recipe.optimizer
        rate, vision = phase.learning_rate, phase.vision_learning_rate
        return (
            optimizer.learning_rate if rate is None else rate,
            optimizer.vision_learning_rate if vision is None else vision,
        )

    def _freeze(self, phase: PhaseRecipe, rates: tuple[float, float]) -> None:
        visual = self._model.backbone.model.visual
        for parameter in visual.parameters():
            parameter.requires_grad_(rates[1] > 0)
        self._module.packed.freeze_vision = rates[1] == 0

    def _groups(self, rates: tuple[float, float]) -> list[dict[str, Any]]:
        """Return the optimizer's groups: by learning rate, and matrices apart, which decay."""
        decay = self._recipe.optimizer.weight_decay
        groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in self._module.named_parameters():
            if parameter.requires_grad:
                key = ('.visual.' in name, parameter.ndim > 1)
                groups.setdefault(key, []).append(parameter)
        return [
            {
                'params': parameters,
                'lr': rates[is_vision],
                'rate': rates[is_vision],
                'weight_decay': decay if is_matrix else 0.0,
            }
            for (is_vision, is_matrix), parameters in sorted(groups.items())
        ]

    def _check_batch(self, recipe: TrainingRecipe) -> None:
        processes = self.accelerator.num_processes
        if recipe.batch_size % processes:
            raise ArmorError(
                f'batch_size is {recipe.batch_size}, which {processes} processes cannot share '
                'evenly; make it a multiple'
            )

    def _state_folder(self) -> Path:
        return self._output / STATE_FOLDER

    def _save(self, progress: Progress) -> None:
        folder = self._state_folder()
        self.accelerator.save_state(str(folder))
        if self.accelerator.is_main_process:
            (folder / PROGRESS_FILE).write_text(json.dumps(asdict(progress)))
        self.accelerator.wait_for_everyone()

    def _read_progress(self) -> Progress:
        path = self._state_folder() / PROGRESS_FILE
        return Progress(**json.loads(path.read_text())) if path.is_file() else Progress()


def make_accelerator(recipe: TrainingRecipe, **options: Any) -> Accelerator:
    """Return the accelerator of a recipe, configured further by accelerate's own config."""
    processes = Accelerator().num_processes
    turns = math.ceil(recipe.batch_size / (processes * recipe.micro_batch_size))
    # A sparse batch leaves the late layers alone.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        gradient_accumulation_steps=turns,
        mixed_precision=recipe.precision,
        kwargs_handlers=[unused],
        **options,
    )


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], 'big')


def all_texts(data: TrainingData) -> Iterator[str]:
    """Yield every text that a tokenizer should know: instructions and explanations."""
    for sample in data.samples:
        yield sample.instruction
        if sample.explanation:
            yield sample.explanation
