# SPDX-License-Identifier: Apache-2.0
"""Frames that read like one array: the same values, and not copied before they must be."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from armor_ros.episodes.collage import render_clip, render_collage
from armor_ros.episodes.decoding import RawImage
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.frame_sequence import FrameSequence
from armor_ros.episodes.recorder import CameraConfig, EpisodeRecorder
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.task import TaskEvent, TaskPhase

SECOND = 10**9
RNG = np.random.default_rng(0)
FRAMES = [RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8) for _ in range(5)]


@pytest.mark.parametrize('count', [0, 1, 5])
def test_it_reads_like_the_array(count: int) -> None:
    ours = FrameSequence(FRAMES[:count], (6, 8))
    array = np.stack(FRAMES[:count]) if count else np.empty((0, 6, 8, 3), np.uint8)
    assert (ours.shape, ours.dtype, ours.ndim, ours.size, len(ours)) == (
        array.shape,
        array.dtype,
        array.ndim,
        array.size,
        len(array),
    )
    assert np.array_equal(np.asarray(ours), array)
    assert np.asarray(ours, np.float32).dtype == np.float32
    assert np.array_equal(np.asarray(ours[1:3]), array[1:3])
    assert ours[1:3].shape == array[1:3].shape
    assert [zlib.crc32(frame) for frame in ours] == [zlib.crc32(frame) for frame in array]


def test_frames_are_not_copied() -> None:
    ours = FrameSequence(FRAMES, (6, 8))
    assert ours[2] is FRAMES[2]
    assert ours[1:][-1] is FRAMES[-1]
    assert not np.shares_memory(np.asarray(ours)[0], FRAMES[0])


def record(stacked: bool) -> tuple[list[Any], Episode]:
    """Film a task with two cameras; return the kept frames of the first, and the Episode."""
    settings = EpisodeSettings(frame_height=24, frame_width=32)
    cameras = [CameraConfig('front', '/front'), CameraConfig('wrist', '/wrist')]
    recorder = EpisodeRecorder(settings, cameras, stacked=stacked)
    rng, now, kept = np.random.default_rng(1), 100 * SECOND, []
    recorder.add_event(TaskEvent(TaskPhase.START, 'a', now), now)
    for step in range(20):
        now += SECOND // 5
        for camera in ('front', 'wrist'):
            pixels = rng.integers(0, 255, 24 * 32 * 3, dtype=np.uint8)
            if recorder.wants(camera, now, now):
                image = RawImage('rgb8', 32, 24, 96, False, pixels)
                taken = recorder.add_image(camera, now, now, image)
                if taken is not None and camera == 'front' and step < 10:
                    kept.append(taken.frame)
        if step == 9:
            recorder.add_event(TaskEvent(TaskPhase.END, 'a', now), now)
    (episode,) = recorder.advance(now + SECOND) or recorder.flush()
    return kept, episode


def test_an_episode_is_the_same_whether_its_frames_are_stacked_or_not() -> None:
    (_, stacked), (kept, ours) = record(stacked=True), record(stacked=False)
    assert ours.frame_count == stacked.frame_count == 20
    for one, other in zip(ours.clips, stacked.clips, strict=True):
        assert isinstance(one.frames, FrameSequence)
        assert isinstance(other.frames, np.ndarray)
        assert np.array_equal(np.asarray(one.frames), other.frames)
        assert np.array_equal(one.stamps_ns, other.stamps_ns)
        assert one.evidence == other.evidence
    assert all(mine is theirs for mine, theirs in zip(ours.clips[0].frames, kept, strict=True))
    assert np.array_equal(render_collage(ours), render_collage(stacked))
    assert np.array_equal(render_clip(ours), render_clip(stacked))
