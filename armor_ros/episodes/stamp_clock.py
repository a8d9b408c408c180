# SPDX-License-Identifier: Apache-2.0
"""The clock that a stream of stamps shows: which stamps to believe, and when it has jumped."""

from __future__ import annotations

import enum
from array import array
from bisect import bisect_left, bisect_right, insort

# Stamps may be this far behind or ahead of the newest one without being doubted. It is more than
# any reordering on the way, and less than any bag that loops.
TOLERANCE_NS = 2_000_000_000
# A doubted stamp is confirmed by one that follows it within this time.
CONFIRM_NS = 10_000_000_000
# Stamps that a log remembers: about half an hour of 60 Hz.
MAX_LOGGED = 100_000


class Judgement(enum.Enum):
    """What to think of a stamp."""

    USUAL = 'usual'
    DOUBTED = 'doubted'
    JUMP_BACK = 'jump back'
    JUMP_FORWARD = 'jump forward'


class StampClock:
    """
    Follows the stamps of one source in nanoseconds.

    A stamp within TOLERANCE_NS of the newest one is usual. Any other is doubted until the very
    next stamp that is not usual confirms it, by lying up to CONFIRM_NS after it or up to
    TOLERANCE_NS before it: then the clock has jumped. A single wild stamp changes nothing.
    """

    def __init__(self) -> None:
        self.newest_ns: int | None = None
        self.doubted_ns: int | None = None

    def judge(self, stamp_ns: int) -> Judgement:
        """Tell what ``note`` would say, without noting the stamp."""
        newest, doubted = self.newest_ns, self.doubted_ns
        if newest is None or abs(stamp_ns - newest) <= TOLERANCE_NS:
            return Judgement.USUAL
        confirmed = (
            doubted is not None
            and stamp_ns != doubted
            and -TOLERANCE_NS <= stamp_ns - doubted <= CONFIRM_NS
        )
        if not confirmed:
            return Judgement.DOUBTED
        return Judgement.JUMP_BACK if stamp_ns < newest else Judgement.JUMP_FORWARD

    def note(self, stamp_ns: int) -> Judgement:
        """Follow the stamp, and tell what to think of it."""
        judgement = self.judge(stamp_ns)
        if judgement is Judgement.DOUBTED:
            self.doubted_ns = stamp_ns
            return judgement
        if self.newest_ns is None or judgement is not Judgement.USUAL:
            self.newest_ns = stamp_ns
        self.newest_ns = max(self.newest_ns, stamp_ns)
        self.doubted_ns = None
        return judgement


class StampLog:
    """The sorted stamps of the latest messages, at most MAX_LOGGED; counts those in a span."""

    def __init__(self) -> None:
        self._stamps = array('q')

    def add(self, stamp_ns: int) -> None:
        """Log one message; the smallest tenth of the stamps goes when the log is full."""
        if len(self._stamps) >= MAX_LOGGED:
            del self._stamps[: MAX_LOGGED // 10]
        insort(self._stamps, stamp_ns)

    def count(self, start_ns: int, end_ns: int) -> int:
        """Count the messages stamped from ``start_ns`` to ``end_ns``, both included."""
        first = bisect_left(self._stamps, start_ns)
        return max(0, bisect_right(self._stamps, end_ns) - first)

    def clear(self) -> None:
        """Forget all."""
        del self._stamps[:]
