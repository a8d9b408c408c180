# SPDX-License-Identifier: Apache-2.0
"""The same recording gives the same verdicts, replayed to the live monitor or evaluated."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from armor_ros.datasets.bag_writer import write_bag
from armor_ros.datasets.bags import BagImage, BagMessage, BagStatus
from armor_ros.episodes.decoding import CompressedImage
from armor_ros.episodes.goal_tracker import GoalState

pytestmark = pytest.mark.ros

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
FRAME_NS = SECOND // 5
TOPIC = '/front/image_raw/compressed'
STATUS_TOPIC = '/pick/_action/status'


def record(path: Path) -> None:
    """
    A camera at 10 Hz for 6 s, and two goals that end between two images of their clips.

    Live, an end is when it is heard of: it is 0.1 s from the images that would be used or not.
    """
    rng = np.random.default_rng(5)
    messages: list[BagMessage] = []
    for index in range(60):
        stamp_ns = START + index * SECOND // 10
        pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        jpeg = CompressedImage('jpeg', cv2.imencode('.jpg', pixels)[1].tobytes())
        messages.append(BagImage(TOPIC, stamp_ns + 5_000_000, stamp_ns, jpeg))
    for number, start, end, status in ((1, 0.53, 2.5, 4), (2, 3.13, 5.1, 6)):
        uuid = number.to_bytes(16, 'big')
        start_ns = START + round(start * SECOND)
        for time_ns, state in ((start_ns, 2), (START + round(end * SECOND), status)):
            messages.append(BagStatus('/pick', time_ns, (GoalState(uuid, start_ns, state),)))
    write_bag(path, sorted(messages, key=lambda message: message.log_ns))


def nanoseconds(stamp: Any) -> int:
    return stamp.sec * SECOND + stamp.nanosec


def test_live_verdicts_equal_those_of_the_evaluation(
    robot: Any, monitor: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from armor_ros.evaluation.evaluate import evaluate
    from armor_ros.evaluation.predictor import EvaluationSettings, ModelPredictor
    from armor_ros.evaluation.sources import BagSource, SourceSettings
    from armor_ros.inference.diagnoser import Diagnoser
    from armor_ros.model.checkpoint import load_checkpoint
    from armor_ros.node.replay import replay_bag

    record(tmp_path / 'bag')
    live = monitor(use_sim_time=True)
    robot.wait_until_ready()
    wanted = (TOPIC, STATUS_TOPIC, '/clock')
    replay = threading.Thread(
        target=replay_bag, args=(tmp_path / 'bag',), kwargs={'wait_for': wanted}
    )
    replay.start()
    reports = robot.wait_for_reports(2, timeout=60)
    replay.join()

    settings = EvaluationSettings(
        live.parameters.episode_settings(), live.parameters.refinement_settings()
    )
    predictor = ModelPredictor(Diagnoser(load_checkpoint(tiny_checkpoint, device='cpu')), settings)
    cameras = live.parameters.camera_configs()
    bag = BagSource(tmp_path / 'bag', 'bag', SourceSettings(settings.episodes, cameras))
    evaluate([bag], predictor, tmp_path / 'out')
    lines = (tmp_path / 'out' / 'predictions.jsonl').read_text().splitlines()
    assert len(lines) == 2
    for report, line in zip(reports, map(json.loads, lines), strict=True):
        assert report.task.task_id == line['task_id']
        assert abs(nanoseconds(report.clip_start) - line['clip_start_ns']) < FRAME_NS
        assert abs(nanoseconds(report.clip_end) - line['clip_end_ns']) < FRAME_NS
        (camera,) = line['cameras']
        assert report.cameras[0].frames_used == camera['frames_used'] == 10
        assert nanoseconds(report.cameras[0].first_stamp) == camera['first_stamp_ns']
        assert nanoseconds(report.cameras[0].last_stamp) == camera['last_stamp_ns']
        assert report.failure_probability == np.float32(line['failure_probability'])
        assert report.explanation == line['explanation']
        assert report.config_hash == line['config_hash']
        assert report.disagrees_with_status == line['disagrees_with_status']
