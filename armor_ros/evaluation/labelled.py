# SPDX-License-Identifier: Apache-2.0
"""Labelled lines as arrays, one entry a task: what the figures of detection are made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from armor_ros.evaluation.intervals import REPLICATES, SEED, Array, Bootstrap, Flags
from armor_ros.evaluation.lines import Line, answered_failed, cluster_of


@dataclass(frozen=True)
class Labelled:
    """
    Tasks whose outcome is known.

    ``failed`` is the label; ``said_failed`` and ``said_success`` what was answered, neither where
    there was no answer; ``probability`` the probability of failure, NaN where none was given.
    """

    lines: tuple[Line, ...]
    failed: Flags
    said_failed: Flags
    said_success: Flags
    probability: Array
    bootstrap: Bootstrap

    @classmethod
    def of(
        cls, lines: Sequence[Line], *, replicates: int = REPLICATES, seed: int = SEED
    ) -> Labelled:
        """Make the arrays of lines that all have a label."""
        answers = [answered_failed(line) for line in lines]
        return cls(
            lines=tuple(lines),
            failed=flags(lines, lambda line: line['label'] == 'failure'),
            said_failed=np.array([answer is True for answer in answers], np.bool_),
            said_success=np.array([answer is False for answer in answers], np.bool_),
            probability=numbers(lines, 'failure_probability'),
            bootstrap=Bootstrap(
                [cluster_of(line) for line in lines], replicates=replicates, seed=seed
            ),
        )

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def everything(self) -> Flags:
        """All tasks."""
        return np.ones(len(self), np.bool_)

    @property
    def answered(self) -> Flags:
        """Tasks with an answer."""
        return self.said_failed | self.said_success

    @property
    def right(self) -> Flags:
        """Tasks with the right answer; no answer is a wrong one."""
        return (self.failed & self.said_failed) | (~self.failed & self.said_success)

    @property
    def scored(self) -> Flags:
        """Tasks with an answer and a probability."""
        return self.answered & np.isfinite(self.probability)


def flags(lines: Sequence[Line], test: Callable[[Line], bool]) -> Flags:
    """Return a test's result for each line."""
    return np.array([bool(test(line)) for line in lines], np.bool_)


def numbers(lines: Sequence[Line], key: str) -> Array:
    """Return each line's number under a key, NaN for none."""
    values = [line.get(key) for line in lines]
    return np.array([np.nan if value is None else value for value in values], np.float64)
