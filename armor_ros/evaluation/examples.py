# SPDX-License-Identifier: Apache-2.0
"""Examples for few-shot prompts: labelled cases of sources that are not evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from armor_ros.errors import ArmorError
from armor_ros.evaluation.baselines import Candidate, Example, select_examples
from armor_ros.evaluation.case import Case
from armor_ros.evaluation.sources import BagSource, PartLog, RecordSource, Source


def choose_examples(
    sources: Sequence[Source], count: int, evaluated: Sequence[Source]
) -> tuple[Example, ...]:
    """
    Return ``count`` examples of ``sources``, successes and failures by turns.

    None is a sample that is evaluated, or shares a recording or a group with one. The choice
    depends on what there is to choose from alone. Raises ArmorError when a recording is
    evaluated and to be an example, and when there are too few to choose from.
    """
    excluded = {name for source in evaluated for name in _names(source)}
    for source in sources:
        if isinstance(source, BagSource) and _place(source) in excluded:
            raise ArmorError(f'{source.path} is evaluated; give other recordings for the examples')
    wanted = select_examples(
        chain.from_iterable(_candidates(source) for source in sources), count, excluded=excluded
    )
    found: dict[str, Example] = {}
    for source in sources:
        for case in _cases(source, wanted):
            name = f'{_place(source)}/{case.id}'
            if name in wanted and case.label.label is not None:
                found[name] = Example(
                    case.episode, case.label.label == 'failure', case.label.explanation or ''
                )
    return tuple(found[name] for name in wanted if name in found)


def _place(source: Source) -> str:
    return str(source.path.resolve())


def _names(source: Source) -> Iterator[str]:
    """Yield what no example may be called: an evaluated place, its samples, their recordings."""
    place = _place(source)
    if not isinstance(source, RecordSource):
        yield place
        return
    for record in source.records():
        yield f'{place}/{record.id}'
        yield f'{place}#{record.group or record.episode or record.id}'


def _candidates(source: Source) -> Iterator[Candidate]:
    """Yield the labelled cases of a source; the pictures of a data set are not read for that."""
    place = _place(source)
    if isinstance(source, RecordSource):
        for record in source.records():
            label = source.label_of(record)
            if label.label is not None:
                group = f'{place}#{record.group or record.episode or record.id}'
                failed = label.label == 'failure'
                name = f'{place}/{record.id}'
                yield Candidate(name, failed, label.explanation or '', group)
        return
    for case in _cases(source, None):
        if case.label.label is not None:
            failed = case.label.label == 'failure'
            yield Candidate(f'{place}/{case.id}', failed, case.label.explanation or '')


def _cases(source: Source, wanted: Sequence[str] | None) -> Iterator[Case]:
    """Yield the cases of a source, of a data set only those that are wanted."""
    log = PartLog()
    if isinstance(source, RecordSource) and wanted is not None:
        place = _place(source)
        for record in source.records():
            if f'{place}/{record.id}' in wanted:
                yield source.case_of(record, log)
        return
    for part in range(source.parts()):
        yield from source.cases(part, log)
