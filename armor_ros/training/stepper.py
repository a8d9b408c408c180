# SPDX-License-Identifier: Apache-2.0
"""One optimizer step: roll out, losses and gradients micro-batch by micro-batch, update."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from armor_ros.errors import ArmorError
from armor_ros.training.reading import Turn
from armor_ros.training.schedule import PhasePlan, StepReport, seed_number
from armor_ros.training.sharding import is_sharded
from armor_ros.training.steps import BatchMaker, LossSums, MicroBatch


class Stepper:
    """
    Takes the optimizer steps of a phase.

    ``module`` and ``optimizer`` are what accelerate made of them, ``rates`` the full learning
    rates of the optimizer's groups.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        plan: PhasePlan,
        module: Any,
        optimizer: Any,
        rates: Sequence[float],
        maker: BatchMaker,
    ) -> None:
        self._accelerator = accelerator
        self._plan = plan
        self._module = module
        self._optimizer = optimizer
        self._rates = tuple(rates)
        self._maker = maker
        rounds = plan.phase.rounds if plan.phase.kind == 'online' else 1
        self._weights = (rounds, rounds * plan.recipe.language_weight, plan.auxiliary)

    def take(self, step: int, turns: Sequence[Turn]) -> StepReport:
        """
        Take a step with this process's share of its samples, micro-batch by micro-batch.

        Means are over the whole batch, wherever its samples are; an online phase sums them over
        its rounds, and so does the gradient. Raises ArmorError when a loss is no finite number:
        the weights are spoiled then, and those of the last save are not.
        """
        began = time.perf_counter()
        plan, accelerator = self._plan, self._accelerator
        with accelerator.autocast():
            batches = [self._make(turn) for turn in turns]
        counts = self._counts(batches)
        factor = plan.rate_at(step)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group['lr'] = rate * factor
        # Dropout is a function of the step, so that an interrupted run goes on as if it were not.
        torch.manual_seed(seed_number(f'{plan.seed}/{step}/{accelerator.process_index}'))
        self._module.train()
        # Where layers are shared, all processes run the late ones, or none does.
        speaks = is_sharded(self._module) and bool(counts[1] > 0)
        found = [self._learn(batch, counts.clamp(min=1.0), len(batches), speaks)
                 for batch in batches]  # fmt: skip
        totals = accelerator.reduce(torch.stack(found).sum(dim=0), 'sum')
        means = totals / counts.clamp(min=1.0)[[0, 1, 2, 0]]
        detection, language, auxiliary, accuracy = means.tolist()
        if not math.isfinite(detection + language + auxiliary):
            raise ArmorError(
                f'phase {plan.phase.kind}, step {step}: the losses are {detection}, {language} '
                f'and {auxiliary}, so training has come apart. Begin anew in another folder with '
                f'lower learning rates (here {plan.rates[0]:g}, and {plan.rates[1]:g} of the '
                f'vision tower) or a lower clip_norm ({plan.recipe.optimizer.clip_norm:g})'
            )
        return StepReport(
            plan.index, step, plan.steps, plan.rates[0] * factor, detection, language, auxiliary,
            accuracy, time.perf_counter() - began,
        )  # fmt: skip

    def _make(self, turn: Turn) -> MicroBatch:
        samples, epochs = [sample for sample, _ in turn], [epoch for _, epoch in turn]
        return self._maker.make(samples, epochs).to(self._accelerator.device)

    def _counts(self, batches: Sequence[MicroBatch]) -> torch.Tensor:
        """Return (3,): labels asked for, tokens to say and questions on the state, of all."""
        labels = sum(len(each.packed.detections) for each in batches)
        tokens = sum(each.packed.target_tokens for each in batches)
        states = [state for each in batches for state in each.states]
        asked = sum(state.questions for state in states)
        counts = torch.tensor([labels, tokens, asked], dtype=torch.float32)
        reduced: torch.Tensor = self._accelerator.reduce(
            counts.to(self._accelerator.device), 'sum'
        )
        return reduced

    def _learn(
        self, batch: MicroBatch, counts: torch.Tensor, batches: int, speaks: bool
    ) -> torch.Tensor:
        """Add the gradient of a micro-batch, step after the last; return sums (4,) to report."""
        accelerator = self._accelerator
        with accelerator.accumulate(self._module):
            with accelerator.autocast():
                sums: LossSums = self._module(batch, speaks=speaks)
            losses = torch.stack([sums.detection, sums.language, sums.auxiliary])
            weights = losses.new_tensor(self._weights)
            # accelerate divides by the number of micro-batches and of processes.
            loss = (weights * losses / counts).sum() * batches * accelerator.num_processes
            if accelerator.distributed_type == DistributedType.DEEPSPEED:
                loss = loss + _nothing_of_each_weight(self._module)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                clip_norm = self._plan.recipe.optimizer.clip_norm
                accelerator.clip_grad_norm_(self._module.parameters(), clip_norm)
            self._optimizer.step()
            self._optimizer.zero_grad()
        return torch.cat([losses.detach(), sums.counts[2:3]])


def _nothing_of_each_weight(module: nn.Module) -> torch.Tensor:
    """
    Return a zero to which each weight that learns contributes, so that all have a gradient.

    DeepSpeed adds up the gradients that there are; they have to be the same in all processes.
    """
    learned = [weight for weight in module.parameters() if weight.requires_grad]
    return torch.stack([weight.reshape(-1)[0].float() for weight in learned]).sum() * 0.0
