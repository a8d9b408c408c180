# SPDX-License-Identifier: Apache-2.0
"""
One of several processes that train the toy recipe together, each with a part of the weights.

Arguments: the folders of data and output, after how many lines of its log to stop (0: never), and
the precision.
accelerate offers FSDP2 on GPUs and the like alone, though torch divides weights on processors too:
it is told that these are such devices, and goes its usual way.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from toy_training import make_model, make_recipe, make_trainer, with_account

from armor_ros.training.export import whole_model
from armor_ros.training.optimization import divide_exactly, make_accelerator
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.sharding import is_sharded
from armor_ros.training.trainer import Interrupted
from armor_ros.training.validation import Trial

RECIPE = with_account(
    make_recipe(
        {'kind': 'perception'}, {'kind': 'warmup', 'auxiliary': 0.5, 'max_new_tokens': 6},
        {'kind': 'expert', 'max_new_tokens': 6},
        {'kind': 'online', 'rounds': 2, 'max_new_tokens': 6},
        dropout=0.0, evaluation={'samples': 2, 'shown': 2}, batch_size=4,
    )
)  # fmt: skip
ROUGH_RECIPE = with_account(
    make_recipe(
        {'kind': 'warmup', 'max_new_tokens': 6},
        {'kind': 'online', 'rounds': 2, 'max_new_tokens': 6},
        dropout=0.0, precision='bf16', gradient_checkpointing=True,
    )
)  # fmt: skip


def sharding_accelerator(recipe: TrainingRecipe) -> Accelerator:
    """Return an accelerator for FSDP2 on processors."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy='transformer_based_wrap',
        reshard_after_forward=True,
        state_dict_type='SHARDED_STATE_DICT',
        cpu_ram_efficient_loading=False,
    )
    accelerator = make_accelerator(recipe, fsdp_plugin=plugin)
    # both: the second is a copy that is refreshed now and then
    PartialState._shared_state['distributed_type'] = DistributedType.FSDP
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    divide_exactly(plugin, recipe)
    return accelerator


def main(data: Path, output: Path, stop: int, precision: str) -> None:
    torch.set_num_threads(1)
    recipe = RECIPE if precision == 'no' else ROUGH_RECIPE
    accelerator = sharding_accelerator(recipe)
    lines: list[list[float | str | None]] = []

    def note_trial(trial: Trial) -> None:
        said = json.dumps([[a.explanation for a in shown.answers] for shown in trial.shown])
        lines.append([trial.detection, trial.language, trial.auxiliary, trial.accuracy, said])

    trainer = make_trainer(
        recipe, data, output, accelerator=accelerator,
        on_step=lambda report: lines.append(
            [report.detection, report.language, report.auxiliary, report.accuracy]
        ),
        on_trial=note_trial,
        should_stop=lambda: accelerator.process_index == 1 and 0 < stop <= len(lines),
    )  # fmt: skip
    with contextlib.suppress(Interrupted):
        trainer.train()
    assert is_sharded(trainer.module)
    whole = whole_model(
        accelerator, trainer.module, trainer._model, lambda: make_model(recipe, data)
    )
    if whole is not None:
        torch.save({n: w.detach() for n, w in whole.state_dict().items()}, output / 'weights.pt')
        with (output / 'lines.jsonl').open('a') as file:
            file.writelines(json.dumps(line) + '\n' for line in lines)
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
