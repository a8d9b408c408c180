# SPDX-License-Identifier: Apache-2.0
"""What a monitor thought of tasks: reports that were recorded, and runs of ``armor evaluate``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armor_ros.datasets.bag_reports import BagReport
from armor_ros.episodes.task import clean_task_id, clean_text
from armor_ros.errors import ArmorError
from armor_ros.evaluation.lines import read_lines

# Ids of tasks may come again, in another recording or in a loop; their ends do not. A monitor's
# END and that of a recording differ by what a message takes.
_TOLERANCE_NS = 5_000_000_000


@dataclass(frozen=True, slots=True)
class Opinion:
    """
    What a monitor said of one task.

    ``source`` names its recording, '' where that is clear. ``verdict`` is the name of a Verdict.
    ``evidence`` is a URI or a path of a picture, '' without one.
    """

    task_id: str
    end_ns: int
    verdict: str
    failure_probability: float | None = None
    explanation: str = ''
    evidence: str = ''
    source: str = ''

    @classmethod
    def of_report(cls, report: BagReport) -> Opinion:
        """Return what a recorded report says."""
        return cls(
            report.task_id,
            report.end_ns,
            report.verdict.name,
            report.failure_probability,
            report.explanation,
            report.evidence,
        )

    @property
    def confidence(self) -> float:
        """How sure the monitor was of its verdict: 0 without a probability, at most 1."""
        probability = self.failure_probability
        if probability is None or self.verdict not in ('SUCCESS', 'FAILURE'):
            return 0.0
        return probability if self.verdict == 'FAILURE' else 1 - probability


def read_opinions(run: Path) -> list[Opinion]:
    """
    Return what a run of ``armor evaluate`` on recordings says.

    Raises ArmorError when ``run`` is no run, or one on nothing but data sets.
    """
    lines = [line for line in read_lines(run) if line.get('source_kind', 'bag') == 'bag']
    if not lines:
        raise ArmorError(f'{run} was made from data sets; give a run on recordings')
    folder = run if run.is_dir() else run.parent
    return [_of_line(folder, line) for line in lines]


def find_opinion(
    opinions: Iterable[Opinion], source: str, task_id: str, end_ns: int
) -> Opinion | None:
    """
    Return the opinion on one run of a task: of the nearest end, within five seconds.

    One that names the recording counts before others, of equal ones the last.
    """
    found: Sequence[Opinion] = [
        each
        for each in opinions
        if each.task_id == task_id and abs(each.end_ns - end_ns) <= _TOLERANCE_NS
    ]
    found = [each for each in found if each.source in ('', source)] or found
    return min(reversed(found), key=lambda each: abs(each.end_ns - end_ns), default=None)


def _of_line(folder: Path, line: dict[str, Any]) -> Opinion:
    end_ns, evidence = line.get('task_end_ns'), line.get('evidence')
    return Opinion(
        task_id=clean_task_id(str(line['task_id'])),
        end_ns=end_ns if isinstance(end_ns, int) else 0,
        verdict=line['verdict'],
        failure_probability=line.get('failure_probability'),
        explanation=clean_text(str(line.get('explanation') or '')),
        evidence=str(folder / evidence) if isinstance(evidence, str) and evidence else '',
        source=str(line['source']),
    )
