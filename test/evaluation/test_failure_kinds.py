# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import itertools
import string
from collections.abc import Iterator

import pytest
from rich.console import Console
from some_lines import a_line

from armor_ros.datasets.manifest import Sample
from armor_ros.evaluation.failure_kinds import KINDS, kind_figures, kind_of, sample_kinds
from armor_ros.evaluation.labelled import Labelled
from armor_ros.evaluation.lines import Line
from armor_ros.evaluation.metrics import Metrics, score
from armor_ros.evaluation.report.content import tiles
from armor_ros.evaluation.tables import metrics_table
from armor_ros.simulation import wording
from armor_ros.simulation.tasks import drawer_words, push_words

FACTS = {
    'instruction': ('push the red can to the green target',),
    'done': ('put the red can into the left bin',),
    'target': ('red can',),
    'item': ('blue box with a lid',),
    'others': ('mug and the box',),
    'origin': ('the table',),
    'place': ('left bin',),
    'aim': ('in the left bin', 'held up by the gripper', 'on the green cube'),
    'rest': ('on the table', 'in the right bin'),
    'target_rest': ('on the table',),
    'seconds': ('3.2',),
    'when': ('about halfway (4.1 s after the start)',),
    'struck': ('the left bin',),
    'axis': ('x',),
    'distance': ('3 cm',),
    'direction': ('too far to the left',),
    'direction_goal': ('too low',),
    'skewed': ('beside', 'turned against'),
    'misorder': ('closed before it had come down', 'opened before the item was moved'),
}


def filled(template: str) -> Iterator[str]:
    names = sorted({name for _, name, _, _ in string.Formatter().parse(template) if name})
    for values in itertools.product(*(FACTS[name] for name in names)):
        yield template.format(**dict(zip(names, values, strict=True)))


def phrasings() -> Iterator[tuple[str, str]]:
    for table in (
        wording.OBSERVATIONS, wording.AHA_FAILURES, push_words.OBSERVATIONS, push_words.SHORT,
        drawer_words.OBSERVATIONS, drawer_words.SHORT,
    ):  # fmt: skip
        for kind, templates in table.items():
            yield from ((kind.value, template) for template in templates)
    for misses in (*wording.MISSES.values(), *wording.AHA_MISSES.values()):
        yield from (('missed_grasp', template) for template in misses)


@pytest.mark.parametrize(('kind', 'template'), list(phrasings()))
def test_the_simulators_words_name_their_kind(kind: str, template: str) -> None:
    around = [
        *((text, '') for text in wording.OPENINGS),
        *(('', text) for text in wording.CONSEQUENCES),
    ]
    for opening, consequence in around:
        for text in filled(opening + template + consequence):
            assert kind_of(text) == kind, text


def test_successes_name_no_kind() -> None:
    mended = [text for texts in wording.MENDED.values() for text in texts]
    for template in (*wording.SUCCESSES, *wording.AHA_SUCCESSES, *mended):
        for text in filled(template):
            assert kind_of(text) == '', text
    assert kind_of('') == ''
    assert kind_of('The robot succeeded at the sub-task.') == ''


def test_every_kind_of_failure_is_known() -> None:
    assert {kind for kind, _ in phrasings()} == set(KINDS)


def test_the_first_event_decides() -> None:
    text = 'The mug slips out of the gripper and then the robot collides with the bin.'
    assert kind_of(text) == 'dropped'


def sample(
    name: str, kind: str | None, label: str = 'failure', judged: str | None = None
) -> Sample:
    event = None if kind is None else {'kind': kind, 'time_ns': 1}
    return Sample(
        name, 'tidy', {'front': 'v'}, 5.0, 2, label, event=event, judged=judged,  # type: ignore[arg-type]
    )  # fmt: skip


def line(name: str, label: str, verdict: str, explanation: str) -> Line:
    return {
        'source': 'toy', 'sample_id': name, 'task_id': name, 'verdict': verdict, 'label': label,
        'explanation': explanation, 'failure_probability': None,
    }  # fmt: skip


def test_kinds_are_those_of_true_failures() -> None:
    samples = [
        sample('a', 'dropped'), sample('b', None), sample('c', 'dropped', 'success'),
        sample('d', 'jammed', 'success', 'failure'), sample('e', 'jammed', 'failure', 'success'),
    ]  # fmt: skip
    assert sample_kinds(samples) == {'a': 'dropped', 'd': 'jammed'}


def test_figures_of_kinds() -> None:
    kinds = {'a': 'dropped', 'b': 'wrong_object', 'c': 'wrong_object', 'd': 'dropped'}
    lines = [
        line('a', 'failure', 'FAILURE', 'the can slips out of the gripper'),
        line('b', 'failure', 'SUCCESS', 'The robot put the can away as asked.'),
        line('c', 'failure', 'FAILURE', 'the fingers close on nothing'),
        line('d', 'failure', 'FAILURE', 'the robot lost its grip'),
        line('e', 'failure', 'FAILURE', 'the can slips out of the gripper'),
        line('f', 'success', 'FAILURE', 'the can slips out of the gripper'),
    ]
    found = kind_figures(Labelled.of(lines), kinds)
    assert found['right_kind']['value'] == 0.5
    assert found['right_kind']['n'] == 4
    assert 0 < found['right_kind']['low'] < 0.5 < found['right_kind']['high'] < 1
    assert found['right_kind_detected']['value'] == pytest.approx(2 / 3, abs=1e-6)
    assert found['says_success']['value'] == 0.25
    assert {kind: own['value'] for kind, own in found['detected'].items()} == {
        'dropped': 1.0, 'wrong_object': 0.5,
    }  # fmt: skip
    assert {kind: own['value'] for kind, own in found['named'].items()} == {
        'dropped': 1.0, 'wrong_object': 0.0,
    }  # fmt: skip
    told = [{**each, 'failure_kind': kinds.get(each['sample_id'], '')} for each in lines]
    assert kind_figures(Labelled.of(told)) == found
    nothing = kind_figures(Labelled.of(lines), {})
    assert nothing['right_kind']['value'] is None
    assert nothing['detected'] == {}


def test_a_run_shows_kinds_where_its_data_set_knows_them() -> None:
    lines = [
        a_line(0, 'failure', 0.9, failure_kind='dropped', explanation='it slipped off'),
        a_line(1, 'failure', 0.9, failure_kind='jammed', explanation='it slipped off'),
        a_line(2, 'success', 0.1),
    ]
    metrics = score(lines)
    assert metrics['kinds']['right_kind']['value'] == 0.5
    (tile,) = [tile for tile in tiles(metrics) if tile['title'] == 'Right kind named']
    assert tile['figure'] == metrics['kinds']['right_kind']
    assert 'right kind of failure' in shown(metrics)
    assert 'Right kind named' not in [tile['title'] for tile in tiles(score(lines[2:]))]
    assert 'right kind of failure' not in shown(score(lines[2:]))


def shown(metrics: Metrics) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(metrics_table({'run': metrics}))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]
