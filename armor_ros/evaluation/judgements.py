# SPDX-License-Identifier: Apache-2.0
"""
What judges said of explanations, kept in a run folder so that scoring needs no judge.

A judgement belongs to three texts (instruction, reference, answer), not to a line: the same words
are judged once, whichever task or round they come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from armor_ros.episodes.text import safe_file_name
from armor_ros.errors import ArmorError
from armor_ros.evaluation.lines import Line, best_answers, has_reference

FOLDER = 'judgements'

# Instruction, reference, answer.
Texts = tuple[str, str, str]
# 1, 0.5 or 0; None where the judge gave no usable answer.
Judgements = Mapping[Texts, float | None]


def texts_of(line: Line, answer: str) -> Texts:
    """Return what a judge is asked about an answer to a line's task."""
    return (line.get('instruction') or '', line['label_explanation'], answer)


def texts_to_judge(lines: Sequence[Line], *, rounds: bool = True) -> list[Texts]:
    """
    Return what a judge is to be asked for a run, each once, in the order of the lines.

    With ``rounds``, the best answer of every round too, for scores by round.
    """
    texts: dict[Texts, None] = {}
    for line in lines:
        if not has_reference(line):
            continue
        answers = [line.get('explanation') or '']
        if rounds:
            answers += [answer['explanation'] for answer in best_answers(line)]
        texts.update((texts_of(line, answer), None) for answer in answers if answer)
    return list(texts)


def write_judgements(folder: Path, judge: str, judgements: Judgements) -> Path:
    """Write what one judge said into a run folder; the same judgements give the same bytes."""
    path = folder / FOLDER / f'{safe_file_name(judge)}.jsonl'
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({'judge': judge})]
    rows += [
        json.dumps(
            {'instruction': texts[0], 'reference': texts[1], 'answer': texts[2], 'score': score},
            ensure_ascii=False,
        )
        for texts, score in sorted(judgements.items(), key=lambda item: item[0])
    ]
    partial = path.with_suffix('.part')
    partial.write_text(_joined(rows), encoding='utf-8', errors='backslashreplace')
    partial.replace(path)
    return path


def read_judgements(folder: Path) -> dict[str, Judgements]:
    """Return the judgements of a run folder by judge; raises ArmorError for a broken file."""
    result: dict[str, Judgements] = {}
    for path in sorted((folder / FOLDER).glob('*.jsonl')):
        rows = path.read_text(encoding='utf-8').split('\n')
        try:
            judge = json.loads(rows[0])['judge']
            result[judge] = dict(_entry(row) for row in rows[1:] if row)
        except (ValueError, KeyError, TypeError) as error:
            raise ArmorError(
                f'{path} is not a file of judgements ({error}); remove it and judge again'
            ) from error
    return result


def _entry(row: str) -> tuple[Texts, float | None]:
    record = json.loads(row)
    score = record['score']
    if score not in (None, 0, 0.5, 1) or isinstance(score, bool):
        raise ValueError(f'score is {score!r}; it must be 0, 0.5, 1 or null')
    texts = (record['instruction'], record['reference'], record['answer'])
    return texts, None if score is None else float(score)


def _joined(rows: Iterable[str]) -> str:
    return ''.join(row + '\n' for row in rows)
