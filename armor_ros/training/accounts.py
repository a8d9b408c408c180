# SPDX-License-Identifier: Apache-2.0
"""
Accounts of the clips that a phase learns from, as the model itself tells them before it begins.

A checkpoint with ``PromptConfig.account_task`` says what it sees before it judges, and both tasks
quote that. So do the prompts of the phases that ask for labels and explanations: what is quoted
has the mistakes that the model makes at work. In an online phase each rollout has an account of
its own. In all of them these here are asked for again, so that the model does not forget how to
tell (see ``account_branches``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from armor_ros.training.kept_vision import with_embeddings
from armor_ros.training.sampled import ask_all
from armor_ros.training.samples import TrainingData
from armor_ros.training.schedule import PhasePlan
from armor_ros.training.steps import TrainingModule


def told_accounts(
    accelerator: Accelerator,
    module: TrainingModule,
    data: TrainingData,
    plan: PhasePlan,
    file: Path,
    on_turn: Callable[[], None],
) -> dict[str, str]:
    """
    Return the likeliest account of each of a phase's samples, by sample.

    They are kept in ``file``, from which an interrupted run takes them; see ``ask_all``.
    """
    limit = plan.phase.max_new_tokens

    def answer(indices: Sequence[int]) -> list[dict[str, Any]]:
        with accelerator.autocast():
            samples = [with_embeddings(data[i], data.kept, module.packed) for i in indices]
            accounts = module.tell([sample.clip for sample in samples], limit)
        return [
            {'sample': sample.id, 'account': account}
            for sample, account in zip(samples, accounts, strict=True)
        ]

    size = plan.recipe.micro_batch_size
    lines = ask_all(accelerator, file, plan.chosen, answer, size, on_turn)
    return {line['sample']: line['account'] for line in lines}
