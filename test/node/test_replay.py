# SPDX-License-Identifier: Apache-2.0
"""A recording is published live: every message, in order, with a clock."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from armor_ros.datasets.bag_writer import BagWriter, write_bag
from armor_ros.datasets.bags import BagClock, BagImage, BagMessage, BagStatus, BagTaskEvent
from armor_ros.episodes.decoding import CompressedImage, RawImage
from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.episodes.task import TaskEvent, TaskPhase
from armor_ros.errors import ArmorError

pytestmark = pytest.mark.ros

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
STEP = SECOND // 50
IMAGE_TOPIC = '/front/image_raw'
JPEG_TOPIC = '/wrist/image_raw/compressed'
STATUS_TOPIC = '/move/_action/status'
EVENT_TOPIC = '/armor/task_event'


def sample_messages(count: int = 20, clock: bool = False) -> list[BagMessage]:
    """Two cameras at 50 Hz, the status of an action and a task event."""
    uuid = bytes(range(16))
    messages: list[BagMessage] = [
        BagStatus('/move', START, (GoalState(uuid, START, 2),)),
        BagTaskEvent(EVENT_TOPIC, START, TaskEvent(TaskPhase.START, 'task', START)),
    ]
    for index in range(count):
        log_ns = START + index * STEP
        if clock:
            # A simulation's clock: it has nothing to do with the time of recording.
            messages.append(BagClock(log_ns, 10 * SECOND + index * STEP))
        pixels = np.full(12, index, np.uint8)
        image = RawImage('rgb8', 2, 2, 6, False, pixels)
        messages.append(BagImage(IMAGE_TOPIC, log_ns, log_ns, image))
        messages.append(BagImage(JPEG_TOPIC, log_ns, log_ns, CompressedImage('jpeg', pixels)))
    end = START + count * STEP
    return [*messages, BagStatus('/move', end, (GoalState(uuid, START, 4),))]


class Listener:
    """Subscribes to the sample's topics and keeps what arrives, and when."""

    def __init__(self, ros: Any) -> None:
        from action_msgs.msg import GoalStatusArray
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import CompressedImage as CompressedImageMessage
        from sensor_msgs.msg import Image

        from armor_msgs.msg import TaskEvent as TaskEventMessage

        latched = QoSProfile(
            depth=10,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self.ros = ros
        self.node = ros.node('listener')
        self.images: list[int] = []
        self.jpegs: list[int] = []
        self.statuses: list[int] = []
        self.events: list[str] = []
        self.clock: list[int] = []
        self.times: list[float] = []
        subscribe = self.node.create_subscription
        subscribe(Image, IMAGE_TOPIC, self._on_image, 100)
        subscribe(CompressedImageMessage, JPEG_TOPIC, lambda m: self.jpegs.append(m.data[0]), 100)
        subscribe(
            GoalStatusArray,
            STATUS_TOPIC,
            lambda m: self.statuses.append(m.status_list[0].status),
            latched,
        )
        subscribe(TaskEventMessage, EVENT_TOPIC, lambda m: self.events.append(m.task_id), 10)
        subscribe(Clock, '/clock', self._on_clock, 1000)

    def _on_image(self, message: Any) -> None:
        self.images.append(message.data[0])
        self.times.append(time.monotonic())

    def _on_clock(self, message: Any) -> None:
        self.clock.append(message.clock.sec * SECOND + message.clock.nanosec)


class Replay(threading.Thread):
    """A replay beside the test, which spins the listener."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__()
        self.path, self.options = path, options
        self.summary: Any = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        from armor_ros.node.replay import replay_bag

        try:
            self.summary = replay_bag(self.path, **self.options)
        except ArmorError as error:
            self.error = error


ALL = (IMAGE_TOPIC, JPEG_TOPIC, STATUS_TOPIC, EVENT_TOPIC, '/clock')


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    write_bag(tmp_path / 'bag', sample_messages())
    return tmp_path / 'bag'


def finish(ros: Any, replay: Replay) -> Any:
    ros.spin_until(lambda: not replay.is_alive(), timeout=20)
    ros.spin_for(0.2)
    replay.join()
    assert replay.error is None
    return replay.summary


def test_every_message_arrives_in_order_with_a_clock(ros: Any, bag: Path) -> None:
    listener = Listener(ros)
    summary = finish(ros, Replay(bag, wait_for=ALL, linger=0.1))
    assert listener.images == list(range(20))
    assert listener.jpegs == list(range(20))
    assert listener.statuses == [2, 4]
    assert listener.events == ['task']
    assert (summary.published, summary.loops, summary.interrupted) == (43, 1, False)
    assert summary.skipped == ()
    # 0.4 s of bag and 0.1 s of lingering at 100 Hz, both ends included.
    assert listener.clock == [START + tick * SECOND // 100 for tick in range(51)]
    # In the rhythm of the recording: 19 steps of 20 ms.
    assert 0.33 < listener.times[-1] - listener.times[0] < 0.6


def test_rate_changes_the_rhythm(ros: Any, bag: Path) -> None:
    listener = Listener(ros)
    finish(ros, Replay(bag, wait_for=ALL, rate=4.0, linger=0))
    assert listener.images == list(range(20))
    assert listener.times[-1] - listener.times[0] < 0.25


def test_loop_begins_again_and_jumps_the_clock_back(ros: Any, bag: Path) -> None:
    listener = Listener(ros)
    done = threading.Event()
    replay = Replay(bag, wait_for=ALL, rate=2.0, loop=True, should_stop=done.is_set)
    ros.spin_until(lambda: len(listener.images) >= 45, timeout=20)
    done.set()
    summary = finish(ros, replay)
    assert listener.images[:40] == [*range(20), *range(20)]
    assert summary.loops >= 2
    assert summary.interrupted
    jumps = [after - before for before, after in itertools.pairwise(listener.clock)]
    assert min(jumps) < -SECOND // 5
    assert sum(jump <= 0 for jump in jumps) == summary.loops


def test_a_recorded_clock_is_not_doubled(ros: Any, tmp_path: Path) -> None:
    write_bag(tmp_path / 'bag', sample_messages(clock=True))
    listener = Listener(ros)
    finish(
        ros,
        Replay(tmp_path / 'bag', wait_for=[IMAGE_TOPIC, '/clock'], topics=[IMAGE_TOPIC], linger=0),
    )
    assert listener.clock == [10 * SECOND + index * STEP for index in range(20)]
    assert listener.images == list(range(20))
    assert listener.jpegs == []


def test_a_recorded_clock_goes_on_after_the_end(ros: Any, tmp_path: Path) -> None:
    write_bag(tmp_path / 'bag', sample_messages(clock=True))
    listener = Listener(ros)
    finish(ros, Replay(tmp_path / 'bag', wait_for=['/clock'], linger=0.3))
    assert listener.clock == sorted(set(listener.clock))
    # The last message is one step after the last clock.
    assert listener.clock[-1] == 10 * SECOND + 20 * STEP + 3 * SECOND // 10


def test_no_clock_when_not_wanted(ros: Any, bag: Path) -> None:
    listener = Listener(ros)
    finish(ros, Replay(bag, wait_for=[IMAGE_TOPIC], clock=False, rate=5))
    assert listener.images == list(range(20))
    assert listener.clock == []


def test_qos_is_as_recorded_and_status_is_latched(ros: Any, bag: Path) -> None:
    from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

    node = ros.node('observer')
    done = threading.Event()
    replay = Replay(bag, loop=True, should_stop=done.is_set)

    def offers(topic: str) -> Any:
        return node.get_publishers_info_by_topic(topic)

    status = ros.spin_until(lambda: offers(STATUS_TOPIC))[0].qos_profile
    image = ros.spin_until(lambda: offers(IMAGE_TOPIC))[0].qos_profile
    done.set()
    finish(ros, replay)
    assert status.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert status.reliability == ReliabilityPolicy.RELIABLE
    assert image.durability == DurabilityPolicy.VOLATILE
    assert image.reliability == ReliabilityPolicy.RELIABLE


def test_recorded_best_effort_stays_best_effort() -> None:
    from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

    from armor_ros.datasets.storage import Qos, Topic
    from armor_ros.node.replay_topics import publisher_qos

    def offer(*recorded: Qos) -> Any:
        return publisher_qos(Topic('/a', 'sensor_msgs/msg/Image', 1, recorded))

    assert offer(Qos('best_effort', 'volatile', 5)).reliability == ReliabilityPolicy.BEST_EFFORT
    assert offer(Qos('best_effort', 'volatile', 5)).depth == 5
    assert offer(Qos('best_effort'), Qos('reliable')).reliability == ReliabilityPolicy.RELIABLE
    assert offer(Qos(durability='transient_local')).durability == DurabilityPolicy.TRANSIENT_LOCAL
    mixed = offer(Qos(durability='volatile'), Qos(durability='transient_local'))
    assert mixed.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert offer().reliability == ReliabilityPolicy.RELIABLE


def test_unknown_types_and_broken_messages_are_passed_over(ros: Any, tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        for message in sample_messages():
            writer.write(message)
        writer.write_raw('/shape', 'shape_msgs/msg/Plane', START + 1, b'\x00\x01\x00\x00')
        writer.write_raw(IMAGE_TOPIC, 'sensor_msgs/msg/Image', START + 2, b'\x00')
    listener = Listener(ros)
    summary = finish(ros, Replay(tmp_path / 'bag', wait_for=ALL, rate=5))
    assert listener.images == list(range(20))
    skipped = dict(summary.skipped)
    assert list(skipped) == ['/shape']
    assert 'shape_msgs' in skipped['/shape']
    assert 'install' in skipped['/shape']


def test_progress_is_told(ros: Any, bag: Path) -> None:
    told: list[Any] = []
    finish(ros, Replay(bag, delay=0, on_progress=told.append))
    assert 2 <= len(told) <= 4
    assert told[-1].published > told[0].published
    assert all(0 <= report.elapsed_ns <= report.duration_ns == 20 * STEP for report in told)


@pytest.mark.parametrize('rate', [0.0, -1.0, float('nan'), float('inf')])
def test_rate_must_be_a_speed(bag: Path, rate: float) -> None:
    from armor_ros.node.replay import replay_bag

    with pytest.raises(ArmorError, match='give a speed above 0'):
        replay_bag(bag, rate=rate)


def test_errors_say_what_to_do(tmp_path: Path, bag: Path) -> None:
    from armor_ros.node.replay import replay_bag

    with pytest.raises(ArmorError, match=r'no messages on /front/image; did you mean /front/'):
        replay_bag(bag, topics=['/front/image'])
    with pytest.raises(ArmorError, match=r'subscriber of /front/image: .* did you mean /front/'):
        replay_bag(bag, wait_for=['/front/image'])
    with pytest.raises(ArmorError, match=r'nobody subscribed to /front/image_raw within 0\.2 s'):
        replay_bag(bag, wait_for=[IMAGE_TOPIC], wait_seconds=0.2)
    write_bag(tmp_path / 'empty', [])
    with pytest.raises(ArmorError, match='holds no messages'):
        replay_bag(tmp_path / 'empty')
    with BagWriter(tmp_path / 'foreign') as writer:
        writer.write_raw('/shape', 'shape_msgs/msg/Plane', START, b'\x00\x01\x00\x00')
    with pytest.raises(ArmorError, match=r'nothing of .* can be replayed: /shape: its type'):
        replay_bag(tmp_path / 'foreign')


def test_sigint_ends_a_replay_cleanly(bag: Path) -> None:
    program = (
        'import sys\n'
        'from armor_ros.node.replay import replay_bag\n'
        'def tell(progress):\n'
        '    print("on", flush=True)\n'
        'summary = replay_bag(sys.argv[1], loop=True, on_progress=tell)\n'
        'print("interrupted", summary.interrupted)\n'
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, '-c', program, str(bag)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(root)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == 'on\n'
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    finally:
        process.kill()
    assert time.monotonic() - began < 2
    assert output.endswith('interrupted True\n')
    assert process.returncode == 0
    assert 'Traceback' not in errors
