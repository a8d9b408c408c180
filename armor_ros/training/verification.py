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

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from armor_ros.errors import ArmorError
from armor_ros.training.conditioning import Truth
from armor_ros.training.kept_vision import with_embeddings
from armor_ros.training.sampled import ask_all
from armor_ros.training.samples import TrainingData
from armor_ros.training.schedule import PhasePlan
from armor_ros.training.steps import TrainingModule, rollout_settings

# Added to every count, so that a word that was never seen with a label speaks for no certainty.
_SMOOTHING = 0.5
_WORD = re.compile(r'\w+')


class TextVerdict:
    """
    Tells by its words whether an explanation speaks of a failure.

    Naive Bayes over words and pairs of neighbours, as the explained samples use them: with a few
    hundred of these it is right about nearly all texts of the same hand.
    """

    def __init__(self, explained: Iterable[Truth]) -> None:
        """Learn from explained samples; raises ArmorError unless some failed and some did not."""
        totals: Counter[bool] = Counter()
        counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for truth in explained:
            if truth.explanation:
                totals[truth.failed] += 1
                counts[truth.failed].update(_features(truth.explanation))
        if len(totals) < 2:
            raise ArmorError(
                f'{totals[True]} explained samples failed and {totals[False]} did not; to verify '
                'explanations takes some of both: add the others, or set verified to 0'
            )
        rarest = {failed: math.log(total + 2 * _SMOOTHING) for failed, total in totals.items()}
        self._weights = {
            feature: math.log(counts[True][feature] + _SMOOTHING) - rarest[True]
            - math.log(counts[False][feature] + _SMOOTHING) + rarest[False]
            for feature in sorted(counts[True] | counts[False])
        }  # fmt: skip

    def failure_logit(self, explanation: str) -> float:
        """Return the log odds that a text speaks of a failure; 0 for words never seen."""
        return sum(self._weights.get(feature, 0.0) for feature in _features(explanation))

    def agrees(self, explanation: str, failed: bool) -> bool:
        """Tell whether a text speaks of this outcome; one that speaks of none does not."""
        logit = self.failure_logit(explanation)
        return logit > 0 if failed else logit < 0


def explains_both(truths: Iterable[Truth]) -> bool:
    """Tell whether some failures and some successes are explained, as ``TextVerdict`` needs."""
    return len({truth.failed for truth in truths if truth.explanation}) == 2


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
    verdict = TextVerdict(truths(data))
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


def _features(text: str) -> list[str]:
    """Return the words of a text and the pairs of neighbours, each once, in a fixed order."""
    words = _WORD.findall(text.lower())
    pairs = [f'{one} {other}' for one, other in itertools.pairwise(words)]
    return sorted({*words, *pairs})
