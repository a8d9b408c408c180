# SPDX-License-Identifier: Apache-2.0
"""Rules that the live node and the evaluation of recordings share."""

from __future__ import annotations

import numpy as np
import pytest

from armor_ros.episodes.diagnosis import ReportStatus, Verdict
from armor_ros.episodes.episode import CameraClip, CameraEvidence, Episode
from armor_ros.episodes.outcome import check_frames, disagrees
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus

SECOND = 1_000_000_000


def clip(name: str, *, seen: int = 0, used: int = 0, undecodable: int = 0) -> CameraClip:
    evidence = CameraEvidence(name, f'/{name}/image', seen, used, undecodable, 0, 0, 0)
    frames = np.zeros((used, 2, 2, 3), np.uint8)
    return CameraClip(evidence, frames, 100 * SECOND + np.arange(used, dtype=np.int64))


def episode(*clips: CameraClip) -> Episode:
    start, end = 100 * SECOND, 110 * SECOND
    event = TaskEvent(TaskPhase.END, 'task', end)
    return Episode(event, start, end, start, end, clips, False, 5.0)


def test_one_used_frame_of_any_camera_is_enough() -> None:
    assert check_frames(episode(clip('a'), clip('b', seen=1, used=1))) == (ReportStatus.OK, '')


def test_no_message_at_all() -> None:
    status, text = check_frames(episode(clip('a'), clip('b')), {'a': 0})
    assert status is ReportStatus.NO_FRAMES
    assert 'a (/a/image) gave none; b (/b/image) gave none' in text


def test_no_camera_at_all() -> None:
    status, text = check_frames(episode())
    assert status is ReportStatus.NO_FRAMES
    assert 'check the names of its cameras' in text


def test_undecodable_images_are_counted_in_the_sentence() -> None:
    status, text = check_frames(episode(clip('a', seen=80, undecodable=80)), {'a': 105 * SECOND})
    assert status is ReportStatus.NO_FRAMES
    assert 'gave 80 images, 80 of which could not be decoded' in text


@pytest.mark.parametrize(
    ('newest', 'words'), [(95.5, '4.5 s older than the task'), (112, '2.0 s younger')]
)
def test_frames_of_another_time_are_stale(newest: float, words: str) -> None:
    status, text = check_frames(episode(clip('a'), clip('b')), {'a': int(newest * SECOND)})
    assert status is ReportStatus.STALE_FRAMES
    assert words in text
    assert 'b (/b/image) gave none' in text


def test_bad_images_of_the_task_outweigh_stale_ones() -> None:
    bad = clip('a', seen=3, undecodable=3)
    status, _ = check_frames(episode(bad, clip('b')), {'a': 101 * SECOND, 'b': 5 * SECOND})
    assert status is ReportStatus.NO_FRAMES


def test_disagreement_needs_two_opinions() -> None:
    contradictions = {
        (status, verdict)
        for status in TaskStatus
        for verdict in Verdict
        if disagrees(status, verdict)
    }
    assert contradictions == {
        (TaskStatus.SUCCEEDED, Verdict.FAILURE),
        (TaskStatus.ABORTED, Verdict.SUCCESS),
    }
