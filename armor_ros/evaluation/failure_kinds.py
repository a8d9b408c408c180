# SPDX-License-Identifier: Apache-2.0
"""
Which kind of failure an explanation speaks of, told by its words.

For the phrasings of the simulator, whose samples say what really happened: there an explanation is
right when it names the kind of the event that caused the failure. Other texts are for judges.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from armor_ros.datasets.manifest import Sample
from armor_ros.evaluation.intervals import Figure
from armor_ros.evaluation.labelled import Labelled, flags

# Each kind's turns of phrase; a time has a full stop ("3.2 s"). The one that comes first in a text
# decides, of two that begin at the same place the earlier in this list.
_CUES: dict[str, tuple[str, ...]] = {
    'wrong_object': (
        r'(picks up|pushes|opens) the [^.]{1,60}? instead of the', r'(was|were) asked for',
        r'the task names', r'wrong (object|drawer)', r'which is not the',
    ),
    'incomplete_grasp': (
        r'fingers stay apart', r'stop closing before', r'do not close around',
        r'grasp remains incomplete', r'failed to close on', r'did not fully close',
    ),
    'wrong_sequence': (
        r'wrong (order|sequence)', r'out of order', r'order of actions', r'came down only after',
        r'closed before it had come down', r'opened before the item was moved',
        r'travel above the [^.]{1,60}? and come down',
    ),
    'multi_pick': (
        r'together with (it|the)', r'more than one item', r'picked up the [^.]{1,80}? together',
    ),
    'item_opened': (
        r'opens while the robot handles', r'lid of the', r'its lid', r'came open',
    ),
    'collision': (
        r'colli(des|ded)', r'forceful contact', r'smooth motion is disrupted', r'r[ua]ns? into',
    ),
    'jammed': (
        r'comes down on the edge', r'\bjam', r'strikes the rim', r'is not inserted',
        r'did not go in', r'held (turned against|beside) the hole',
        r'(turned against|beside) the (opening|hole)',
    ),
    'toppled': (r'tips? over', r'f[ae]ll over'),
    'displaced': (
        r'pushed out of its place', r'disturbs the', r'pushed the [^.]{1,60}? away',
        r'displaced the',
    ),
    'dropped': (
        r'slip(s|ped) (out|off)', r'los(es|t) its grip',
        r'slides? (out of the (closed )?fingers|off)',
    ),
    'misplaced': (
        r'released .{1,60}? not where it belongs', r'lets go of the',
        r'gripper open .{1,60}? while the', r'(released|left) the [^.]{1,60}? with an offset',
        r'(let go of|pushed) the [^.]{1,60}? beside its goal', r'only part of the way',
        r'fingers open .{1,60}? before the', r'let go of the [^.]{1,60}? too early',
        r'far enough', r'is pushed, but it stops', r'come to a stop',
    ),
    'wrong_destination': (
        r'puts the [^.]{1,60}? down', r'at the wrong place', r'to the wrong place',
        r'pushes the [^.]{1,60}? the wrong way', r'goal that was not asked for',
        r'although it (should|was to) be', r'(put|left) the [^.]{1,80}?, not ',
    ),
    'missed_grasp': (
        r'without taking hold', r'close on nothing', r'fails to grasp', r'turned the wrong way',
        r'at an angle to', r'does not come along', r'close around the place',
        r'moved to the (desired position|handle) with an offset', r'closed beside',
        r'with a rotation offset', r'did not take hold', r'but did not lift',
        r'goes past the', r'without touching', r'passed the [^.]{1,60}? with an offset',
        r'missed the',
    ),
    'nothing_transported': (
        r'does not transport', r'nothing is carried', r'did not move the', r'moved without the',
    ),
    'goal_not_reached': (
        r'ends its motion', r'goal is not reached', r'did not bring', r'stopped before the',
    ),
}  # fmt: skip

# What is said of a task that went well in spite of a mishap.
_WELL = (
    r'but at the end it is', r'by luck', r'missed the .{1,80}?, then the robot',
    r'after a failed attempt', r'but all the same', r'in spite of', r'^yes,',
)  # fmt: skip

KINDS = tuple(_CUES)
"""Kinds of failure that can be told apart, by the names that samples have for them."""

NO_KINDS = 'no failure here names the event that caused it'


def kind_of(explanation: str) -> str:
    """Return the kind of failure that a text speaks of, '' when it speaks of none."""
    if _well().search(explanation):
        return ''
    first, kind = len(explanation), ''
    for name, cue in _cues().items():
        found = cue.search(explanation)
        if found is not None and found.start() < first:
            first, kind = found.start(), name
    return kind


def sample_kinds(samples: Sequence[Sample]) -> dict[str, str]:
    """Return the kind of the event that caused each failure, by sample; others are left out."""
    return {sample.id: sample.failure_kind for sample in samples if sample.failure_kind}


def kind_figures(tasks: Labelled, kinds: Mapping[str, str] | None = None) -> dict[str, Any]:
    """
    Return how often the right kind is named, and of each kind how often the failure is detected.

    ``kinds`` are those of ``sample_kinds``; without them the lines tell. ``right_kind`` is of all
    failures with one, those included that were taken for successes, whose explanation names none;
    ``right_kind_detected`` of those that were detected. ``says_success`` is the share of failures
    whose explanation names none. ``detected`` and ``named`` have a figure for each kind.
    """
    truth = [
        str(line.get('failure_kind') or '')
        if kinds is None
        else kinds.get(str(line.get('sample_id') or ''), '')
        for line in tasks.lines
    ]
    said = [kind_of(line.get('explanation') or '') for line in tasks.lines]
    known = tasks.failed & np.array([bool(kind) for kind in truth], np.bool_)
    right = np.array([own == told for own, told in zip(truth, said, strict=True)], np.bool_)
    of_kind = {
        kind: known & np.array([own == kind for own in truth], np.bool_)
        for kind in sorted({own for own in truth if own})
    }

    def share(hits: Any, among: Any) -> Figure:
        figure: Figure = tasks.bootstrap.proportion(hits, among, NO_KINDS)
        return figure

    return {
        'right_kind': share(right, known),
        'right_kind_detected': share(right, known & tasks.said_failed),
        'says_success': share(flags(tasks.lines, _says_success), known),
        'detected': {kind: share(tasks.said_failed, of) for kind, of in of_kind.items()},
        'named': {kind: share(right, of) for kind, of in of_kind.items()},
    }


def _says_success(line: Mapping[str, Any]) -> bool:
    """Tell whether an explanation names no failure at all."""
    return not kind_of(line.get('explanation') or '')


@functools.cache
def _cues() -> dict[str, re.Pattern[str]]:
    return {kind: re.compile('|'.join(cues), re.IGNORECASE) for kind, cues in _CUES.items()}


@functools.cache
def _well() -> re.Pattern[str]:
    return re.compile('|'.join(_WELL), re.IGNORECASE)
