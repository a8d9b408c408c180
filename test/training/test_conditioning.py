# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pytest
from toy_training import losses_of, make_recipe
from training_clips import make_clips

from armor_ros.model.armor import ArmorModel
from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training.conditioning import (
    FACTS_REQUEST,
    PLACE_ASKED_FOR,
    STORY_REQUEST,
    THING_ASKED_FOR,
    TIMELINE_REQUEST,
    Facts,
    Truth,
    contrast_branches,
    fact_branches,
    mixed_branches,
    reading_branches,
)
from armor_ros.training.packing import IGNORED, PackedSample, pack

OTHERS = (
    Truth(True, 'it fell'),
    Truth(True, 'it slipped'),
    Truth(False, 'it stands'),
    Truth(False, 'it lies there'),
)


def test_everything_is_asked_twice_of_a_dense_sample(model: ArmorModel) -> None:
    prompts, truth = model.prompts, OTHERS[0]
    branches = contrast_branches(prompts, truth, OTHERS, 0.0, random.Random(0))
    nothing = PreviousAnswer()
    assert [branch.suffix for branch in branches] == [
        tuple(prompts.detection_suffix(nothing)),
        tuple(prompts.reasoning_suffix(nothing)),
        # of the same outcome, but never its own
        tuple(prompts.detection_suffix(PreviousAnswer(None, 'it slipped'))),
        tuple(prompts.reasoning_suffix(PreviousAnswer(True))),
    ]
    answer = tuple(prompts.explanation_tokens('it fell'))
    assert [branch.answer for branch in branches] == [(), answer, (), answer]
    assert [branch.failed for branch in branches] == [True, None, True, None]


def test_what_was_asked_for_is_read_in_a_text_alone(model: ArmorModel) -> None:
    prompts = model.prompts
    compared = {THING_ASKED_FOR: True, PLACE_ASKED_FOR: False}
    known = Facts((), story='takes the red can', compared=tuple(compared.items()))
    found = set()
    for seed in range(12):
        branches = reading_branches(prompts, known, 'it fell', random.Random(seed))
        assert [branch.failed for branch in branches] == [False, True]
        found |= {branch.suffix for branch in branches}
    assert found == {
        tuple(prompts.free_suffix(name, PreviousAnswer(None, text)))
        for name in compared
        for text in ('takes the red can', 'it fell')
    }
    silent = dataclasses.replace(known, story='')
    assert len(reading_branches(prompts, silent, 'it fell', random.Random(0))) == 2
    assert reading_branches(prompts, silent, '', random.Random(0)) == []


def test_a_sparse_sample_learns_how_far_to_trust_explanations(model: ArmorModel) -> None:
    prompts, rng = model.prompts, random.Random(1)
    wrong = {tuple(prompts.detection_suffix(PreviousAnswer(None, own.explanation)))
             for own in OTHERS if own.failed}  # fmt: skip
    count = 0
    for _ in range(400):
        branches = contrast_branches(prompts, Truth(False), OTHERS, 0.2, rng)
        assert [branch.failed for branch in branches] == [False, False]
        count += branches[1].suffix in wrong
    # 80 expected, with a deviation of 8
    assert 50 < count < 110


def test_facts_are_asked_of_both_heads(model: ArmorModel) -> None:
    facts = {'red can': True, 'blue cube': False, 'above the left bin': False, 'green can': False}
    clip, orders = make_clips(model)[0], set()
    known = Facts(tuple(facts.items()), ('left bin', 'table with the red can'), 'takes the can')
    told = [(TIMELINE_REQUEST, 'left bin, table with the red can'), (STORY_REQUEST, known.story)]
    for seed in range(12):
        branch, *others = fact_branches(model.prompts, known, random.Random(seed))
        for own, (request, text) in zip(others, told, strict=False):
            assert own.suffix == tuple(model.prompts.free_suffix(request))
            assert own.answer == tuple(model.prompts.explanation_tokens(text))
        labels = others[len(told) :]
        assert branch.suffix == tuple(model.prompts.free_suffix(FACTS_REQUEST))
        text = model.prompts.decode(branch.answer)
        names = [part.split(':')[0] for part in text.rstrip(',').split(', ')]
        assert sorted(names) == sorted(facts)
        orders.add(tuple(names))
        targets = pack([PackedSample(clip, (branch,))]).targets
        said = [model.prompts.decode([token]) for token in targets[targets != IGNORED].tolist()]
        assert ''.join(said) == ''.join('yes' if facts[name] else 'no' for name in names)
        asked = sorted(names, key=lambda name: not facts[name])[:3]
        assert [model.prompts.decode(label.suffix) for label in labels] == asked
        assert [label.failed for label in labels] == [not facts[name] for name in asked]
    assert len(orders) > 3
    assert fact_branches(model.prompts, Facts(()), random.Random(0)) == []


def test_what_was_asked_for_is_asked_last(model: ArmorModel) -> None:
    compared = ((THING_ASKED_FOR, True), (PLACE_ASKED_FOR, False))
    known = Facts((('red can', True), ('blue cube', False)), compared=compared)
    branch, *labels = fact_branches(model.prompts, known, random.Random(0))
    text = model.prompts.decode(branch.answer)
    assert text.endswith(', the thing asked for: yes, above the place asked for: no,')
    asked = [(label.suffix, label.failed) for label in labels]
    assert asked == [
        (tuple(model.prompts.encode_text(' red can')), False),
        (tuple(model.prompts.encode_text(' blue cube')), True),
        (tuple(model.prompts.free_suffix(THING_ASKED_FOR)), False),
        (tuple(model.prompts.free_suffix(PLACE_ASKED_FOR)), True),
    ]


def test_what_was_asked_for_is_read_in_a_quoted_story(model: ArmorModel) -> None:
    compared = {THING_ASKED_FOR: True, PLACE_ASKED_FOR: False}
    known = Facts((), story='takes the red can', compared=tuple(compared.items()))
    quoted = PreviousAnswer(None, known.story)
    found = {}
    for seed in range(12):
        last = fact_branches(model.prompts, known, random.Random(seed))[-1]
        found[last.suffix] = last.failed
    assert found == {
        tuple(model.prompts.free_suffix(name, quoted)): not is_true
        for name, is_true in compared.items()
    }
    silent = dataclasses.replace(known, story='')
    assert len(fact_branches(model.prompts, silent, random.Random(0))) == len(compared)


@pytest.mark.parametrize(('true', 'asked'), [(0, 0), (1, 1), (2, 2), (4, 2)])
def test_a_false_fact_is_always_asked_for(model: ArmorModel, true: int, asked: int) -> None:
    known = Facts(tuple((f'item {index}', index < true) for index in range(8)))
    labels = fact_branches(model.prompts, known, random.Random(0))[1:]
    assert [label.failed for label in labels] == [False] * asked + [True] * (3 - asked)


def test_mixed_quotes_are_wrong_as_often_as_they_are_said_to_be(model: ArmorModel) -> None:
    prompts, truth, other = model.prompts, Truth(True, 'its own words'), 'those of another'
    counts: Counter[tuple[bool | None, str]] = Counter()
    for seed in range(1500):
        branch = mixed_branches(prompts, truth, [other], random.Random(seed))[0]
        asked = prompts.decode(branch.suffix)
        label = next((word == 'No' for word in ('Yes', 'No') if f'detection is {word}' in asked),
                     None)  # fmt: skip
        text = next((text for text in (truth.explanation, other) if text in asked), '')
        counts[label, text] += 1
    quoted = {
        'wrong label': sum(n for (label, _), n in counts.items() if label is False),
        'label': sum(n for (label, _), n in counts.items() if label is not None),
        'other text': sum(n for (_, text), n in counts.items() if text == other),
        'text': sum(n for (_, text), n in counts.items() if text),
    }
    # three deviations of a share of 750 are 0.05
    assert quoted['wrong label'] / quoted['label'] == pytest.approx(0.3, abs=0.05)
    assert quoted['other text'] / quoted['text'] == pytest.approx(0.7, abs=0.05)
    assert counts[None, ''] / 1500 == pytest.approx(0.35, abs=0.04)


def test_without_another_explanation_nothing_is_quoted(model: ArmorModel) -> None:
    for truth, others in ((Truth(True), OTHERS[2:]), (OTHERS[0], OTHERS[:1])):
        branches = contrast_branches(model.prompts, truth, others, 0.0, random.Random(0))
        labels = [branch for branch in branches if branch.failed is not None]
        assert len(labels) == 1


@pytest.mark.parametrize('kind', ['warmup', 'expert'])
def test_contrast_learns(toy_data: Path, tmp_path: Path, kind: str) -> None:
    phase = {'kind': kind, 'conditioning': 'contrast', 'epochs': 6}
    losses = losses_of(make_recipe(phase, dropout=0.0), toy_data, tmp_path)
    first, last = (sum(row[0] + row[1] for row in rows) for rows in (losses[:2], losses[-2:]))
    assert last < 0.9 * first
    assert losses == losses_of(make_recipe(phase, dropout=0.0), toy_data, tmp_path / 'again')
    phase = {'kind': kind, 'epochs': 1}
    assert losses_of(make_recipe(phase, dropout=0.0), toy_data, tmp_path / 'other')[0] != losses[0]
