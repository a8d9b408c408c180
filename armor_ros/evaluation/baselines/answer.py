# SPDX-License-Identifier: Apache-2.0
"""What a baseline answers, and how its text is read (appendix B.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from armor_ros.episodes.episode import Episode
from armor_ros.episodes.text import clean_text

# The explanation of a success, in the paper's words.
SUCCESS_EXPLANATION = 'The robot succeeded at the sub-task.'

_THINK = re.compile(r'<think>(.*?)</think>', re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r'<answer>(.*?)</answer>', re.DOTALL | re.IGNORECASE)
_NOT_A_LETTER = re.compile(r'[\W_]+')


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a baseline says of one episode.

    ``failed`` None means that it gave no answer; ``unparsable`` says that it gave a text from
    which none could be read. ``failure_probability`` is None where a baseline has none. ``raw``
    holds the texts as they came.
    """

    failed: bool | None
    explanation: str
    failure_probability: float | None = None
    raw: tuple[str, ...] = ()
    unparsable: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled episode that is shown to a baseline before its question."""

    episode: Episode
    failed: bool
    explanation: str = ''


class Baseline(Protocol):
    """Something to compare the model with."""

    @property
    def name(self) -> str:
        """What reports call it; it holds no path of this machine."""

    @property
    def parallel(self) -> int:
        """How many episodes it may be asked about at once, from several threads."""

    def check(self) -> None:
        """Raise ArmorError when it cannot answer at all: a missing key, a dead server."""

    def answer(self, episode: Episode) -> Answer:
        """Answer on one episode. Raises ArmorError when there is nothing to see or no answer."""


def parse_answer(text: str, failure_probability: float | None = None) -> Answer:
    """
    Read ``<think>...</think>`` and ``<answer>Yes/No</answer>`` from a text (appendix B.4).

    Of several the last counts: a model may quote the format before it answers. Without both
    fields, or with another answer than yes or no, the whole text is the explanation and the
    answer is unparsable. "Yes" means success. A ``failure_probability`` that contradicts the
    answer is dropped.
    """
    thoughts, answers = _THINK.findall(text), _ANSWER.findall(text)
    word = _NOT_A_LETTER.sub('', answers[-1]).lower() if answers else ''
    if not thoughts or word not in ('yes', 'no'):
        return Answer(None, clean_text(text), raw=(text,), unparsable=True)
    failed = word == 'no'
    if failure_probability is not None and (failure_probability >= 0.5) != failed:
        failure_probability = None
    return Answer(failed, clean_text(thoughts[-1]), failure_probability, (text,))
