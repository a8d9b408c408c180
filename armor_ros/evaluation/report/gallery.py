# SPDX-License-Identifier: Apache-2.0
"""The tasks of a run as a reader goes through them: confident and wrong ones first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from armor_ros.evaluation.evidence_file import evidence_path
from armor_ros.evaluation.lines import Line, answered_failed, best_answers
from armor_ros.evaluation.report.pictures import choose, embed

# Tasks on a page at most, and characters of all their texts together.
MOST_TASKS = 10_000
_TEXT_BUDGET = 6_000_000
_TEXTS = 6
_LONGEST_TEXT, _SHORTEST_TEXT = 2000, 80

# How a task went for the monitor, in the order of what is most worth looking at.
OUTCOMES = {
    'wrong': 'wrong',
    'contradicts': 'contradicts the robot',
    'unanswered': 'no answer',
    'abstained': 'abstained',
    'unlabelled': 'not labelled',
    'agrees': 'agrees with the robot',
    'right': 'right',
}
_SAID = {True: 'failure', False: 'success', None: ''}
_RANKS = {name: rank for rank, name in enumerate(OUTCOMES)}


def outcome(line: Line) -> str:
    """
    Return one of ``OUTCOMES``.

    A label that is the robot's own word makes no verdict right or wrong: it agrees with the robot
    or contradicts it.
    """
    failed = answered_failed(line)
    if failed is None:
        return 'unanswered'
    if line['verdict'] == 'ABSTAIN':
        return 'abstained'
    if line['label'] is None:
        return 'contradicts' if line.get('disagrees_with_status') else 'unlabelled'
    is_right = failed == (line['label'] == 'failure')
    if line.get('label_weak'):
        return 'agrees' if is_right else 'contradicts'
    return 'right' if is_right else 'wrong'


def confidence(line: Line) -> float | None:
    """Return the probability of the likelier label, None where there is no probability."""
    probability = line.get('failure_probability')
    return None if probability is None else max(probability, 1 - probability)


def worst_first(lines: Sequence[Line]) -> list[int]:
    """
    Return the indices of lines, the most telling first.

    By outcome; wrong ones by falling confidence, and all that is not wrong by rising confidence.
    """

    def key(index: int) -> tuple[int, float, int]:
        line = lines[index]
        found = outcome(line)
        sure = confidence(line)
        sure = 0.5 if sure is None else sure
        return _RANKS[found], -sure if found in ('wrong', 'contradicts') else sure, index

    return sorted(range(len(lines)), key=key)


def gallery(folder: Path, lines: Sequence[Line]) -> dict[str, Any]:
    """
    Return the gallery's content as plain values: the tasks, worst first, and their pictures.

    ``pictures`` are data URIs, which tasks name by index; ``shown`` says how many pictures there
    are, of how many. Texts of many tasks are cut so that the page stays small.
    """
    order = worst_first(lines)
    kept = order[:MOST_TASKS]
    uris = embed(folder, lines, choose(lines, kept))
    limit = _TEXT_BUDGET // (_TEXTS * max(1, len(kept)))
    limit = min(_LONGEST_TEXT, max(_SHORTEST_TEXT, limit))
    position = {index: number for number, index in enumerate(uris)}
    return {
        'tasks': [_entry(folder, lines[index], index, position, limit) for index in kept],
        'pictures': list(uris.values()),
        'shown': {
            'tasks': len(kept),
            'of_tasks': len(lines),
            'pictures': len(uris),
            'of_pictures': sum(bool(line.get('evidence')) for line in lines),
        },
    }


def _entry(
    folder: Path, line: Line, index: int, position: dict[int, int], limit: int
) -> dict[str, Any]:
    """Return what the page tells of a task; keys without a value are left out."""
    has_file = evidence_path(folder, line) is not None
    timing = line.get('timing') or {}
    values = {
        'number': index,
        'outcome': outcome(line),
        'id': _cut(line.get('sample_id') or line['task_id'], limit),
        'source': _cut(line['source'], limit),
        'instruction': _cut(line.get('instruction'), limit),
        'task': _cut(line.get('task_kind') or line.get('task_name'), limit),
        'split': _cut(line.get('split'), limit),
        'mode': _cut(line.get('injected_mode'), limit),
        'robot': line.get('task_status') or '',
        'robot_said': _cut(line.get('task_status_message'), limit),
        'label': line['label'],
        'by': line.get('label_source') or '',
        'weak': bool(line.get('label_weak')),
        'reference': _cut(line.get('label_explanation'), limit),
        'verdict': line['verdict'],
        'status': line.get('status') if line.get('status') != 'OK' else '',
        'status_text': _cut(line.get('status_text'), limit),
        'unparsable': bool(line.get('unparsable')),
        'raw': _cut(' / '.join(map(str, line.get('raw_answers') or [])), limit),
        'said': _SAID[answered_failed(line)],
        'p': _short(line.get('failure_probability')),
        'calibrated': bool(line.get('calibrated')),
        'sure': _short(confidence(line)),
        'detection': _short(line.get('detection_entropy')),
        'words': _short(line.get('explanation_entropy')),
        'doubt': _short(line.get('combined_entropy')),
        'explanation': _cut(line.get('explanation'), limit),
        'account': _cut(line.get('account'), limit),
        'rounds': _rounds(line, limit // 4),
        'seconds': _short(timing.get('inference_seconds')),
        'cameras': _cameras(line),
        'truncated': bool(line.get('truncated')),
        'late': bool(line.get('deadline_reached')),
        'picture': position.get(index),
        'file': quote(line['evidence']) if has_file else '',
    }
    return {name: value for name, value in values.items() if not _is_nothing(value)}


def _is_nothing(value: object) -> bool:
    """Tell whether a value says nothing; a zero does say something."""
    return value is None or value is False or value in ('', [])


def _rounds(line: Line, limit: int) -> list[dict[str, Any]]:
    """Return the answer of each round, if there were several."""
    answers = best_answers(line)
    if len(answers) < 2:
        return []
    return [
        {
            'p': _short(answer['failure_probability']),
            'doubt': _short(answer['combined_entropy']),
            'text': _cut(answer['explanation'], max(limit, _SHORTEST_TEXT)),
        }
        for answer in answers
    ]


def _cameras(line: Line) -> str:
    cameras = line.get('cameras') or []
    return ', '.join(f'{_cut(c["camera"], 40)} {c["frames_used"]}' for c in cameras[:8])


def _cut(text: object, limit: int) -> str:
    text = '' if text is None else str(text)
    return text if len(text) <= limit else f'{text[: limit - 1]}…'


def _short(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
