# SPDX-License-Identifier: Apache-2.0
"""What a data set came to be: counts by split, and what each injected mode really led to."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from armor_ros.datasets.manifest import Sample
from armor_ros.simulation.recipe import Recipe
from armor_ros.simulation.splits import Pair


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """
    Counts of one split.

    ``success`` and ``failure`` count what really happened, twins included; ``twins`` of those,
    ``dense`` those with an explanation, ``wrong_labels`` those labelled otherwise.
    ``perturbed_successes`` succeeded in spite of an injection. ``unfilled`` counts the pairs for
    which no scene gave both a success and a failure. ``seconds`` is the mean length of the clips
    of successes and of failures.
    """

    pairs: int
    unfilled: int
    samples: int
    success: int
    failure: int
    dense: int
    twins: int
    wrong_labels: int
    perturbed_successes: int
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """
    ``splits`` by name; ``outcomes`` maps an injected mode to counts of what it led to.

    The outcomes count every episode that was simulated, those that were not taken included:
    'success', or the kind of the causal event.
    """

    splits: dict[str, SplitSummary]
    outcomes: dict[str, dict[str, int]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


def summarize(
    recipe: Recipe,
    samples: Sequence[Sample],
    tried: Sequence[tuple[Pair, Sequence[Sequence[str]]]],
) -> Summary:
    """Count the samples, and what was simulated for them: (mode, what came of it) by pair."""
    outcomes: dict[str, Counter[str]] = {}
    for _, attempts in tried:
        for mode, outcome in attempts:
            outcomes.setdefault(mode, Counter())[outcome] += 1
    by_mode = {mode: dict(sorted(counts.items())) for mode, counts in sorted(outcomes.items())}
    splits = {}
    for name in recipe.splits:
        own = [sample for sample in samples if sample.split == name]
        pairs = [pair for pair, _ in tried if pair.split == name]
        groups = {sample.group for sample in own}
        splits[name] = _summarize_split(own, pairs, groups)
    return Summary(splits, by_mode)


def _summarize_split(
    own: Sequence[Sample], pairs: Sequence[Pair], groups: set[str]
) -> SplitSummary:
    seconds = {}
    for kind in ('success', 'failure'):
        lengths = [sample.frames / sample.fps for sample in own if sample.judged == kind]
        seconds[kind] = round(sum(lengths) / len(lengths), 3) if lengths else 0.0
    count = Counter(str(sample.judged) for sample in own)
    twins = [sample for sample in own if sample.id != sample.episode]
    return SplitSummary(
        pairs=len(pairs),
        unfilled=sum(pair.name not in groups for pair in pairs),
        samples=len(own),
        success=count['success'],
        failure=count['failure'],
        dense=sum(sample.dense for sample in own),
        twins=len(twins),
        wrong_labels=sum(sample.label != sample.judged for sample in own),
        perturbed_successes=sum(
            sample.judged == 'success' and sample.injected_mode != 'nominal'
            for sample in own
            if sample.id == sample.episode
        ),
        seconds=seconds,
    )
