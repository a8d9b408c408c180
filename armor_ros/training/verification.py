# SPDX-License-Identifier: Apache-2.0
"""
Sparse labels as a verifier of sampled explanations.

The model explains clips of which only the label is known, several times if need be, and the first
explanation that tells of this label is kept. That is a sample of p(e | clip, l) by rejection: what
is learned from it is what the label says about the explanation, and nothing that is not known.

What an explanation tells of is judged by its words alone. The classification head would be a poor
judge: it sees the clip too, from which it knows the answer whatever is quoted to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from armor_ros.episodes.text_verdict import TextVerdict
from armor_ros.training.conditioning import Truth
from armor_ros.training.kept_vision import with_embeddings
from armor_ros.training.sampled import ask_all
from armor_ros.training.samples import TrainingData
from armor_ros.training.schedule import PhasePlan
from armor_ros.training.steps import TrainingModule, rollout_settings


def explains_both(truths: Iterable[Truth]) -> bool:
    """Tell whether some failures and some successes are explained, as ``TextVerdict`` needs."""
    return len({truth.failed for truth in truths if truth.explanation}) == 2


def verdict_of(explained: Iterable[Truth]) -> TextVerdict:
    """Return who tells outcomes by words as explained samples do; raises as ``learn`` does."""
    return TextVerdict.learn((truth.explanation, truth.failed) for truth in explained)


def verified_explanations(
    accelerator: Accelerator,
    module: TrainingModule,
    data: TrainingData,
    plan: PhasePlan,
    file: Path,
    on_turn: Callable[[], None],
) -> dict[str, str]:
    """
    Return a verified explanation of each of a phase's sparse samples, '' where none was found.

    They are kept in ``file``, from which an interrupted run takes them; see ``ask_all``.
    """
    verdict = verdict_of(truths(data))
    asked = [i for i in plan.chosen if not data.samples[i].explanation]
    settings = rollout_settings(plan.phase)

    def answer(indices: Sequence[int]) -> list[dict[str, Any]]:
        samples = [data[index] for index in indices]

        def accepts(place: int, text: str) -> bool:
            return verdict.agrees(text, samples[place].truth.failed)

        with accelerator.autocast():
            samples = [with_embeddings(sample, data.kept, module.packed) for sample in samples]
            texts = module.propose(
                [sample.clip for sample in samples],
                [f'{plan.seed}/verified/{sample.id}' for sample in samples],
                accepts,
                plan.phase.verified,
                settings,
            )
        return [
            {'sample': sample.id, 'explanation': text}
            for sample, text in zip(samples, texts, strict=True)
        ]

    size = plan.recipe.micro_batch_size
    lines = ask_all(accelerator, file, asked, answer, size, on_turn)
    return {line['sample']: line['explanation'] for line in lines}


def truths(data: TrainingData) -> list[Truth]:
    """Return what is known of each explained sample."""
    return [
        Truth(sample.label == 'failure', sample.explanation)
        for sample in data.samples
        if sample.explanation
    ]
