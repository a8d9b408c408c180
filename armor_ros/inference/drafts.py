# SPDX-License-Identifier: Apache-2.0
"""
Guesses at what a trajectory will say next, taken from texts that it may repeat.

A draft is verified in one forward with the sampling that would have happened anyway, so it can
only save steps, never change a text. Drafts are paid for out of what drafts have saved: the most
that useless ones cost is a small allowance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Tokens that must agree before a text is followed from its middle.
_AGREEMENT = 3


@dataclass(frozen=True, slots=True)
class DraftBudget:
    """
    What a drafted token costs, in steps of plain decoding, and how many steps may be risked.

    The costs are fixed for a kind of device rather than measured, so that the same episode is
    always computed in the same way. ``allowance`` is risked in an episode's first drafts and
    ``renewal`` in each round after that; both are small beside a round's steps.
    """

    token_cost: float
    allowance: float = 2.0
    renewal: float = 1.0

    @classmethod
    def of_device(cls, device_type: str) -> DraftBudget:
        """Return the budget of 'cpu' or 'cuda'; a GPU waits for its weights, not for products."""
        return cls(token_cost=0.004 if device_type == 'cuda' else 0.08)


class Drafter:
    """
    Proposes drafts for the rows of one episode, round after round.

    ``usual`` are the token ids of explanations that are often given, each with its end token.
    """

    def __init__(self, budget: DraftBudget, usual: Sequence[Sequence[int]] = ()) -> None:
        self._budget = budget
        self._usual = [list(text) for text in usual if text]
        # Where the usual texts are followed from: text and position behind each few tokens.
        self._places: dict[tuple[int, ...], tuple[int, int]] = {}
        self._balance = budget.allowance
        self._sources: list[list[list[int]]] = []
        self._drafted = 0
        self._steps = 0
        self._saved = 0

    def begin_round(self, previous: Sequence[Sequence[int]]) -> None:
        """
        Start a round of ``len(previous)`` rows.

        ``previous`` holds each row's text of the round before with its end token, or nothing.
        """
        if self._usual and not self._places:  # not before: a first detection is waited for
            self._places = _places_of(self._usual)
        self._balance = max(self._balance, 0.0)
        if self._steps:
            self._balance += self._budget.renewal
        self._steps, self._saved = 0, 0
        texts = [list(text) for text in previous]
        self._sources = [[text for text in (own, *texts) if text] for own in texts]

    def propose(
        self, rows: Sequence[tuple[int, Sequence[int]]], room: Sequence[int]
    ) -> list[list[int]]:
        """
        Return a draft for each of the given rows, empty where there is none.

        ``rows`` holds a row's index and its tokens so far, ``room`` the most that may be drafted.
        """
        wanted = [
            self._continuation(self._sources[index], tokens)[:space] if space > 0 else []
            for (index, tokens), space in zip(rows, room, strict=True)
        ]
        guesses = sum(1 for draft in wanted if draft)
        # A row without a draft holds the others back: the batch is done when its last row is.
        if guesses < len(rows):
            wanted, guesses = [[] for _ in rows], 0
        affordable = int(self._balance / self._budget.token_cost) // max(guesses, 1)
        drafts = [draft[:affordable] for draft in wanted]
        self._drafted = sum(map(len, drafts))
        return drafts

    def account(self, least: int) -> None:
        """Take note of a step, after which its slowest row has ``least`` tokens."""
        self._steps += 1
        self._balance -= self._drafted * self._budget.token_cost
        # The slowest row decides when the batch is done, and so what has been saved.
        saved = least - self._steps
        self._balance += saved - self._saved
        self._saved = saved

    def _continuation(self, sources: list[list[int]], tokens: Sequence[int]) -> list[int]:
        """
        Return what follows the tokens so far in a source, else in a usual text.

        The first that begins with them is followed, else the first that contains their end.
        """
        so_far = list(tokens)
        for source in (*sources, *self._usual):
            if source[: len(so_far)] == so_far:
                return source[len(so_far) :]
        end = so_far[-_AGREEMENT:]
        if len(end) < _AGREEMENT:
            return []
        for source in sources:
            for start in range(len(source) - _AGREEMENT):
                if source[start : start + _AGREEMENT] == end:
                    return source[start + _AGREEMENT :]
        index, position = self._places.get(tuple(end), (0, 0))
        return self._usual[index][position:] if position else []


def _places_of(texts: Sequence[Sequence[int]]) -> dict[tuple[int, ...], tuple[int, int]]:
    """Return the first text and position behind each few tokens that a text contains."""
    places: dict[tuple[int, ...], tuple[int, int]] = {}
    for index, text in enumerate(texts):
        for end in range(_AGREEMENT, len(text)):
            places.setdefault(tuple(text[end - _AGREEMENT : end]), (index, end))
    return places
