# SPDX-License-Identifier: Apache-2.0
"""From the lines of a run to metrics.json: every figure, with its doubt and of how many tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from armor_ros.evaluation.detection import abstention, confusion, detection, disagreement, groups
from armor_ros.evaluation.doubt import doubt
from armor_ros.evaluation.failure_kinds import kind_figures
from armor_ros.evaluation.intervals import CONFIDENCE
from armor_ros.evaluation.judgements import Judgements
from armor_ros.evaluation.labelled import Labelled
from armor_ros.evaluation.lines import Line, common_value
from armor_ros.evaluation.reasoning import Referenced, reasoning
from armor_ros.evaluation.refinement import Refined, policies, rounds

SCHEMA = 1

Metrics = dict[str, Any]


def score(lines: Sequence[Line], judgements: Mapping[str, Judgements] | None = None) -> Metrics:
    """
    Return the metrics of a run; the same lines and judgements always give the same.

    The figures of detection, abstention, doubt, rounds and groups are on strong labels (a
    person's, a data set's, a simulator's) if there is one, else on weak ones (the robot's own
    stack's); ``run.labels_used`` says which, and ``labels`` has detection on both. Lines without
    a label count in ``counts``, ``disagreement`` and ``cost`` alone. ``kinds`` is None where no
    line says what caused a failure (see ``kind_figures``).
    """
    strong = [line for line in lines if line['label'] and not line.get('label_weak')]
    weak = [line for line in lines if line['label'] and line.get('label_weak')]
    tasks = Labelled.of(strong or weak)
    headline = _on_labels(tasks)
    other = _on_labels(Labelled.of(weak)) if strong and weak else None
    referenced = Referenced(lines, judgements or {})
    refined = Refined(tasks, referenced)
    used = ('strong' if strong else 'weak') if len(tasks) else 'none'
    return {
        'schema': SCHEMA,
        'run': _run(lines, tasks, used),
        'counts': _counts(lines),
        'detection': headline['detection'],
        'confusion': headline['confusion'],
        'labels': {
            'strong': headline if strong else None,
            'weak': other if strong else (headline if weak else None),
        },
        'disagreement': disagreement(lines),
        'abstention': abstention(tasks),
        'reasoning': reasoning(referenced),
        'kinds': kind_figures(tasks) if any(map(_has_kind, tasks.lines)) else None,
        'doubt': doubt(tasks),
        'rounds': rounds(refined),
        'policies': policies(refined),
        'groups': groups(tasks),
        'cost': cost(lines),
    }


def cost(lines: Sequence[Line]) -> dict[str, Any]:
    """
    Return what the answers took, in seconds, over the lines whose status is OK.

    ``rounds`` is the time that each round took where it was run, the first one with everything
    before it.
    """
    timings = [line.get('timing') or {} for line in lines if line.get('status', 'OK') == 'OK']
    inference = _seconds(timing.get('inference_seconds') for timing in timings)
    by_round = [timing.get('round_seconds') or [] for timing in timings]
    longest = max(map(len, by_round), default=0)
    mean = inference['mean']
    return {
        'inference_seconds': inference,
        'first_detection_seconds': _seconds(
            timing.get('first_detection_seconds') for timing in timings
        ),
        'rounds': [
            {'round': index, **_seconds(row[index] for row in by_round if len(row) > index)}
            for index in range(longest)
        ],
        'tasks_per_minute': round(60 / mean, 3) if mean else None,
    }


def _run(lines: Sequence[Line], tasks: Labelled, used: str) -> dict[str, Any]:
    return {
        'model': common_value(lines, 'model'),
        'config_hash': common_value(lines, 'config_hash'),
        'sources': sorted({line['source'] for line in lines}),
        'labels_used': used,
        'confidence': CONFIDENCE,
        'clusters': tasks.bootstrap.clusters,
        'replicates': tasks.bootstrap.replicates,
        'seed': tasks.bootstrap.seed,
    }


def _counts(lines: Sequence[Line]) -> dict[str, Any]:
    def count(key: str) -> dict[str, int]:
        return dict(sorted(Counter(str(line.get(key) or '') for line in lines).items()))

    verdicts = count('verdict')
    return {
        'tasks': len(lines),
        'labelled': sum(line['label'] is not None for line in lines),
        'weak': sum(line['label'] is not None and bool(line.get('label_weak')) for line in lines),
        'unlabelled': sum(line['label'] is None for line in lines),
        'unknown': verdicts.get('UNKNOWN', 0),
        'abstained': verdicts.get('ABSTAIN', 0),
        'unparsable': sum(bool(line.get('unparsable')) for line in lines),
        'failures': sum(line['label'] == 'failure' for line in lines),
        'successes': sum(line['label'] == 'success' for line in lines),
        'by_label_source': count('label_source'),
        'by_status': count('status'),
        'by_task_status': count('task_status'),
        'by_verdict': verdicts,
    }


def _has_kind(line: Line) -> bool:
    return bool(line.get('failure_kind'))


def _on_labels(tasks: Labelled) -> dict[str, Any]:
    return {'n': len(tasks), 'detection': detection(tasks), 'confusion': confusion(tasks)}


def _seconds(values: Any) -> dict[str, Any]:
    """Return mean, percentiles and maximum of some seconds; None without any."""
    known = np.array([value for value in values if value is not None], np.float64)
    names = ('mean', 'p50', 'p90', 'p99', 'max')
    if not len(known):
        return {**dict.fromkeys(names), 'n': 0}
    numbers = [known.mean(), *np.percentile(known, [50, 90, 99, 100])]
    rounded = [round(float(number), 6) for number in numbers]
    return {**dict(zip(names, rounded, strict=True)), 'n': len(known)}
