# SPDX-License-Identifier: Apache-2.0
"""What is made of a run's predictions: judgements, figures, a report, files for other tools."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from armor_ros.datasets.manifest import write_whole
from armor_ros.errors import ArmorError
from armor_ros.evaluation.judgements import texts_to_judge, write_judgements
from armor_ros.evaluation.lines import read_lines, run_folders
from armor_ros.evaluation.sources import Source

AHA_FILE = 'aha_predictions.jsonl'


@dataclass(frozen=True, slots=True)
class OutcomeOptions:
    """
    What is to be made of a run's predictions.

    ``judges`` are specs of models that grade explanations, ``limits`` a file of bounds on
    metrics; ``report``, ``aha`` and ``annotate`` ask for report.html, AHA's prediction format and
    recordings with the verdicts in them.
    """

    judges: Sequence[str] = ()
    limits: Path | None = None
    report: bool = True
    aha: bool = False
    annotate: bool = False
    device: str = 'auto'


def check_outcome(options: OutcomeOptions) -> None:
    """Raise ArmorError for what can be known to be wrong before a model has run for hours."""
    from armor_ros.evaluation.limits import read_limits

    if options.limits is not None:
        read_limits(options.limits)
    for spec in options.judges:
        check_judge(spec)


def check_judge(spec: str) -> None:
    """Raise ArmorError when a judge is not known, has no key, or cannot be reached."""
    from armor_ros.evaluation.judges import make_judge

    # a local model is loaded when it is needed; it would take the memory of the one that answers
    if spec.startswith('hf:'):
        return
    judge = make_judge(spec)
    if judge is not None:
        judge.check()


def make_outcome(
    folder: Path, sources: Sequence[Source], options: OutcomeOptions, console: Console
) -> None:
    """
    Judge, score, check limits and render a run folder; needs its predictions alone.

    Raises ArmorError when something cannot be made, and at the end when a limit does not hold.
    """
    from armor_ros.evaluation.scoring import run_scoring

    for spec in options.judges:
        judge_run(folder, spec, options.device, console)
    if options.aha:
        write_aha_predictions(folder)
    # the figures are worth having where limits are broken, so the error waits
    broken: ArmorError | None = None
    try:
        run_scoring(folder, options.limits)
    except ArmorError as error:
        broken = error
    # plotly and jinja2 are imported only where there is a page to write
    if options.report:
        from armor_ros.evaluation.rendering import run_report

        run_report(folder)
    if options.annotate:
        from armor_ros.evaluation.rendering import run_annotation

        run_annotation(folder)
    if broken is not None:
        raise broken


def judge_run(folder: Path, spec: str, device: str, console: Console) -> None:
    """Have a judge grade the explanations of a run and of its baselines; raises ArmorError."""
    from armor_ros.evaluation.judges import Pair, make_judge

    judge = make_judge(spec, judge_cache(), device=device)
    if judge is None:
        return
    for run in run_folders(folder):
        texts = texts_to_judge(read_lines(run))
        pairs = [Pair(reference, answer, instruction) for instruction, reference, answer in texts]
        scores = judge.score_all(pairs)
        write_judgements(run, judge.name, dict(zip(texts, scores, strict=True)))
        unjudged = sum(score is None for score in scores)
        console.print(
            f'{judge.name} graded {len(scores) - unjudged} of {len(scores)} explanations of '
            f'{run.name}',
            highlight=False,
        )


def judge_cache() -> Path:
    """Return the folder in which grades are kept from run to run."""
    return Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'armor' / 'grades'


def write_aha_predictions(folder: Path) -> Path:
    """
    Write a run's answers as AHA's own metric scripts read them.

    One JSON object a line: ``question_id``, the sample's id as a number where it is one, and
    ``text``: 'Yes, ...' for success or 'No, ...' with the reason; of a task without an answer the
    text is empty.
    """
    rows = [
        {'question_id': _question_id(line), 'text': _aha_text(line)} for line in read_lines(folder)
    ]
    path = folder / AHA_FILE
    text = ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
    # half a character, as a broken name has it, is written as JSON escapes it
    write_whole(path, text.encode('utf-8', 'backslashreplace').decode())
    return path


def _question_id(line: dict[str, Any]) -> int | str:
    name: str = line['sample_id'] or line['task_id']
    # '007' is a name: as a number it would be another
    is_number = name.isascii() and name.isdecimal() and len(name) < 19 and name == str(int(name))
    return int(name) if is_number else name


def _aha_text(line: dict[str, Any]) -> str:
    from armor_ros.evaluation.lines import answered_failed

    failed = answered_failed(line)
    if failed is None:
        return ''
    if not failed:
        return 'Yes, the robot succeed at the sub-task.'
    explanation = line['explanation'].strip()
    return f'No, {explanation}' if explanation else 'No'
