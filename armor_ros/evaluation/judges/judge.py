# SPDX-License-Identifier: Apache-2.0
"""
LLM fuzzy match: another model grades an explanation against the reference.

The protocol is that of AHA as the paper uses it (section 5, appendix B.3): the reasoning alone is
graded, without the detection; correct is 1, partially correct 0.5, incorrect 0.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from armor_ros.errors import ArmorError
from armor_ros.evaluation.chat import ChatError, ChatModel
from armor_ros.evaluation.judges.cache import GradeCache
from armor_ros.evaluation.judges.prompt import (
    PROMPT_VERSION,
    SYSTEM,
    judge_question,
    read_grade,
)

_logger = logging.getLogger(__name__)

# Room for models that think before they grade.
MAX_TOKENS = 1024
# After so many failures in a row the others are not tried: a dead server would take hours.
MAX_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """An explanation to be graded: the reference, the candidate's answer, the instruction."""

    reference: str
    answer: str
    instruction: str = ''


class Judge(Protocol):
    """Grades explanations."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def check(self) -> None:
        """Raise ArmorError when it cannot grade anything: a missing key, a dead server."""

    def score(self, reference: str, answer: str, instruction: str = '') -> float | None:
        """Return 1, 0.5 or 0; None when it gave no grade (unjudged)."""

    def score_all(
        self, pairs: Sequence[Pair], on_scored: Callable[[int], None] | None = None
    ) -> list[float | None]:
        """
        Return the score of each pair, several being asked for at once.

        ``on_scored`` is told how many are done. Raises ArmorError, before any is asked for, when
        there is something to ask and the judge cannot be reached.
        """


class ChatJudge:
    """
    A chat model as the judge.

    An empty answer is 0 without being asked about. Grades are kept in ``cache``; what is unjudged
    is not, and is asked again the next time.
    """

    def __init__(self, model: ChatModel, cache: GradeCache | None = None) -> None:
        self._model = model
        self._cache = cache
        self._lock = threading.Lock()
        self._failures = 0
        self.name = model.name

    def check(self) -> None:
        """Raise ArmorError when the model cannot be asked."""
        self._model.check()

    def score(self, reference: str, answer: str, instruction: str = '') -> float | None:
        """Return 1, 0.5 or 0; None when the model gave no grade."""
        pair = Pair(reference, answer, instruction)
        known = self._known(pair)
        return self._ask(pair) if known is None else known

    def score_all(
        self, pairs: Sequence[Pair], on_scored: Callable[[int], None] | None = None
    ) -> list[float | None]:
        """Return the score of each pair; equal pairs are asked about once."""
        tell = on_scored or (lambda count: None)
        scores = {pair: self._known(pair) for pair in dict.fromkeys(pairs)}
        unknown = [pair for pair, score in scores.items() if score is None]
        if unknown:
            self.check()
        self._failures = 0
        done = len(scores) - len(unknown)
        tell(done)
        with ThreadPoolExecutor(max_workers=max(1, self._model.parallel)) as pool:
            for pair, score in zip(unknown, pool.map(self._ask, unknown), strict=True):
                scores[pair] = score
                done += 1
                tell(done)
        return [scores[pair] for pair in pairs]

    def _known(self, pair: Pair) -> float | None:
        """Return a score that needs no question."""
        if not pair.answer.strip():
            return 0.0
        return None if self._cache is None else self._cache.get(self._key(pair))

    def _ask(self, pair: Pair) -> float | None:
        with self._lock:
            if self._failures >= MAX_FAILURES:
                return None
        asked = judge_question(pair.reference, pair.answer, pair.instruction)
        try:
            reply = self._model.reply(SYSTEM, [asked], MAX_TOKENS)
        except (ChatError, ArmorError) as error:
            self._count_failure(str(error))
            return None
        with self._lock:
            self._failures = 0
        grade = read_grade(reply)
        if grade is None:
            _logger.warning('%s gave no grade but %r', self.name, reply[:80])
        elif self._cache is not None:
            self._cache.put(self._key(pair), grade, reply)
        return grade

    def _count_failure(self, reason: str) -> None:
        with self._lock:
            self._failures += 1
            last = self._failures == MAX_FAILURES
        _logger.warning('%s did not judge an explanation: %s', self.name, reason)
        if last:
            _logger.warning(
                '%s failed %d times in a row; the explanations that are left stay unjudged',
                self.name,
                MAX_FAILURES,
            )

    def _key(self, pair: Pair) -> dict[str, str]:
        return {
            'judge': self._model.identity,
            'prompt': str(PROMPT_VERSION),
            'reference': pair.reference,
            'answer': pair.answer,
            'instruction': pair.instruction,
        }
