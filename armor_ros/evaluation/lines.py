# SPDX-License-Identifier: Apache-2.0
"""The lines of predictions.jsonl as plain values: read, checked, and what they mean."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from armor_ros.episodes.diagnosis import (
    ExplanationChoice,
    ReturnPolicy,
    Round,
    select_answer,
)
from armor_ros.errors import ArmorError

PREDICTIONS = 'predictions.jsonl'
BASELINES = 'baselines'

Line = dict[str, Any]
# Source, and the sample's id, in a bag the task's.
Key = tuple[str, str]

_ANSWER = tuple(field.name for field in dataclasses.fields(Round))
# What lines of an older version do not say.
_LACKING = {'contradicts': False}
_VERDICTS = ('UNKNOWN', 'SUCCESS', 'FAILURE', 'ABSTAIN')
_LABELS = ('success', 'failure', None)
_NUMBERS = (
    'failure_probability',
    'detection_entropy',
    'explanation_entropy',
    'combined_entropy',
)


def read_lines(path: Path) -> list[Line]:
    """
    Read a run folder's predictions, or a file of such lines.

    Raises ArmorError that names the file, the line and what is wrong with it.
    """
    file = path / PREDICTIONS if path.is_dir() else path
    if not file.exists():
        raise ArmorError(
            f'{path} holds no {PREDICTIONS}; give a folder that armor evaluate wrote'
            if path.is_dir()
            else f'there is no {path}; give a folder that armor evaluate wrote'
        )
    try:
        text = file.read_text(encoding='utf-8', errors='backslashreplace')
    except OSError as error:
        raise ArmorError(f'cannot read {file}: {error.strerror or error}') from error
    # only at newlines: other characters that split lines may stand in a text
    rows = text.split('\n')
    lines = [
        _parse(row, f'{file}, line {number}') for number, row in enumerate(rows, 1) if row.strip()
    ]
    if not lines:
        raise ArmorError(f'{file} is empty: there is nothing to score')
    return lines


def run_folders(folder: Path) -> Iterator[Path]:
    """Yield a run folder and those of its baselines, in order of their names."""
    yield folder
    baselines = folder / BASELINES
    if baselines.is_dir():
        yield from sorted(path.parent for path in baselines.glob(f'*/{PREDICTIONS}'))


def key_of(line: Line) -> Key:
    """Return what names a task in every run on the same sources."""
    return line['source'], line.get('sample_id') or line['task_id']


def cluster_of(line: Line) -> str:
    """Return what is equal for tasks that are not independent of each other."""
    return line.get('group') or line.get('episode') or '/'.join(key_of(line))


def answered_failed(line: Line) -> bool | None:
    """
    Return whether the answer is "failed", also where the verdict is ABSTAIN; None without one.

    The answer is the selected one of the trace, or what a baseline said.
    """
    if line['verdict'] == 'UNKNOWN' or line.get('unparsable'):
        return None
    trace, selected = line.get('trace') or [], line.get('selected')
    if trace and selected is not None:
        return bool(trace[selected]['failed'])
    if line['verdict'] != 'ABSTAIN':
        return bool(line['verdict'] == 'FAILURE')
    probability = line.get('failure_probability')
    return None if probability is None else bool(probability >= 0.5)


def rounds_run(line: Line) -> int:
    """Return how many rounds of refinement a line's task took, 0 without an answer."""
    return max((1 + int(answer['round']) for answer in line.get('trace') or []), default=0)


def answer_within(
    line: Line, rounds: int, policy: ReturnPolicy = ReturnPolicy.LAST
) -> Line | None:
    """
    Return what would have been answered with at most so many rounds; None without an answer.

    The trajectory is chosen as it was (see ExplanationChoice); a task that stopped earlier keeps
    its answer.
    """
    entries = [entry for entry in line.get('trace') or [] if entry['round'] < rounds]
    if not entries:
        return None
    choice = (line.get('settings') or {}).get('explanation_choice', ExplanationChoice.PAPER)
    answers = [
        Round(**{name: entry.get(name, _LACKING.get(name)) for name in _ANSWER})
        for entry in entries
    ]
    answer: Line = entries[select_answer(answers, policy, ExplanationChoice(choice))]
    return answer


def best_answers(line: Line) -> list[Line]:
    """Return what would have been answered after each round that was run, in order."""
    answers = (answer_within(line, 1 + index) for index in range(rounds_run(line)))
    return [answer for answer in answers if answer is not None]


def has_reference(line: Line) -> bool:
    """Tell whether there is an explanation by a person or a simulator to compare with."""
    return bool(line.get('label') and (line.get('label_explanation') or '').strip())


def common_value(lines: Sequence[Line], key: str) -> Any:
    """Return the value that all lines with one have under a key, or a list of the different."""
    values: list[Any] = []
    for line in lines:
        value = line.get(key)
        if value not in (None, '') and value not in values:
            values.append(value)
    return values[0] if len(values) == 1 else values or None


def _parse(row: str, where: str) -> Line:
    try:
        line = json.loads(row, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ArmorError(
            f'{where} is no line of predictions ({error}); was the run interrupted? Repeat it, '
            'or remove the line'
        ) from error
    if not isinstance(line, dict):
        raise ArmorError(f'{where} is not a JSON object; give a file that armor evaluate wrote')
    _check(line, where)
    return line


def _refuse_constant(name: str) -> float:
    raise ValueError(f'{name} is not a number')


def _check(line: Line, where: str) -> None:
    """Raise ArmorError where a line lacks what every figure rests on."""
    for key in ('source', 'task_id', 'verdict', 'label'):
        if key not in line:
            raise ArmorError(
                f'{where} has no {key!r}; give predictions that this version of armor evaluate '
                'wrote'
            )
    if line['verdict'] not in _VERDICTS:
        raise ArmorError(f'{where}: verdict is {line["verdict"]!r}, none of {_VERDICTS}')
    if line['label'] not in _LABELS:
        raise ArmorError(f'{where}: label is {line["label"]!r}; it must be one of {_LABELS}')
    for key in _NUMBERS:
        value = line.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ArmorError(f'{where}: {key} is {value!r}; it must be a number or null')
    probability = line.get('failure_probability')
    if probability is not None and not 0 <= probability <= 1:
        raise ArmorError(f'{where}: failure_probability is {probability}; it must be in [0, 1]')
    trace, selected = line.get('trace') or [], line.get('selected')
    if trace and not (isinstance(selected, int) and 0 <= selected < len(trace)):
        raise ArmorError(f'{where}: selected is {selected!r}, no index of its trace')
