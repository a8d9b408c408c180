# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import make_recipe

from armor_ros.datasets.manifest import Sample, read_manifest
from armor_ros.model.checkpoint import load_checkpoint
from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training.conditioning import Truth
from armor_ros.training.rollout import BatchPolicy
from armor_ros.training.run import TrainingRequest, train
from armor_ros.training.samples import TrainingData
from armor_ros.training.steps import TrainingModule
from armor_ros.training.study_analysis import probe_figures, round_figures, text_verdict
from armor_ros.training.study_answers import at_round
from armor_ros.training.study_probes import PROBES_FILE, Probe, choose, probe, read_probes
from armor_ros.training.verification import verdict_of

DROPPED = 'the can slips out of the gripper'
MISSED = 'the gripper did not take hold of the can'
WELL = 'the can is on the shelf'
VERDICT = verdict_of([Truth(True, DROPPED), Truth(True, MISSED), Truth(False, WELL)])


def a_probe(name: str, failed: bool, **changes: Any) -> Probe:
    """A sure and right answer that nothing changes."""
    sure = 0.9 if failed else 0.1
    text = DROPPED if failed else WELL
    made = Probe(name, 'test', name, failed, 'dropped' if failed else '', sure, sure, sure, sure,
                 text, text, text)  # fmt: skip
    return dataclasses.replace(made, **changes)


def values(probes: list[Probe]) -> dict[str, float | None]:
    return {name: found['value'] for name, found in probe_figures(probes, VERDICT).items()}


def test_heads_that_do_not_listen() -> None:
    assert values([a_probe('a', True), a_probe('b', False)]) == {
        'texts_change': 0, 'texts_follow': 0,
        'right_kind alone': 1, 'right_kind own': 1, 'right_kind true': 1,
        'right_kind opposite': 1, 'other_kind': None,
        'labels_change': 0, 'moves': 0,
        'accuracy alone': 1, 'accuracy own': 1, 'accuracy right': 1, 'accuracy wrong': 1,
        'heads_agree': 1, 'texts_right': 1, 'texts_mend': None,
    }  # fmt: skip


def test_heads_that_do_listen() -> None:
    probes = [
        a_probe('a', True, given_opposite=WELL, probability_success=0.2),
        a_probe('b', False, given_opposite=DROPPED, probability_failure=0.7),
        # a missed failure, explained rightly when its label is given
        a_probe('c', True, probability=0.4, probability_own=0.3, probability_success=0.1,
                explanation=WELL, given_own=WELL, given_opposite=DROPPED),
        # another kind is named, and the two heads disagree
        a_probe('d', True, probability=0.2, explanation=MISSED, given_own=MISSED,
                given_opposite=MISSED),
    ]  # fmt: skip
    assert values(probes) == {
        'texts_change': 0.75, 'texts_follow': 1,
        'right_kind alone': pytest.approx(1 / 3), 'right_kind own': pytest.approx(1 / 3),
        'right_kind true': pytest.approx(2 / 3), 'right_kind opposite': pytest.approx(1 / 3),
        'other_kind': 0.5,
        'labels_change': 0.75, 'moves': pytest.approx((0.7 + 0.6 + 0.8) / 4),
        'accuracy alone': 0.5, 'accuracy own': 0.75, 'accuracy right': 1, 'accuracy wrong': 0.25,
        'heads_agree': 0.75, 'texts_right': 0.75, 'texts_mend': 0.5,
    }  # fmt: skip


def test_texts_may_know_what_labels_do_not() -> None:
    mended = [a_probe(name, True, probability=0.2) for name in ('a', 'b')]
    found = values([*mended, a_probe('c', False, explanation=DROPPED)])
    assert found['texts_right'] == pytest.approx(2 / 3)
    assert found['texts_mend'] == 1
    assert found['heads_agree'] == 0


def entry(index: int, probability: float, explanation: str, entropy: float) -> dict[str, Any]:
    return {
        'round': index, 'trajectory': 0, 'failure_probability': probability,
        'failed': probability >= 0.5, 'explanation': explanation, 'detection_entropy': entropy,
        'explanation_entropy': 0.0, 'combined_entropy': entropy, 'best': True,
    }  # fmt: skip


def a_line(name: str, failed: bool, *trace: dict[str, Any]) -> dict[str, Any]:
    return {
        'source': 'toy', 'task_id': name, 'sample_id': name, 'verdict': 'FAILURE',
        'label': 'failure' if failed else 'success', 'selected': len(trace) - 1,
        'label_explanation': DROPPED if failed else WELL, 'trace': list(trace),
    }  # fmt: skip


def test_round_by_round() -> None:
    lines = [
        a_line('a', True, entry(0, 0.4, WELL, 0.6), entry(1, 0.8, DROPPED, 0.5)),
        a_line('b', False, entry(0, 0.1, WELL, 0.3)),
        a_line('c', True, entry(0, 0.9, MISSED, 0.2), entry(1, 0.7, WELL, 0.6)),
        a_line('d', False, entry(0, 0.6, WELL, 0.5)),
    ]
    first, second = round_figures(lines, {'a': 'dropped', 'c': 'dropped'}, VERDICT)
    assert {name: found['value'] for name, found in first.items()} == {
        'ran': 1, 'accuracy': 0.5, 'rouge_l_failures': pytest.approx((6 / 13 + 6 / 16) / 2),
        'right_kind': 0, 'heads_agree': 0.75, 'texts_right': 0.75,
        'entropy': pytest.approx(0.4), 'error_auroc': 1,
    }  # fmt: skip
    found = {name: found['value'] for name, found in second.items()}
    del found['rouge_l_failures']
    assert found == {
        'ran': 0.5, 'accuracy': 0.75, 'right_kind': 0.5, 'heads_agree': 0.5, 'texts_right': 0.75,
        'entropy': pytest.approx(0.475), 'error_auroc': pytest.approx(0.5),
    }  # fmt: skip
    assert at_round(lines[0], 1)['explanation'] == WELL
    assert at_round(lines[1], 9)['failure_probability'] == 0.1


def test_the_verdict_learns_from_no_test() -> None:
    def sample(name: str, label: str, said: str, split: str) -> Sample:
        return Sample(id=name, instruction='', views={'v': 'v'}, fps=5.0, frames=1, label=label,
                      explanation=said, split=split)  # type: ignore[arg-type]  # fmt: skip

    samples = [sample('a', 'failure', 'bad', 'train'), sample('b', 'success', 'good', 'train')]
    other = sample('c', 'failure', 'good', 'test')
    verdict = text_verdict([*samples, other], ['test'])
    assert verdict is not None
    assert verdict.failure_logit('good') == -verdict.failure_logit('bad') < 0
    assert text_verdict([samples[0], other], ['test']) is None


def test_probes_are_what_prompts_ask(toy_data: Path, tmp_path: Path) -> None:
    recipe = make_recipe({'kind': 'warmup', 'epochs': 6, 'conditioning': 'contrast'})
    checkpoint = train(TrainingRequest(recipe, toy_data, tmp_path, tracker='none'))
    samples = choose(toy_data, ['validation'], 9)
    assert {sample.id for sample in samples} == {'s8', 's9'}
    assert len(choose(toy_data, ['validation'], 1)) == 1
    output = tmp_path / 'probes'
    probe(checkpoint, recipe, toy_data, samples, {'s9': 'dropped'}, output, 8)
    probes = read_probes(output)
    assert [(own.sample, own.failed, own.kind) for own in probes] == [
        (sample.id, sample.id == 's9', 'dropped' if sample.id == 's9' else '')
        for sample in samples
    ]
    # the same by training's own forward, prompt by prompt
    model = load_checkpoint(checkpoint, dtype='float32')
    data = TrainingData(toy_data, samples, model, recipe.data.cameras)
    said = {s.label: str(s.explanation) for s in read_manifest(toy_data, 'train') if s.dense}
    for own, sample in zip(probes, data, strict=True):
        policy = BatchPolicy(model, [sample.clip])
        for quoted, found in (
            (PreviousAnswer(), own.probability),
            (PreviousAnswer(None, own.explanation), own.probability_own),
            (PreviousAnswer(None, said['failure']), own.probability_failure),
            (PreviousAnswer(None, said['success']), own.probability_success),
        ):
            assert policy.failure_probabilities([quoted])[0] == pytest.approx(found, abs=1e-5)
        for quoted, text in (
            (PreviousAnswer(), own.explanation),
            (PreviousAnswer(own.said_failed), own.given_own),
            (PreviousAnswer(not own.said_failed), own.given_opposite),
        ):
            suffix = model.prompts.reasoning_suffix(quoted)
            assert TrainingModule(model).say([sample.clip], suffix, 8) == [text]
    assert len({own.probability_failure for own in probes}) == 2
    before = (output / PROBES_FILE).stat().st_mtime_ns
    probe(checkpoint, recipe, toy_data, samples, {}, output, 8)
    assert (output / PROBES_FILE).stat().st_mtime_ns == before
    probe(checkpoint, recipe, toy_data, samples[:1], {}, output, 8)
    assert [own.sample for own in read_probes(output)] == [samples[0].id]
    assert torch.is_grad_enabled()
