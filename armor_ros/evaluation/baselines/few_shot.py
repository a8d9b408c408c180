# SPDX-License-Identifier: Apache-2.0
"""Choosing the examples of a few-shot prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from armor_ros.errors import ArmorError

MAX_EXAMPLES = 32


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    A labelled sample that may become an example; its pictures need not be read yet.

    ``group`` names what belongs together, such as one recording: no two examples share one.
    """

    id: str
    failed: bool
    explanation: str = ''
    group: str = ''


def select_examples(
    candidates: Iterable[Candidate], count: int, *, seed: int = 0, excluded: Collection[str] = ()
) -> list[str]:
    """
    Return the ids of ``count`` examples, successes and failures by turns, a success first.

    The choice depends on ids and seed alone, not on the candidates' order. A failure without an
    explanation is no example, and neither is a candidate whose id or group is in ``excluded``:
    give those that are evaluated. Raises ArmorError when there are too few.
    """
    if not 0 <= count <= MAX_EXAMPLES:
        raise ArmorError(
            f'{count} examples were asked for; give a number from 0 to {MAX_EXAMPLES}'
        )
    kept = {
        candidate.id: candidate
        for candidate in candidates
        if (candidate.explanation or not candidate.failed)
        and candidate.id not in excluded
        and (not candidate.group or candidate.group not in excluded)
    }
    ordered = sorted(kept.values(), key=lambda candidate: _draw(candidate.id, seed))
    chosen: list[str] = []
    groups: set[str] = set()
    for turn in range(count):
        failed = turn % 2 == 1
        found = next(
            (
                candidate
                for candidate in ordered
                if candidate.failed is failed
                and candidate.id not in chosen
                and not (candidate.group and candidate.group in groups)
            ),
            None,
        )
        if found is None:
            kind = 'failures with an explanation' if failed else 'successes'
            raise ArmorError(
                f'{count} examples need {(count + (not failed)) // 2} {kind} that are not '
                f'evaluated and share no recording, and there are fewer; ask for {turn} or give '
                'more samples'
            )
        chosen.append(found.id)
        groups.add(found.group)
    return chosen


def _draw(name: str, seed: int) -> bytes:
    return hashlib.sha256(f'{seed}\0{name}'.encode('utf-8', 'surrogatepass')).digest()
