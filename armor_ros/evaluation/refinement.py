# SPDX-License-Identifier: Apache-2.0
"""What refinement gains, round by round (the paper's Table 3 and Figure 3a)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from armor_ros.episodes.diagnosis import ReturnPolicy
from armor_ros.evaluation.intervals import Figure, Flags
from armor_ros.evaluation.labelled import Labelled
from armor_ros.evaluation.lines import Line, answer_within, rounds_run
from armor_ros.evaluation.reasoning import Referenced

_ENTROPIES = ('detection_entropy', 'explanation_entropy', 'combined_entropy')

# Chooses one of the answers of a task's rounds; None where there is none.
Choice = Callable[[Line], Line | None]


@dataclass(frozen=True)
class Refined:
    """Runs with rounds: their labelled tasks, and those with an explanation to compare with."""

    tasks: Labelled
    referenced: Referenced

    @property
    def rounds(self) -> int:
        """The most rounds that any task took."""
        lines = (*self.tasks.lines, *self.referenced.lines)
        return max((rounds_run(line) for line in lines), default=0)


def rounds(refined: Refined) -> list[dict[str, Any]]:
    """
    Return what would be answered after each round, from round 0 on.

    The answer of a round is that of its trajectory with the lowest combined entropy, or of the
    one that the run's ``explanation_choice`` takes in its place. A task that stopped
    earlier carries its last answer forward, so that every round is about the same tasks; ``ran``
    counts those that did run it. Entropies are means in nats over the tasks that were answered.
    """
    result = []
    for index in range(refined.rounds):
        choice = _at_round(index)
        entry: dict[str, Any] = {
            'round': index,
            'n': len(refined.tasks),
            'ran': sum(rounds_run(line) > index for line in refined.tasks.lines),
            **_scores(refined, choice),
            **_entropies(refined.tasks, choice),
        }
        right = _right(refined.tasks, choice)
        before = _right(refined.tasks, _at_round(index - 1)) if index else right
        entry['flips_right'] = int((right & ~before).sum())
        entry['flips_wrong'] = int((~right & before).sum())
        result.append(entry)
    return result


def policies(refined: Refined) -> dict[str, Any] | None:
    """
    Return the scores of both return policies, on the same rounds; None without rounds.

    ``last`` returns the round at which refinement stopped, as in Algorithm 2, ``best`` the round
    with the lowest combined entropy.
    """
    if not refined.rounds:
        return None
    return {policy.value: _scores(refined, _by_policy(policy)) for policy in ReturnPolicy}


def _at_round(index: int) -> Choice:
    return lambda line: answer_within(line, 1 + index)


def _by_policy(policy: ReturnPolicy) -> Choice:
    return lambda line: answer_within(line, rounds_run(line), policy)


def _chosen(lines: Sequence[Line], choice: Choice) -> list[Line | None]:
    """Return each task's answer, None where the model gave none."""
    return [choice(line) for line in lines]


def _right(tasks: Labelled, choice: Choice) -> Flags:
    said = [
        None if answer is None else bool(answer['failed'])
        for answer in _chosen(tasks.lines, choice)
    ]
    pairs = zip(said, tasks.failed, strict=True)
    return np.array([answer is not None and answer == failed for answer, failed in pairs], bool)


def _scores(refined: Refined, choice: Choice) -> dict[str, Any]:
    tasks, referenced = refined.tasks, refined.referenced
    answers = [
        '' if answer is None else answer['explanation']
        for answer in _chosen(referenced.lines, choice)
    ]
    rouge = referenced.rouge(answers)
    return {
        'accuracy': tasks.bootstrap.proportion(_right(tasks, choice), tasks.everything),
        'rouge_l': referenced.mean(rouge),
        'rouge_l_failures': referenced.mean(rouge, referenced.failed),
        'judges': {
            judge: referenced.mean(referenced.judged(judge, answers))
            for judge in sorted(referenced.judgements)
        },
    }


def _entropies(tasks: Labelled, choice: Choice) -> dict[str, Figure]:
    answers = _chosen(tasks.lines, choice)
    among = np.array([answer is not None for answer in answers], np.bool_)
    return {
        name: tasks.bootstrap.mean(
            np.array([0.0 if answer is None else answer[name] for answer in answers]),
            among,
            'no task was answered',
        )
        for name in _ENTROPIES
    }
