# SPDX-License-Identifier: Apache-2.0
"""Controls of equal compute: how long plain training takes as much computation as another."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armor_ros.datasets.manifest import write_whole
from armor_ros.errors import ArmorError
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.samples import read_samples
from armor_ros.training.schedule import plan_phase

COMPUTE_FILE = 'compute.json'
# Among the costs of kinds of phases, what all sampling before phases costs.
SAMPLING = 'sampling'
# Of the first steps of a phase, which warm caches up, so many do not count.
_FIRST_STEPS = 2


@dataclass(frozen=True, slots=True)
class StepCount:
    """The steps of each phase of a recipe on a data set, and how many samples it learns from."""

    kinds: tuple[str, ...]
    steps: tuple[int, ...]
    samples: int
    dense: int
    last_samples: int
    samples_ahead: bool

    @classmethod
    def of(cls, recipe: TrainingRecipe, data: Path) -> StepCount:
        """Count; raises ArmorError when the data set lacks samples."""
        dense = [sample.dense for sample in read_samples(data, recipe.data)]
        plans = [plan_phase(recipe, index, dense) for index in range(len(recipe.phases))]
        return cls(
            tuple(recipe.kinds),
            tuple(plan.steps for plan in plans),
            len(dense),
            sum(dense),
            len(plans[-1].chosen),
            any(phase.verified or phase.folds for phase in recipe.phases),
        )

    def cost(self, costs: Mapping[str, float]) -> float:
        """Return the steps weighed by what those of each kind of phase cost, and all sampling."""
        wanted = {*self.kinds, SAMPLING} if self.samples_ahead else {*self.kinds}
        lacking = sorted(wanted - set(costs))
        if lacking:
            raise ArmorError(
                f'what {lacking[0]} costs, in plain steps, is not known; give it in step_costs'
            )
        sampling = costs[SAMPLING] if self.samples_ahead else 0.0
        return sampling + sum(
            costs[kind] * count for kind, count in zip(self.kinds, self.steps, strict=True)
        )


def measured_costs(
    steps: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
    sampling: Sequence[Mapping[str, Any]] = (),
) -> dict[str, float]:
    """
    Return what a step of each kind costs, in plain ones, from the log of a run.

    By the median of their seconds; ``sampling`` is what all that was sampled before phases costs,
    the training of the models that were asked included. A plain step is one of warm-up; raises
    ArmorError when the run has none.
    """
    seconds: dict[str, list[float]] = {}
    for line in steps:
        if line['step'] >= _FIRST_STEPS or line['steps'] <= _FIRST_STEPS:
            seconds.setdefault(kinds[line['phase']], []).append(float(line['seconds']))
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    if not medians.get('warmup'):
        raise ArmorError(
            'a control of equal compute needs a recipe with a warm-up, whose steps are the '
            'measure; give step_costs'
        )
    plain = medians['warmup']
    costs = {kind: round(median / plain, 4) for kind, median in medians.items()}
    if sampling:
        costs[SAMPLING] = round(sum(float(line['seconds']) for line in sampling) / plain, 4)
    return costs


def equal_compute(
    control: TrainingRecipe, other: TrainingRecipe, data: Path, costs: Mapping[str, float]
) -> TrainingRecipe:
    """
    Return the control with its last phase as long as it takes to cost what ``other`` does.

    Raises ArmorError when its phases before the last cost more already.
    """
    own, wanted = StepCount.of(control, data), StepCount.of(other, data).cost(costs)
    last = own.kinds[-1]
    left = wanted - own.cost(costs) + costs[last] * own.steps[-1]
    steps = round(left / costs[last])
    if steps < 1:
        raise ArmorError(
            f'{control.name} costs more than {other.name} before its last phase; shorten the '
            'phases before it'
        )
    # half a sample less, so that rounding up gives these steps
    epochs = (steps * control.batch_size - 0.5) / own.last_samples
    phase = dataclasses.replace(control.phases[-1], epochs=epochs)
    return dataclasses.replace(control, phases=(*control.phases[:-1], phase))


def noted_costs(run: Path) -> dict[str, float] | None:
    """Return the costs that a run was laid out with when it began; None before."""
    try:
        content = json.loads((run / COMPUTE_FILE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return {str(kind): float(cost) for kind, cost in content['step_costs'].items()}


def note_costs(run: Path, other: str, costs: Mapping[str, float]) -> None:
    """Keep them: what is measured again differs, and a run has to go on with the same."""
    content = {'compute_of': other, 'step_costs': dict(costs)}
    write_whole(run / COMPUTE_FILE, json.dumps(content, indent=1) + '\n')
