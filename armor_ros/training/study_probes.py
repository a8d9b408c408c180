# SPDX-License-Identifier: Apache-2.0
"""
Whether each head of a model listens to what the prompt quotes of the other.

Each test sample is asked once more: for the explanation given the model's own label and given the
opposite one, for the label given the model's own explanation and given explanations of other
samples that speak of either outcome. All answers are the likeliest ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from armor_ros.datasets.manifest import Sample, read_manifest, write_whole
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.training.conditioning import Truth
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.rollout import BatchPolicy
from armor_ros.training.samples import TrainingData, TrainingSample, read_samples
from armor_ros.training.verification import explains_both

PROBES_FOLDER = 'probes'
PROBES_FILE = 'probes.jsonl'


@dataclass(frozen=True, slots=True)
class Probe:
    """
    What a model answered about one sample, given nothing or an answer to the other task.

    Probabilities are of failure: from the clip alone, given its own explanation (``own``), and
    given explanations of other samples, one of a failure and one of a success. ``explanation`` is
    from the clip alone, ``given_own`` and ``given_opposite`` given its own label and the other.
    ``cluster`` is equal for samples that are not independent.
    """

    sample: str
    split: str
    cluster: str
    failed: bool
    kind: str
    probability: float
    probability_own: float
    probability_failure: float
    probability_success: float
    explanation: str
    given_own: str
    given_opposite: str

    @property
    def said_failed(self) -> bool:
        """The label that is answered from the clip alone."""
        return self.probability >= 0.5


def probe(
    checkpoint: Path,
    recipe: TrainingRecipe,
    root: Path,
    samples: Sequence[Sample],
    kinds: Mapping[str, str],
    output: Path,
    limit: int,
    cache: Path | None = None,
) -> None:
    """
    Ask a checkpoint about ``samples``, and write a line for each to ``output``.

    Nothing is asked where the samples to learn from do not explain both failures and successes.

    ``kinds`` are those of failures by sample; ``limit`` is the most tokens of an explanation. What
    the same weights have answered already is kept.
    """
    others = explained(read_samples(root, recipe.data))
    if not explains_both(others):
        return
    model = load_checkpoint(checkpoint, dtype='float32')
    asked = [model.info.weights_hash, digest_of(samples, others, limit)]
    if _answered(output) == asked:
        return
    data = TrainingData(root, samples, model, recipe.data.cameras, cache=cache)
    size = max(1, recipe.micro_batch_size)
    lines = []
    for start in range(0, len(samples), size):
        places = range(start, min(start + size, len(samples)))
        answered = _ask(model, [data[place] for place in places], others, limit)
        for place, answers in zip(places, answered, strict=True):
            lines.append({**_facts(samples[place], kinds), **answers})
    rows = [json.dumps({'asked': asked}), *map(json.dumps, lines)]
    write_whole(output / PROBES_FILE, '\n'.join(rows) + '\n')


def read_probes(output: Path) -> list[Probe]:
    """Return what was answered; nothing when nothing was asked."""
    file = output / PROBES_FILE
    if not file.is_file():
        return []
    rows = file.read_text(encoding='utf-8').splitlines()
    return [Probe(**json.loads(row)) for row in rows[1:]]


def choose(root: Path, splits: Sequence[str], count: int) -> list[Sample]:
    """Return up to ``count`` samples of each split, those of one recording together."""
    chosen = []
    for split in splits:
        chosen += sorted(read_manifest(root, split), key=_rank)[:count]
    return chosen


def explained(samples: Sequence[Sample]) -> list[Truth]:
    """Return what is known of the samples that have an explanation."""
    return [
        Truth(sample.label == 'failure', sample.explanation)
        for sample in samples
        if sample.explanation
    ]


def digest_of(samples: Sequence[Sample], others: Sequence[Truth], limit: int) -> str:
    """Return what tells apart questions that may be answered differently."""
    facts = [
        [sample.id for sample in samples],
        [dataclasses.astuple(own) for own in others],
        limit,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@torch.no_grad()
def _ask(
    model: ArmorModel, samples: Sequence[TrainingSample], others: Sequence[Truth], limit: int
) -> list[dict[str, Any]]:
    """Return the answers about a batch; see ``Probe``."""
    policy = BatchPolicy(model, [sample.clip for sample in samples])
    nothing = policy.told(limit)
    alone = policy.failure_probabilities(nothing)
    said = [probability >= 0.5 for probability in alone]
    texts = policy.likeliest(nothing, limit)

    def given_label(labels: Sequence[bool]) -> list[str]:
        pairs = zip(nothing, labels, strict=True)
        return policy.likeliest([replace(told, failed=failed) for told, failed in pairs], limit)

    def given_texts(quoted: Sequence[str]) -> list[float]:
        pairs = zip(nothing, quoted, strict=True)
        return policy.failure_probabilities(
            [replace(told, explanation=text) for told, text in pairs]
        )

    given = {
        failed: given_texts([_other(sample, others, failed) for sample in samples])
        for failed in (True, False)
    }
    columns: dict[str, Sequence[Any]] = {
        'probability': alone,
        'probability_own': given_texts(texts),
        'probability_failure': given[True],
        'probability_success': given[False],
        'explanation': texts,
        'given_own': given_label(said),
        'given_opposite': given_label([not failed for failed in said]),
    }
    return [
        {name: values[place] for name, values in columns.items()} for place in range(len(samples))
    ]


def _other(sample: TrainingSample, others: Sequence[Truth], failed: bool) -> str:
    """Return the explanation of another sample with this outcome; which, the sample decides."""
    pool = [other.explanation for other in others if other.failed == failed]
    return random.Random(f'{sample.id}/{failed}').choice(pool)


def _facts(sample: Sample, kinds: Mapping[str, str]) -> dict[str, Any]:
    label = sample.judged or sample.label
    return {
        'sample': sample.id,
        'split': sample.split,
        'cluster': sample.group or sample.episode or sample.id,
        'failed': label == 'failure',
        'kind': kinds.get(sample.id, ''),
    }


def _rank(sample: Sample) -> bytes:
    name = sample.group or sample.episode or sample.id
    return hashlib.sha256(name.encode('utf-8', 'surrogatepass')).digest()


def _answered(output: Path) -> object:
    try:
        with (output / PROBES_FILE).open(encoding='utf-8') as file:
            return json.loads(file.readline())['asked']
    except (OSError, ValueError, KeyError):
        return None
