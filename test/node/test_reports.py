# SPDX-License-Identifier: Apache-2.0
"""Report messages: complete, finite, never SUCCESS by accident; and their bounded history."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from armor_ros.episodes.diagnosis import (
    Diagnosis,
    ModelInfo,
    RefinementSettings,
    ReportStatus,
    Round,
    Verdict,
)
from armor_ros.episodes.episode import CameraClip, CameraEvidence, Episode
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus

pytestmark = pytest.mark.ros
SECOND = 10**9

EVIDENCE = CameraEvidence('front', '/front', 30, 1, 2, SECOND, SECOND, 2 * SECOND)
CLIP = CameraClip(EVIDENCE, np.zeros((1, 8, 8, 3), np.uint8), np.array([SECOND]))
END = TaskEvent(TaskPhase.END, 'a', 3 * SECOND, status=TaskStatus.SUCCEEDED)
EPISODE = Episode(END, SECOND, 3 * SECOND, SECOND, 3 * SECOND, (CLIP,), True, 5.0)
ROUND = Round(0, 0, 0.75, True, 'it slipped', 0.5, 2.0, 0.7, True)
DIAGNOSIS = Diagnosis(
    verdict=Verdict.FAILURE,
    failure_probability=0.75,
    explanation='it slipped',
    detection_entropy=0.5,
    explanation_entropy=2.0,
    combined_entropy=0.7,
    selected=0,
    trace=(ROUND,),
    settings=RefinementSettings(trajectories=1),
    model=ModelInfo('m', 'r', 'none', 'abc', True),
)


def report_of(diagnosis: Diagnosis, episode: Episode = EPISODE) -> Any:
    from armor_ros.node.reports import Timing, diagnosis_report

    return diagnosis_report(episode, diagnosis, 'hash', 9 * SECOND, Timing(1, 2, 3))


def test_a_diagnosis_is_reported_whole() -> None:
    report = report_of(DIAGNOSIS)
    assert report.verdict == report.FAILURE
    assert report.status == report.STATUS_OK
    assert report.explanation == 'it slipped'
    assert report.disagrees_with_status
    assert report.truncated
    assert (report.rounds, report.trajectories, len(report.trace)) == (1, 1, 1)
    assert report.cameras[0].frames_undecodable == 2
    assert report.cameras[0].largest_gap.sec == 2
    assert (report.clip_start.sec, report.clip_end.sec, report.header.stamp.sec) == (1, 3, 9)
    assert report.total_time.nanosec == 3
    assert report.config_hash == 'hash'


def test_what_is_unusual_about_a_diagnosis_is_said() -> None:
    def extra_of(**changes: Any) -> dict[str, str]:
        report = report_of(dataclasses.replace(DIAGNOSIS, **changes))
        return {pair.key: pair.value for pair in report.extra}

    usual = {'model_trained': 'true'}
    assert extra_of() == extra_of(late_frames=2) == usual
    assert extra_of(late_frames=3) == {**usual, 'late_frames': '3'}
    assert extra_of(deadline_reached=True, frame_stride=4) == {
        **usual,
        'deadline_reached': 'true',
        'frame_stride': '4',
    }
    assert extra_of(account='takes the red can') == {**usual, 'account': 'takes the red can'}


@pytest.mark.parametrize(
    ('status', 'verdict', 'expected'),
    [
        (TaskStatus.SUCCEEDED, Verdict.FAILURE, True),
        (TaskStatus.ABORTED, Verdict.SUCCESS, True),
        (TaskStatus.SUCCEEDED, Verdict.SUCCESS, False),
        (TaskStatus.ABORTED, Verdict.FAILURE, False),
        (TaskStatus.CANCELED, Verdict.SUCCESS, False),
        (TaskStatus.UNKNOWN, Verdict.FAILURE, False),
    ],
)
def test_disagreement(status: TaskStatus, verdict: Verdict, expected: bool) -> None:
    episode = dataclasses.replace(EPISODE, task=dataclasses.replace(END, status=status))
    report = report_of(dataclasses.replace(DIAGNOSIS, verdict=verdict), episode)
    assert report.disagrees_with_status is expected


@pytest.mark.parametrize('number', [math.nan, math.inf])
def test_a_probability_that_is_no_number_is_unknown(number: float) -> None:
    report = report_of(dataclasses.replace(DIAGNOSIS, failure_probability=number))
    assert (report.verdict, report.status) == (report.UNKNOWN, report.STATUS_MODEL_ERROR)
    assert report.failure_probability == 0.5


def test_an_unknown_report_says_why_and_keeps_the_evidence() -> None:
    from armor_ros.node.reports import Timing, unknown_report

    report = unknown_report(EPISODE, ReportStatus.TIMEOUT, 'x' * 5000, 0, Timing())
    assert (report.verdict, report.status) == (report.UNKNOWN, report.STATUS_TIMEOUT)
    assert len(report.status_text) == 2000
    assert report.detection_entropy == -1.0
    assert len(report.cameras) == 1
    assert not report.disagrees_with_status


def test_a_report_is_one_line_in_the_log() -> None:
    from armor_ros.node.reports import Timing, one_line, provisional_report, unknown_report

    assert one_line(report_of(DIAGNOSIS)) == (
        'task a: FAILURE (probability of failure 0.75; the robot said SUCCEEDED): it slipped'
    )
    unknown = unknown_report(EPISODE, ReportStatus.TIMEOUT, 'too late', 0, Timing())
    assert one_line(unknown) == 'task a: UNKNOWN, TIMEOUT: too late'
    assert 'provisionally SUCCESS' in one_line(provisional_report(EPISODE, 0.1, 0, Timing()))


def test_constants_equal_those_of_the_values() -> None:
    from armor_msgs.msg import FailureReport, TaskEvent

    for status in ReportStatus:
        assert getattr(FailureReport, f'STATUS_{status.name}') == status
    for verdict in Verdict:
        assert getattr(FailureReport, verdict.name) == verdict
    for phase in TaskPhase:
        assert getattr(TaskEvent, phase.name) == phase
    for task_status in TaskStatus:
        assert getattr(TaskEvent, f'STATUS_{task_status.name}') == task_status


def test_the_history_is_bounded_and_newest_first() -> None:
    from armor_ros.node.reports import ReportHistory, Timing, provisional_report

    history = ReportHistory(3)
    for name in 'abcd':
        episode = dataclasses.replace(EPISODE, task=dataclasses.replace(END, task_id=name))
        history.add(report_of(DIAGNOSIS, episode))
    history.add(provisional_report(EPISODE, 0.1, 0, Timing()))
    assert len(history) == 3
    assert [report.task.task_id for report in history.find(count=9)] == ['d', 'c', 'b']
    assert history.find('a') == []
    assert [r.provisional for r in history.find(count=2, include_provisional=True)] == [
        True,
        False,
    ]
    assert history.find('a', include_provisional=True)[0].provisional
