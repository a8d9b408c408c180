# SPDX-License-Identifier: Apache-2.0
"""Small recordings of a robot, and a small model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from armor_ros.datasets.bag_writer import write_bag
from armor_ros.datasets.bags import BagImage, BagMessage, BagStatus
from armor_ros.episodes.decoding import CompressedImage
from armor_ros.episodes.goal_tracker import GoalState

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


class RobotBag:
    """
    The messages of a recording: JPEG cameras at 10 Hz and the goals of actions.

    Times are seconds since the beginning. ``offset`` is the log time minus the robot's clock.
    """

    def __init__(self) -> None:
        self.messages: list[BagMessage] = []
        self.offset = 0

    def camera(
        self,
        topic: str = '/front/image_raw/compressed',
        seconds: tuple[float, float] = (0.0, 6.0),
        broken: Callable[[int], bool] = lambda index: False,
    ) -> None:
        """Film from one time to another; ``broken`` tells which images are cut off."""
        rng = np.random.default_rng(len(topic))
        for index in range(round((seconds[1] - seconds[0]) * 10)):
            stamp_ns = START + round((seconds[0] + index / 10) * SECOND)
            pixels = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
            data = cv2.imencode('.jpg', pixels)[1].tobytes()
            image = CompressedImage('jpeg', data[:40] if broken(index) else data)
            self.messages.append(BagImage(topic, stamp_ns + self.offset, stamp_ns, image))

    def goal(
        self,
        start: float,
        end: float | None,
        status: int = 4,
        action: str = '/pick',
        number: int = 1,
    ) -> None:
        """Run one goal of an action; without an end it runs on."""
        uuid = number.to_bytes(16, 'big')
        start_ns = START + round(start * SECOND)
        states = [(start_ns, 2)]
        if end is not None:
            states.append((START + round(end * SECOND), status))
        for time_ns, state in states:
            goals = (GoalState(uuid, start_ns, state),)
            self.messages.append(BagStatus(action, time_ns + self.offset, goals))

    def write(self, path: Path, **options: Any) -> Path:
        """Write the recording in log order."""
        write_bag(path, sorted(self.messages, key=lambda message: message.log_ns), **options)
        return path


@pytest.fixture
def robot_bag() -> RobotBag:
    return RobotBag()


@pytest.fixture(scope='session')
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from armor_ros.model.tiny import make_tiny_checkpoint

    path = tmp_path_factory.mktemp('models') / 'tiny'
    make_tiny_checkpoint(path)
    return path


@pytest.fixture(scope='session')
def diagnoser(tiny_checkpoint: Path) -> Any:
    from armor_ros.inference.diagnoser import Diagnoser
    from armor_ros.model.checkpoint import load_checkpoint

    return Diagnoser(load_checkpoint(tiny_checkpoint, device='cpu'))
