# SPDX-License-Identifier: Apache-2.0
"""Which outcome a text speaks of, told by its words alone, as explained tasks use them."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from armor_ros.errors import ArmorError

# Added to every count, so that a word that was never seen with an outcome speaks for no certainty.
_SMOOTHING = 0.5
_WORD = re.compile(r'\w+')


class TextVerdict:
    """
    Tells by its words whether an explanation speaks of a failure.

    Naive Bayes over words and pairs of neighbours: with a few hundred explained tasks it is right
    about nearly all texts of the same hand. ``weights`` are what each adds to the log odds.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)

    @classmethod
    def learn(cls, explained: Iterable[tuple[str, bool]], *, least: int = 1) -> TextVerdict:
        """
        Learn from explanations and whether their tasks failed.

        Words and pairs that fewer than ``least`` of these use are left out. Raises ArmorError
        unless some tasks failed and some did not.
        """
        totals: Counter[bool] = Counter()
        counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for text, failed in explained:
            if text:
                totals[failed] += 1
                counts[failed].update(_features(text))
        if len(totals) < 2:
            raise ArmorError(
                f'{totals[True]} explained samples failed and {totals[False]} did not; to tell '
                'outcomes by words takes some of both: add the others'
            )
        rarest = {failed: math.log(total + 2 * _SMOOTHING) for failed, total in totals.items()}
        both = counts[True] + counts[False]
        return cls({
            feature: math.log(counts[True][feature] + _SMOOTHING) - rarest[True]
            - math.log(counts[False][feature] + _SMOOTHING) + rarest[False]
            for feature in sorted(both) if both[feature] >= least
        })  # fmt: skip

    def failure_logit(self, explanation: str) -> float:
        """Return the log odds that a text speaks of a failure; 0 for words never seen."""
        return sum(self.weights.get(feature, 0.0) for feature in _features(explanation))

    def agrees(self, explanation: str, failed: bool) -> bool:
        """Tell whether a text speaks of this outcome; one that speaks of none does not."""
        logit = self.failure_logit(explanation)
        return logit > 0 if failed else logit < 0


def _features(text: str) -> list[str]:
    """Return the words of a text and the pairs of neighbours, each once, in a fixed order."""
    words = _WORD.findall(text.lower())
    pairs = [f'{one} {other}' for one, other in itertools.pairwise(words)]
    return sorted({*words, *pairs})
