# SPDX-License-Identifier: Apache-2.0
"""What the injected modes lead to: a table of judged outcomes by task and mode."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing import get_context

from armor_ros.simulation.domain import DOMAINS, TRAIN
from armor_ros.simulation.episode import draw_setup, run_episode
from armor_ros.simulation.failures import FAILURES, NOMINAL, modes_of
from armor_ros.simulation.tasks import TASKS

SUCCESS = 'success'


@dataclass(frozen=True, slots=True)
class Outcomes:
    """
    The judged outcomes of one mode of a task.

    ``counts`` holds the number of episodes by cause ('success' for none), ``fitting`` how many
    ended as the mode is meant to: in its family's failure, or in success for 'nominal'.
    """

    task: str
    mode: str
    counts: Counter[str]
    fitting: int

    @property
    def share(self) -> float:
        """The fraction of episodes that ended as meant."""
        return self.fitting / max(1, sum(self.counts.values()))

    @property
    def family(self) -> str:
        """The family of failures that is meant; '' for 'nominal'."""
        return '' if self.mode == NOMINAL else FAILURES[self.mode].family


def outcomes_of(task: str, mode: str, seeds: Iterable[int], domain: str = TRAIN.name) -> Outcomes:
    """Simulate a mode of a task with each seed and count what the judge says."""
    counts: Counter[str] = Counter()
    fitting = 0
    for seed in seeds:
        cause = run_episode(draw_setup(seed, mode, task, domain)).judgement.cause
        counts[SUCCESS if cause is None else cause.kind.value] += 1
        if mode == NOMINAL:
            fitting += cause is None
        else:
            fitting += cause is not None and FAILURES[mode]().matches(cause)
    return Outcomes(task, mode, counts, fitting)


HEADER = """\
| task | injected mode | family | as meant | judged outcomes |
|---|---|---|---|---|"""


def table_row(row: Outcomes) -> str:
    """Return outcomes as a row, below ``HEADER``, of a table in Markdown."""
    judged = ', '.join(f'{cause} {count}' for cause, count in row.counts.most_common())
    return f'| {row.task} | {row.mode} | {row.family} | {100 * row.share:.0f} % | {judged} |'


def _measure(job: tuple[str, str, int, str]) -> Outcomes:
    task, mode, seeds, domain = job
    return outcomes_of(task, mode, range(seeds), domain)


def main() -> None:
    """Print the table: ``python -m armor_ros.simulation.outcomes --seeds 30``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--seeds', type=int, default=30, help='episodes by task and mode')
    parser.add_argument('--task', action='append', choices=sorted(TASKS), help='default: all')
    parser.add_argument('--mode', action='append', help='default: all of the task')
    parser.add_argument('--domain', default=TRAIN.name, choices=sorted(DOMAINS))
    parser.add_argument('--workers', type=int, default=1)
    options = parser.parse_args()
    jobs = [
        (task, mode, options.seeds, options.domain)
        for task in options.task or TASKS
        for mode in modes_of(task)
        if options.mode is None or mode in options.mode
    ]
    with get_context('spawn').Pool(options.workers) as pool:
        print(HEADER)
        for row in pool.imap(_measure, jobs):
            print(table_row(row), flush=True)


if __name__ == '__main__':
    main()
