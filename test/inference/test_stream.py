# SPDX-License-Identifier: Apache-2.0
"""Episodes encoded while they happen: the same answers, whatever the order of events."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simple_path import diagnose_simply

from armor_ros.episodes.diagnosis import Diagnosis, InputMode, RefinementSettings
from armor_ros.episodes.episode import Episode
from armor_ros.errors import ArmorError
from armor_ros.inference.clip_encoder import ClipEncoder
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.inference.engine import Engine
from armor_ros.inference.errors import Canceled
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.inference.stream import EpisodeStream, StreamLimits
from armor_ros.model.armor import ArmorModel

EpisodeMaker = Callable[..., Episode]
QUICK = RefinementSettings(rounds=3, trajectories=2, max_new_tokens=8, tolerance=0.0)
TOKENS = 16  # of a pair of frames at 112 pixels a side


def never() -> bool:
    return False


def push(stream: EpisodeStream, episode: Episode, first: int = 0, last: int | None = None) -> None:
    clip = episode.clip()
    for stamp, frame in zip(clip.stamps_ns[first:last], clip.frames[first:last], strict=True):
        stream.push(int(stamp), frame)


def drain(stream: EpisodeStream) -> None:
    while stream.step():
        pass


def assert_same_answers(ours: Diagnosis, theirs: Diagnosis) -> None:
    assert ours.selected == theirs.selected
    for one, other in zip(ours.trace, theirs.trace, strict=True):
        assert (one.explanation, one.failed) == (other.explanation, other.failed)
        for name in ('failure_probability', 'detection_entropy'):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-5)
        assert one.explanation_entropy == pytest.approx(other.explanation_entropy, abs=1e-4)


def logits_after(prefix: SharedPrefix) -> torch.Tensor:
    """Return the logits of the token that follows one more token behind a prefix."""
    with torch.inference_mode():
        prefix.complete()
        embeddings = prefix.model.embed(torch.tensor([3]))
        prefix.cache.reserve(prefix.length + 1)
        positions = torch.full((3, 1), prefix.next_position)
        run = prefix.decoder.begin(prefix.length, embeddings, positions, torch.zeros(1, 1))
        run, _ = prefix.decoder.early_layers(run, prefix.cache)
        return prefix.decoder.language_logits(prefix.decoder.late_layers(run, prefix.cache))


def prepare(stream: EpisodeStream, episode: Episode) -> SharedPrefix:
    clip = episode.clip()
    return stream.prepare(
        clip.frames, clip.stamps_ns.tolist(), episode.fps, [1, 2, 3], never
    ).prefix


def test_pairs_are_bit_equal_to_the_whole_clip(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    frames = make_episode(count=8, size=90).clip().frames
    encoder = ClipEncoder(Engine(model), 5.0)
    pairs = [frames[start : start + 2] for start in range(0, 8, 2)]
    with torch.inference_mode():
        together = encoder.encode(pairs)
        one_by_one = [encoder.encode([pair])[0] for pair in pairs]
    for ours, theirs in zip(one_by_one, together, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('count', [1, 2, 7, 12])
def test_a_stream_gives_the_logits_of_the_whole_clip(
    model: ArmorModel, make_episode: EpisodeMaker, count: int
) -> None:
    episode = make_episode(count=count)
    diagnoser = Diagnoser(model)
    streamed = diagnoser.open_stream()
    for index in range(count):
        push(streamed, episode, index, index + 1)
        drain(streamed)
    ours = logits_after(prepare(streamed, episode))
    theirs = logits_after(prepare(diagnoser.open_stream(), episode))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize('max_tokens', [32768, 4 * TOKENS])
@pytest.mark.parametrize('at_once', [1, 2, 9])
def test_a_step_leaves_no_more_than_it_was_expected_to(
    model: ArmorModel, make_episode: EpisodeMaker, at_once: int, max_tokens: int
) -> None:
    stream = Diagnoser(model, limits=StreamLimits(max_tokens)).open_stream()
    episode = make_episode(count=60)
    least = stream.nbytes_after_step
    for start in range(0, 60, at_once):
        push(stream, episode, start, start + at_once)
        expected = stream.nbytes_after_step
        while stream.step():
            assert stream.nbytes <= expected
            expected = stream.nbytes_after_step
    assert stream.nbytes > 0
    stream.close()
    assert stream.nbytes == 0
    assert stream.nbytes_after_step == least


@pytest.mark.parametrize('count', [1, 2, 5, 10])
@pytest.mark.parametrize('streamed', [0, 1, 3, 10])
def test_streamed_answers(
    model: ArmorModel, make_episode: EpisodeMaker, count: int, streamed: int
) -> None:
    episode = make_episode(count=count, cameras=('front', 'wrist'))
    diagnoser = Diagnoser(model)
    stream = diagnoser.open_stream(camera='front')
    push(stream, episode, 0, streamed)
    drain(stream)
    ours = diagnoser.diagnose(episode, QUICK, stream=stream)
    assert_same_answers(ours, diagnoser.diagnose(episode, QUICK))
    pairs = min(streamed, count) // 2
    assert ours.late_frames == count - 2 * pairs
    assert stream.nbytes == 0
    assert not stream.push(10**15, episode.clip().frames[0])


def test_almost_nothing_is_left_to_do(
    model: ArmorModel, make_episode: EpisodeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    episode = make_episode(count=12)
    diagnoser = Diagnoser(model)
    stream = diagnoser.open_stream()
    push(stream, episode)
    drain(stream)
    monkeypatch.setattr(ArmorModel, 'encode_vision', None)
    lengths: list[int] = []
    append = SharedPrefix.append

    def record(prefix: SharedPrefix, embeddings: torch.Tensor, positions: torch.Tensor) -> None:
        lengths.append(len(embeddings))
        append(prefix, embeddings, positions)

    monkeypatch.setattr(SharedPrefix, 'append', record)
    diagnoser.diagnose(episode, QUICK, stream=stream)
    assert lengths == [len(model.prompts.prefix(episode.task.instruction).after)]


@pytest.mark.parametrize('place', [0, 1, 4, 9])
@pytest.mark.parametrize('change', ['pixels', 'stamp', 'missing', 'extra'])
def test_what_differs_is_encoded_again(
    model: ArmorModel, make_episode: EpisodeMaker, place: int, change: str
) -> None:
    episode = make_episode(count=10)
    clip = episode.clip()
    frames, stamps = clip.frames.copy(), clip.stamps_ns.copy()
    if change == 'pixels':
        frames[place] = 255 - frames[place]
    elif change == 'stamp':
        stamps[place] += 1
    elif change == 'missing':
        frames, stamps = np.delete(frames, place, 0), np.delete(stamps, place)
    else:
        stamps = np.sort(np.append(stamps, stamps[place] + 7))
        frames = np.insert(frames, place, 0, axis=0)
    real = dataclasses.replace(
        episode, clips=(dataclasses.replace(clip, frames=frames, stamps_ns=stamps),)
    )
    diagnoser = Diagnoser(model)
    stream = diagnoser.open_stream()
    push(stream, episode)
    drain(stream)
    ours = diagnoser.diagnose(real, QUICK, stream=stream)
    assert_same_answers(ours, diagnoser.diagnose(real, QUICK))
    assert 0 < ours.late_frames <= 11


def test_a_dropped_beginning_spares_the_vision_tower(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    episode = make_episode(count=10)
    clip = episode.clip()
    kept = dataclasses.replace(clip, frames=clip.frames[4:], stamps_ns=clip.stamps_ns[4:])
    real = dataclasses.replace(episode, clips=(kept,))
    diagnoser = Diagnoser(model)
    stream = diagnoser.open_stream()
    push(stream, episode)
    drain(stream)
    ours = diagnoser.diagnose(real, QUICK, stream=stream)
    assert ours.late_frames == 0
    assert_same_answers(ours, diagnoser.diagnose(real, QUICK))


def test_another_rate_camera_or_mode(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    episode = make_episode(count=12, cameras=('front', 'wrist'))
    slow = dataclasses.replace(episode, fps=1.0)
    collage = dataclasses.replace(QUICK, input_mode=InputMode.COLLAGE)
    wrist = dataclasses.replace(QUICK, camera='wrist')
    for real, wanted, camera in (
        (slow, QUICK, 'front'), (episode, wrist, 'front'),
        (episode, wrist, ''), (episode, collage, ''),
    ):  # fmt: skip
        diagnoser = Diagnoser(model)
        stream = diagnoser.open_stream(camera=camera)
        push(stream, episode)
        drain(stream)
        ours = diagnoser.diagnose(real, wanted, stream=stream)
        assert_same_answers(ours, diagnoser.diagnose(real, wanted))


class Interleaving:
    """Three streams of different clips, and the answers that each gives alone."""

    def __init__(self, model: ArmorModel, make_episode: EpisodeMaker) -> None:
        self.diagnoser = Diagnoser(model, limits=StreamLimits(max_tokens=4 * TOKENS))
        self.episodes = [
            make_episode(count=count, seed=seed, instruction=text)
            for seed, (count, text) in enumerate(
                [(5, 'open the drawer'), (12, 'stack the blocks'), (8, '')]
            )
        ]
        self.alone = [self.diagnoser.diagnose(each, QUICK) for each in self.episodes]


@pytest.fixture(scope='module')
def interleaving(model: ArmorModel, make_episode: EpisodeMaker) -> Interleaving:
    return Interleaving(model, make_episode)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(['push', 'step', 'end']))))
def test_interleaved_streams_never_see_each_other(
    interleaving: Interleaving, events: list[tuple[int, str]]
) -> None:
    diagnoser, episodes = interleaving.diagnoser, interleaving.episodes
    streams = [diagnoser.open_stream() for _ in episodes]
    pushed = [0, 0, 0]
    open_streams = {0, 1, 2}

    def end(index: int) -> None:
        open_streams.discard(index)
        ours = diagnoser.diagnose(episodes[index], QUICK, stream=streams[index])
        assert_same_answers(ours, interleaving.alone[index])

    for index, event in events:
        if index not in open_streams:
            continue
        if event == 'push':
            push(streams[index], episodes[index], pushed[index], pushed[index] + 3)
            pushed[index] += 3
        elif event == 'step':
            streams[index].step()
        else:
            end(index)
    for index in sorted(open_streams):
        end(index)


def test_a_long_clip_is_thinned_alike(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    episode = make_episode(count=41)
    diagnoser = Diagnoser(model, limits=StreamLimits(max_tokens=6 * TOKENS))
    whole = diagnoser.diagnose(episode, QUICK)
    # Of 21 pairs the first, ninth and seventeenth, and the last; every fourth would be too many.
    assert whole.frame_stride == 8
    stream = diagnoser.open_stream()
    for index in range(41):
        push(stream, episode, index, index + 1)
        drain(stream)
        # Keys and values of the 256 slots that are the least, and embeddings of six pairs.
        assert stream.nbytes <= 256 * 6 * 2 * 32 * 4 + 6 * TOKENS * 64 * 4
    ours = diagnoser.diagnose(episode, QUICK, stream=stream)
    assert ours.frame_stride == whole.frame_stride
    assert_same_answers(ours, whole)
    assert Diagnoser(model).diagnose(episode, QUICK).frame_stride == 1


def test_a_thinned_clip_is_that_of_its_pairs_at_their_places(
    model: ArmorModel, make_episode: EpisodeMaker
) -> None:
    """With every second pair at twice the seconds, no other implementation knows of thinning."""
    episode = make_episode(count=10)
    clip = episode.clip()
    kept = [0, 1, 4, 5, 8, 9]
    slow = dataclasses.replace(
        episode,
        fps=2.5,
        clips=(
            dataclasses.replace(clip, frames=clip.frames[kept], stamps_ns=clip.stamps_ns[kept]),
        ),
    )
    thinned = Diagnoser(model, limits=StreamLimits(max_tokens=4 * TOKENS)).diagnose(episode, QUICK)
    assert thinned.frame_stride == 2
    expected = diagnose_simply(model, slow, QUICK)
    for ours, theirs in zip(thinned.trace, expected.trace, strict=True):
        assert ours.explanation == theirs.explanation
        assert ours.failure_probability == pytest.approx(theirs.failure_probability, abs=1e-5)


def test_too_many_frames_wait(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    episode = make_episode(count=10)
    clip = episode.clip()
    diagnoser = Diagnoser(model, limits=StreamLimits(max_waiting=4))
    stream = diagnoser.open_stream()
    taken = [stream.push(int(s), f) for s, f in zip(clip.stamps_ns, clip.frames, strict=True)]
    assert taken == [True] * 4 + [False] * 6
    assert stream.waiting == 4
    drain(stream)
    ours = diagnoser.diagnose(episode, QUICK, stream=stream)
    assert ours.late_frames == 6
    assert_same_answers(ours, diagnoser.diagnose(episode, QUICK))


def test_a_frame_out_of_order_is_left_out(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    frames = make_episode(count=4).clip().frames
    stream = Diagnoser(model).open_stream()
    assert stream.push(5, frames[0])
    assert not stream.push(5, frames[1])
    assert not stream.push(4, frames[1])
    assert stream.push(6, frames[1])
    assert not stream.push(7, frames[2][:50])
    assert not stream.push(8, frames[3])


def test_stops_between_chunks(model: ArmorModel, make_episode: EpisodeMaker) -> None:
    answers = iter([False, False, True])
    with pytest.raises(Canceled):
        Diagnoser(model).diagnose(make_episode(count=40), QUICK, should_stop=lambda: next(answers))
    assert next(answers, None) is None


@pytest.mark.parametrize('checks', range(4))
def test_a_stream_of_an_answer_that_was_stopped_is_closed(
    model: ArmorModel, make_episode: EpisodeMaker, checks: int
) -> None:
    episode = make_episode(count=9, cameras=('front', 'wrist'))
    diagnoser = Diagnoser(model)
    stream = diagnoser.open_stream(camera='front')
    push(stream, episode, 0, 6)
    drain(stream)
    assert stream.nbytes > 0
    answers = iter([False] * checks + [True] * 99)
    with pytest.raises(Canceled):
        diagnoser.diagnose(episode, QUICK, should_stop=lambda: next(answers), stream=stream)
    assert stream.nbytes == 0
    assert not stream.push(10**15, episode.clip().frames[0])


def test_a_limit_below_two_pairs_is_refused(model: ArmorModel) -> None:
    diagnoser = Diagnoser(model, limits=StreamLimits(max_tokens=2 * TOKENS - 1))
    with pytest.raises(ArmorError, match='max_tokens is 31'):
        diagnoser.open_stream()
