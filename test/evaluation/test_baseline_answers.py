# SPDX-License-Identifier: Apache-2.0
"""Answers as text, constant baselines, and the choice of examples."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from some_episodes import make_episode

from armor_ros.episodes.task import TaskStatus
from armor_ros.errors import ArmorError
from armor_ros.evaluation.baselines import (
    Answer,
    Candidate,
    make_baseline,
    parse_answer,
    select_examples,
    takes_examples,
)


@pytest.mark.parametrize(
    ('text', 'failed', 'explanation'),
    [
        ('<think>It fell.</think>\n<answer>No</answer>', True, 'It fell.'),
        ('<think>Done.</think><answer>yes</answer>.', False, 'Done.'),
        ('<THINK>a\nb</THINK> so <Answer> **No**. </Answer>', True, 'a b'),
        ('<think></think><answer>Yes</answer>', False, ''),
        # a model that quotes the format before it uses it
        ('Format: <think>your reasoning</think><answer>Yes/No</answer>\n'
         '<think>It slid.</think><answer>No</answer>', True, 'It slid.'),
    ],
)  # fmt: skip
def test_reads_both_fields(text: str, failed: bool, explanation: str) -> None:
    assert parse_answer(text) == Answer(failed, explanation, None, (text,))


@pytest.mark.parametrize(
    'text',
    [
        '',
        'No, the robot dropped it.',
        '<answer>No</answer>',
        '<think>It fell.</think>No',
        '<think>It fell.</think><answer>Yes/No</answer>',
        '<think>It fell.</think><answer>maybe</answer>',
        '<think>It fell.</think><answer></answer>',
        '<think>It fell.<answer>No</answer>',
        '<think>It fell.</think><answer>No',
    ],
)
def test_takes_everything_else_as_unparsable_explanation(text: str) -> None:
    answer = parse_answer(text, 0.9)
    assert answer == Answer(None, text, None, (text,), unparsable=True)


def test_drops_a_probability_that_contradicts_the_answer() -> None:
    text = '<think>a</think><answer>No</answer>'
    assert parse_answer(text, 0.8).failure_probability == 0.8
    assert parse_answer(text, 0.5).failure_probability == 0.5
    assert parse_answer(text, 0.4).failure_probability is None
    assert parse_answer(text.replace('No', 'Yes'), 0.5).failure_probability is None


@given(st.text() | st.text('<>/thinkaswer YesNo', max_size=200))
def test_reads_any_text(text: str) -> None:
    answer = parse_answer(text)
    assert answer.raw == (text,)
    assert answer.unparsable == (answer.failed is None)
    assert len(answer.explanation) <= 2000
    assert '\n' not in answer.explanation


def test_constants_say_the_same_of_every_task() -> None:
    episode = make_episode(status=TaskStatus.ABORTED, message='no plan')
    success = make_baseline('always-success').answer(episode)
    assert success == Answer(False, 'The robot succeeded at the sub-task.')
    assert make_baseline('always-failure').answer(episode) == Answer(True, '')
    assert make_baseline('always-failure').name == 'always-failure'


@pytest.mark.parametrize(
    ('status', 'failed', 'explanation'),
    [
        (TaskStatus.SUCCEEDED, False, 'The robot succeeded at the sub-task.'),
        (TaskStatus.ABORTED, True, 'no plan'),
        (TaskStatus.CANCELED, None, 'no plan'),
        (TaskStatus.UNKNOWN, None, 'no plan'),
    ],
)
def test_status_repeats_the_robots_own_word(
    status: TaskStatus, failed: bool | None, explanation: str
) -> None:
    answer = make_baseline('status').answer(make_episode(status=status, message='no plan'))
    assert answer == Answer(failed, explanation)
    assert not answer.unparsable


def test_constants_need_no_frames() -> None:
    assert make_baseline('always-success').answer(make_episode(frames=0)).failed is False


@pytest.mark.parametrize('spec', ['', 'always', 'hf:', 'anthropic:', 'openai:', 'gpt', 'none'])
def test_refuses_an_unknown_spec(spec: str) -> None:
    with pytest.raises(ArmorError, match='give one of'):
        make_baseline(spec)


def test_refuses_a_server_without_a_model() -> None:
    with pytest.raises(ArmorError, match='no model before its address'):
        make_baseline('openai:@http://localhost:1/v1')


def test_only_models_behind_an_api_take_examples() -> None:
    assert takes_examples('anthropic:claude')
    assert takes_examples('openai:some@http://localhost:1/v1')
    assert not takes_examples('hf:folder')
    assert not takes_examples('status')


CANDIDATES = [
    Candidate(f'{kind}-{index}', kind == 'failed', f'because {index}', f'recording {index // 2}')
    for kind in ('failed', 'good')
    for index in range(8)
]


def test_examples_are_balanced_and_begin_with_a_success() -> None:
    chosen = select_examples(CANDIDATES, 4)
    assert [name.split('-')[0] for name in chosen] == ['good', 'failed', 'good', 'failed']
    # successes and failures share four recordings
    with pytest.raises(ArmorError, match='ask for 4'):
        select_examples(CANDIDATES, 5)
    assert select_examples(CANDIDATES, 0) == []


def test_examples_depend_on_ids_and_seed_alone() -> None:
    shuffled = list(CANDIDATES)
    random.Random(3).shuffle(shuffled)
    chosen = select_examples(CANDIDATES, 4, seed=1)
    assert chosen == select_examples(shuffled, 4, seed=1)
    assert len({tuple(select_examples(CANDIDATES, 3, seed=seed)) for seed in range(20)}) > 5


def test_examples_share_no_recording_with_each_other_or_what_is_evaluated() -> None:
    groups = {candidate.id: candidate.group for candidate in CANDIDATES}
    for seed in range(30):
        excluded = {'recording 0', 'good-7'}
        chosen = select_examples(CANDIDATES, 3, seed=seed, excluded=excluded)
        taken = [groups[name] for name in chosen]
        assert len(set(taken)) == 3
        assert 'recording 0' not in taken
        assert 'good-7' not in chosen


def test_a_failure_without_a_reason_is_no_example() -> None:
    candidates = [Candidate('a', False), Candidate('b', True), Candidate('c', True, 'it fell')]
    assert select_examples(candidates, 2) == ['a', 'c']
    with pytest.raises(ArmorError, match='2 examples need 1 failures with an explanation'):
        select_examples(candidates[:2], 2)
    with pytest.raises(ArmorError, match='3 examples need 2 successes'):
        select_examples(candidates, 3)
    with pytest.raises(ArmorError, match='from 0 to 32'):
        select_examples(candidates, 33)
