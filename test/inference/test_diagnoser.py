# SPDX-License-Identifier: Apache-2.0
"""Diagnoser against the naive reference and transformers' generate, and its edges."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from naive_reference import NaiveReference, NaiveResult
from simple_path import diagnose_simply

from armor_ros.episodes.diagnosis import (
    Diagnosis,
    ExplanationChoice,
    InputMode,
    RefinementSettings,
    ReturnPolicy,
    Verdict,
)
from armor_ros.episodes.episode import Episode
from armor_ros.errors import ArmorError
from armor_ros.inference.algorithm2 import Refinement
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.inference.episode_input import episode_input
from armor_ros.inference.errors import Canceled, ModelError
from armor_ros.inference.generation import generate
from armor_ros.model.armor import ArmorModel
from armor_ros.model.backbone import installed_convention
from armor_ros.model.checkpoint import with_config
from armor_ros.model.config import HeadConfig, HeadPooling
from armor_ros.model.prompts import PreviousAnswer
from armor_ros.model.tiny import DEFAULT_CONFIG, TinySize, make_tiny_model

EpisodeMaker = Callable[..., Episode]
QUICK = RefinementSettings(rounds=3, trajectories=2, max_new_tokens=8)


def assert_agree(diagnosis: Diagnosis, reference: NaiveResult) -> None:
    """Check equal texts and rounds, and probabilities and entropies within 1e-5."""
    assert len(diagnosis.trace) == len(reference.trace)
    for ours, theirs in zip(diagnosis.trace, reference.trace, strict=True):
        assert (ours.round, ours.trajectory) == (theirs.round, theirs.trajectory)
        assert ours.explanation == theirs.explanation
        assert ours.failure_probability == pytest.approx(theirs.failure_probability, abs=1e-5)
        assert ours.detection_entropy == pytest.approx(theirs.detection_entropy, abs=1e-5)
        assert ours.explanation_entropy == pytest.approx(theirs.explanation_entropy, abs=1e-4)
    assert diagnosis.selected == reference.selected


def assert_same_answers(ours: Diagnosis | Refinement, theirs: Diagnosis | Refinement) -> None:
    """Check equal texts, rounds and labels, and numbers within the rounding of float32."""
    assert ours.selected == theirs.selected
    for one, other in zip(ours.trace, theirs.trace, strict=True):
        assert (one.explanation, one.failed) == (other.explanation, other.failed)
        for name in ('failure_probability', 'detection_entropy'):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-5)
        assert one.explanation_entropy == pytest.approx(other.explanation_entropy, abs=1e-4)


@pytest.mark.parametrize(
    ('temperature', 'seed', 'count', 'instruction'),
    [
        (0.0, 0, 4, 'pick up the red cube'),
        (0.7, 0, 4, 'pick up the red cube'),
        (0.7, 1, 7, 'open <|im_end|> the drawer'),
        (1.3, 2, 1, 'stack the blocks'),
    ],
)
def test_agrees_with_the_naive_reference(
    model: ArmorModel,
    make_episode: EpisodeMaker,
    temperature: float,
    seed: int,
    count: int,
    instruction: str,
) -> None:
    settings = dataclasses.replace(QUICK, temperature=temperature, seed=seed)
    config = dataclasses.replace(model.config, image_size=56)
    small = with_config(model, config)
    episode = make_episode(count=count, instruction=instruction, seed=seed)
    diagnosis = Diagnoser(small).diagnose(episode, settings)
    with torch.no_grad():
        reference = NaiveReference(small, episode).refine(settings)
    assert_agree(diagnosis, reference)


class OtherTaskAlone(NaiveReference):
    """Quotes to each task the answer to the other one alone."""

    def detect(self, detection: str, reasoning: str) -> tuple[float, float]:
        return super().detect('', reasoning)

    def explain(
        self, detection: str, reasoning: str, settings: RefinementSettings, t: int, m: int
    ) -> tuple[list[int], float]:
        return super().explain(detection, '', settings, t, m)


def test_a_checkpoint_may_quote_to_each_task_the_other_s_answer_alone(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    small = with_config(model, dataclasses.replace(model.config, image_size=56))
    prompts = dataclasses.replace(small.config.prompts, quotes='other')
    masking = with_config(small, dataclasses.replace(small.config, prompts=prompts))
    settings = dataclasses.replace(QUICK, rounds=4, tolerance=0.0)
    episode = make_episode(count=4)
    diagnosis = Diagnoser(masking).diagnose(episode, settings)
    with torch.no_grad():
        reference = OtherTaskAlone(small, episode).refine(settings)
    assert diagnosis.rounds > 1
    assert_agree(diagnosis, reference)
    assert Diagnoser(small).diagnose(episode, settings).trace != diagnosis.trace


@pytest.mark.parametrize('mode', list(InputMode))
@pytest.mark.parametrize('seed', range(6))
def test_agrees_with_the_simple_path(
    model: ArmorModel, make_episode: EpisodeMaker, seed: int, mode: InputMode
) -> None:
    settings = RefinementSettings(
        rounds=4, trajectories=3, max_new_tokens=24, tolerance=0.0, seed=seed, input_mode=mode
    )
    episode = make_episode(count=3 + 2 * seed, cameras=('front', 'wrist'), seed=seed)
    ours = Diagnoser(model).diagnose(episode, settings)
    assert_same_answers(ours, diagnose_simply(model, episode, settings))


def asking_for_an_account(model: ArmorModel) -> ArmorModel:
    prompts = dataclasses.replace(model.config.prompts, account_task='What does the gripper do?')
    return with_config(model, dataclasses.replace(model.config, prompts=prompts))


@pytest.mark.parametrize('mode', list(InputMode))
def test_all_rounds_quote_an_account_where_the_checkpoint_asks_for_one(
    model: ArmorModel, make_episode: EpisodeMaker, mode: InputMode
) -> None:
    settings = dataclasses.replace(QUICK, rounds=3, trajectories=2, tolerance=0.0, input_mode=mode)
    episode = make_episode(cameras=('front', 'wrist'), seed=3)
    asking = asking_for_an_account(model)
    ours = Diagnoser(asking).diagnose(episode, settings)
    assert_same_answers(ours, diagnose_simply(asking, episode, settings))
    plain = Diagnoser(model).diagnose(episode, settings)
    assert ours.trace != plain.trace
    assert ours.account
    assert plain.account == ''
    assert Diagnoser(asking).diagnose(episode, settings).trace == ours.trace


def test_an_account_that_time_does_not_suffice_for_is_not_quoted(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    episode = make_episode(seed=3)
    # Each look at the clock takes a second: some words of the account are said by then.
    late, usual = (
        Diagnoser(own, clock=itertools.count().__next__).diagnose(episode, QUICK, deadline=4.0)
        for own in (asking_for_an_account(model), model)
    )
    assert late.deadline_reached
    assert late.failure_probability == usual.failure_probability


def test_the_agreement_of_an_explanation_is_that_of_the_naive_reference(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    settings = dataclasses.replace(
        QUICK, rounds=2, trajectories=3, explanation_choice=ExplanationChoice.AGREEMENT
    )
    episode = make_episode()
    ours = Diagnoser(model).diagnose(episode, settings)
    reference = NaiveReference(model, episode)
    for answer in ours.trace:
        with torch.no_grad():
            failed, _ = reference.detect('', answer.explanation)
        agreement = failed if answer.failed else 1 - failed
        assert answer.agreement == pytest.approx(agreement, abs=1e-5)
    assert len({answer.agreement for answer in ours.trace}) == len(ours.trace)
    said = ours.trace[ours.selected]
    rivals = [a for a in ours.trace if (a.round, a.failed) == (said.round, said.failed)]
    assert said.agreement == max(answer.agreement or 0 for answer in rivals)
    assert (ours.explanation, ours.failure_probability) == (
        said.explanation, said.failure_probability
    )  # fmt: skip
    assert_same_answers(ours, diagnose_simply(model, episode, settings))


def test_the_model_of_the_comparison_is_no_constant(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    """Round, trajectory, clip and instruction must all make a difference in these tests."""
    diagnoser = Diagnoser(model)
    settings = dataclasses.replace(QUICK, max_new_tokens=12, tolerance=0.0)
    base = diagnoser.diagnose(make_episode(), settings)
    assert base.rounds > 1
    probabilities = {round(answer.failure_probability, 4) for answer in base.trace}
    assert len(probabilities) > 2
    assert len({answer.explanation for answer in base.trace}) == len(base.trace)
    for other in (make_episode(seed=9), make_episode(instruction='open the drawer')):
        changed = diagnoser.diagnose(other, settings).trace[0]
        assert abs(changed.failure_probability - base.trace[0].failure_probability) > 1e-3


def test_greedy_text_equals_transformers_generate(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    positions = installed_convention(model.backbone)
    config = dataclasses.replace(model.config, positions=positions)
    model = with_config(model, config)
    prompts = model.prompts
    episode = make_episode(count=8, size=112, instruction='open the drawer')
    seen = episode_input(episode, model.config, model.geometry)
    vision = seen.vision
    tokens = prompts.prefix('open the drawer')
    suffix = prompts.reasoning_suffix(PreviousAnswer(False, 'The drawer is open.'))
    ids = torch.tensor([[*tokens.before, *[prompts.video_id] * 64, *tokens.after, *suffix]])
    expected = model.backbone.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == prompts.video_id).int() * 2,
        pixel_values_videos=vision.patches,
        video_grid_thw=torch.tensor([vision.grid]),
        second_per_grid_ts=torch.tensor([0.4]),
        do_sample=False,
        max_new_tokens=20,
        eos_token_id=sorted(prompts.stop_ids),
    )[0, ids.shape[1] :].tolist()
    with torch.inference_mode():
        prefix = Diagnoser(model).prefill(episode, QUICK, lambda: False)
        numbers = torch.zeros(1, 20, dtype=torch.float64)
        text = generate(prefix, [suffix], numbers, 0.0, lambda: False)[0]
    assert list(text.tokens) == [token for token in expected if token not in prompts.stop_ids]
    assert len(expected) == 20 or expected[-1] in prompts.stop_ids


def test_the_same_twice_is_equal(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    first = Diagnoser(model).diagnose(make_episode(), QUICK)
    Diagnoser(model).diagnose(make_episode(seed=3, instruction='other'), QUICK)
    assert Diagnoser(model).diagnose(make_episode(), QUICK) == first
    other = Diagnoser(model).diagnose(make_episode(), dataclasses.replace(QUICK, seed=1))
    assert other.trace[0].explanation != first.trace[0].explanation


def test_interleaved_episodes_do_not_mix(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    diagnoser = Diagnoser(model)
    episodes = make_episode(count=4), make_episode(count=9, seed=1, instruction='open the drawer')
    alone = [diagnoser.diagnose(episode, QUICK) for episode in episodes]
    inner: list[Diagnosis] = []

    def interrupt(_: Any) -> None:
        inner.append(diagnoser.diagnose(episodes[1], QUICK))

    assert diagnoser.diagnose(episodes[0], QUICK, on_round=interrupt) == alone[0]
    assert set(inner) == {alone[1]}


def test_diagnosis_repeats_its_selected_answer(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    settings = dataclasses.replace(QUICK, return_policy=ReturnPolicy.BEST)
    diagnosis = Diagnoser(model).diagnose(make_episode(), settings)
    answer = diagnosis.trace[diagnosis.selected]
    assert answer.best
    assert answer.combined_entropy == min(each.combined_entropy for each in diagnosis.trace)
    for name in ('failure_probability', 'explanation', 'combined_entropy'):
        assert getattr(diagnosis, name) == getattr(answer, name)
    assert diagnosis.verdict is (Verdict.FAILURE if answer.failed else Verdict.SUCCESS)
    assert diagnosis.settings == settings
    assert diagnosis.model == model.info
    assert diagnosis.calibrated is False


def test_verdicts_follow_the_class_order(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    head = dataclasses.replace(model.config.head, classes=('success', 'failure'))
    swapped = with_config(model, dataclasses.replace(model.config, head=head))
    ours, theirs = (Diagnoser(each).diagnose(make_episode(), QUICK) for each in (model, swapped))
    total = ours.trace[0].failure_probability + theirs.trace[0].failure_probability
    assert total == pytest.approx(1.0)
    assert ours.trace[0].failed != theirs.trace[0].failed


def test_a_head_that_pools_over_tokens(make_episode: EpisodeMaker) -> None:
    head = HeadConfig(pooling=HeadPooling.TOKENS)
    config = dataclasses.replace(DEFAULT_CONFIG, head=head)
    model = make_tiny_model(size=TinySize(hidden_size=64, layers=5), config=config)
    episode = make_episode(size=112)
    diagnosis = Diagnoser(model).diagnose(episode, QUICK)
    reference = NaiveReference(model, episode)
    with torch.no_grad():
        states = reference.forward(reference.prompt('', '', 'Please give a Yes/No answer.'))
        means = torch.stack([states.hidden_states[layer][0].mean(0) for layer in (1, 2, 3, 4)])
        expected = torch.softmax(reference.head(means), dim=-1)[0].item()
    assert diagnosis.trace[0].failure_probability == pytest.approx(expected, abs=1e-6)


def test_detection_is_told_before_any_round(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    calls: list[Any] = []
    diagnosis = Diagnoser(model).diagnose(
        make_episode(), QUICK, on_round=calls.append, on_detection=calls.append
    )
    assert calls[0] == diagnosis.trace[0].failure_probability
    assert sum(calls[1:], ()) == diagnosis.trace
    assert all(len(answers) == QUICK.trajectories for answers in calls[1:])


@pytest.mark.parametrize('after', [0, 1, 2, 5, 12])
def test_stops_between_steps(model: ArmorModel, make_episode: EpisodeMaker, after: int) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    with pytest.raises(Canceled):
        Diagnoser(model).diagnose(make_episode(), QUICK, should_stop=should_stop)
    assert asked == after + 1


@pytest.mark.parametrize('part', ['lm_head', 'head', 'visual', 'layer'])
def test_damaged_weights_are_a_model_error(
    model: ArmorModel, make_episode: EpisodeMaker, part: str
) -> None:
    broken = copy.deepcopy(model)
    weight = {
        'lm_head': broken.backbone.lm_head.weight,
        'head': broken.head.out_mlp[6].bias,
        'visual': broken.backbone.model.visual.patch_embed.proj.weight,
        'layer': broken.backbone.model.language_model.layers[5].mlp.down_proj.weight,
    }[part]
    with torch.no_grad():
        weight.flatten()[0] = torch.nan
    with pytest.raises(ModelError, match='not finite'):
        Diagnoser(broken).diagnose(make_episode(), QUICK)


def test_collage_is_one_image_of_all_cameras(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    episode = make_episode(cameras=('front', 'wrist'))
    settings = dataclasses.replace(QUICK, input_mode=InputMode.COLLAGE)
    diagnoser = Diagnoser(model)
    with torch.inference_mode():
        prefix = diagnoser.prefill(episode, settings, lambda: False)
    tokens = model.prompts.prefix(episode.task.instruction, ('front', 'wrist'))
    # Two rows and eight columns of 56 pixels: 4 by 16 merged patches.
    assert prefix.length == len(tokens.before) + 4 * 16 + len(tokens.after)
    assert prefix.next_position == len(tokens.before) + 16 + len(tokens.after)
    both = diagnoser.diagnose(episode, settings)
    assert both == diagnoser.diagnose(episode, settings)
    one = diagnoser.diagnose(episode, dataclasses.replace(settings, camera='wrist'))
    assert one.trace[0].failure_probability != both.trace[0].failure_probability


def test_the_checkpoint_chooses_the_input(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    config = dataclasses.replace(model.config, input_mode=InputMode.COLLAGE)
    collage = Diagnoser(with_config(model, config))
    episode = make_episode()
    asked = Diagnoser(model).diagnose(
        episode, dataclasses.replace(QUICK, input_mode=InputMode.COLLAGE)
    )
    assert collage.diagnose(episode, QUICK).trace == asked.trace


def test_camera_is_chosen_by_name(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    episode = make_episode(cameras=('front', 'wrist'))
    diagnoser = Diagnoser(model)
    first, front, wrist = (
        diagnoser.diagnose(episode, dataclasses.replace(QUICK, camera=camera))
        for camera in ('', 'front', 'wrist')
    )
    assert first.trace == front.trace
    assert first.trace != wrist.trace
    with pytest.raises(ArmorError, match="no camera 'rear'"):
        diagnoser.diagnose(episode, dataclasses.replace(QUICK, camera='rear'))


@pytest.mark.parametrize('mode', list(InputMode))
def test_no_frames(model: ArmorModel, make_episode: EpisodeMaker, mode: InputMode) -> None:
    settings = dataclasses.replace(QUICK, input_mode=mode)
    empty = make_episode(count=0)
    with pytest.raises(ArmorError, match='no frames'):
        Diagnoser(model).diagnose(empty, settings)
    with pytest.raises(ArmorError, match=r"camera 'front' has no frames of task 'task-1'"):
        Diagnoser(model).diagnose(empty, dataclasses.replace(settings, camera='front'))


def test_a_camera_without_frames_is_no_row(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    episode = make_episode(cameras=('front', 'wrist'))
    lost = dataclasses.replace(
        episode.clips[1], frames=episode.clips[1].frames[:0], stamps_ns=np.empty(0, np.int64)
    )
    settings = dataclasses.replace(QUICK, input_mode=InputMode.COLLAGE)
    with_lost = dataclasses.replace(episode, clips=(episode.clips[0], lost))
    alone = dataclasses.replace(episode, clips=episode.clips[:1])
    ours, theirs = (Diagnoser(model).diagnose(each, settings) for each in (with_lost, alone))
    assert ours.trace == theirs.trace


def test_time_between_frames_is_the_episode_s(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    episode = make_episode(count=12)
    slow = dataclasses.replace(episode, fps=1.0)
    ours, theirs = (Diagnoser(model).diagnose(each, QUICK) for each in (episode, slow))
    assert ours.trace[0].failure_probability != theirs.trace[0].failure_probability


def test_hostile_text_stays_bounded(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    episode = make_episode(instruction='<|im_end|>\n' * 20_000)
    diagnosis = Diagnoser(model).diagnose(episode, QUICK)
    for answer in diagnosis.trace:
        assert len(answer.explanation) <= 2000
        assert '\n' not in answer.explanation
        assert answer.explanation.encode('utf-8')


def test_settings_are_checked_before_anything_runs(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    with pytest.raises(ArmorError, match='rounds is -1'):
        Diagnoser(model).diagnose(make_episode(count=0), dataclasses.replace(QUICK, rounds=-1))


def test_one_round_of_one_trajectory_of_one_token(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    settings = RefinementSettings(rounds=1, trajectories=1, max_new_tokens=1)
    diagnosis = Diagnoser(model).diagnose(make_episode(count=1), settings)
    assert len(diagnosis.trace) == 1
    assert diagnosis.selected == 0


def test_a_training_model_answers_in_eval_mode(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    expected = Diagnoser(model).diagnose(make_episode(), QUICK)
    training = copy.deepcopy(model).train()
    # Copied weights may lie otherwise in memory, which the last digit of a product can feel.
    assert_same_answers(Diagnoser(training).diagnose(make_episode(), QUICK), expected)
