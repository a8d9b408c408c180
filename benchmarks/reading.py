# SPDX-License-Identifier: Apache-2.0
"""
Frames a second that one core reads from a recording of three JPEG cameras and decodes.

    .venv/bin/python benchmarks/reading.py --output out/reading.json

Three figures for each size and storage. ``whole``: every frame decoded in full size. ``resized``:
every frame decoded and brought to the 308 x 308 pixels that the model looks at, as the recorder
does. ``episodes``: the way of an evaluation, which decodes no more than the 5 frames a second that
it keeps; the frames are all that went by. The target is for the first and the last. All by the
processor's own time, which other programs do not lengthen much; wall time is written down too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

import cv2
import numpy as np
from machine import machine

from armor_ros.datasets.bag_writer import write_bag
from armor_ros.datasets.bags import Bag, BagImage, BagMessage, BagTaskEvent
from armor_ros.episodes.decoding import CompressedImage, decode_image, resize
from armor_ros.episodes.settings import EpisodeSettings
from armor_ros.episodes.task import TaskEvent, TaskPhase
from armor_ros.evaluation.bag_episodes import BagEpisodes

CAMERAS = ('front', 'wrist', 'overhead')
SIZES = ((480, 640), (320, 320))
STORAGES = (('mcap', 'none'), ('mcap', 'chunk'), ('sqlite3', 'none'))
RATE = 30
START = 1_700_000_000_000_000_000
QUALITY = 90
MODEL_SIZE = (308, 308)
TARGET = 300.0
REPEATS = 3


def pictures(size: tuple[int, int], count: int) -> Iterator[bytes]:
    """Yield JPEG pictures of a scene in which something moves."""
    rng = np.random.default_rng(0)
    height, width = size
    scene = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (width, height))
    for number in range(count):
        picture = scene.copy()
        x = 20 + number * 7 % (width - 60)
        cv2.circle(picture, (x, height // 2), 24, (20, 40, 230), -1)
        noise = rng.integers(-6, 7, picture.shape, np.int16)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
        yield cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def record(path: Path, size: tuple[int, int], seconds: int, storage: str, packed: str) -> None:
    """Write a recording of one task from its beginning to its end."""
    jpegs = list(pictures(size, 30))
    messages: list[BagMessage] = [
        BagTaskEvent('/armor/task_event', START, TaskEvent(TaskPhase.START, 'task', START))
    ]
    for number in range(seconds * RATE):
        stamp = START + number * 1_000_000_000 // RATE
        for offset, camera in enumerate(CAMERAS):
            image = CompressedImage('jpeg', jpegs[(number + 7 * offset) % len(jpegs)])
            topic = f'/{camera}/image_raw/compressed'
            messages.append(BagImage(topic, stamp + offset, stamp, image))
    end = START + seconds * 1_000_000_000
    event = TaskEvent(TaskPhase.END, 'task', end)
    write_bag(path, [*messages, BagTaskEvent('/armor/task_event', end, event)], storage=storage,
              compression=packed)  # fmt: skip


def read_whole(path: Path, smallest: tuple[int, int] | None) -> int:
    """Decode every frame, and resize it where a size is given; return how many."""
    count = 0
    with Bag(path) as bag:
        for message in bag.read():
            if isinstance(message, BagImage):
                frame = decode_image(message.image, smallest)
                if smallest is not None:
                    resize(frame, smallest)
                count += 1
    return count


def read_episodes(path: Path) -> int:
    """Make the episodes of a recording; return how many frames went by."""
    with Bag(path) as bag:
        episodes = list(BagEpisodes(bag, EpisodeSettings()))
    return sum(clip.evidence.frames_seen for episode in episodes for clip in episode.clips)


def measure(path: Path, way: str) -> dict[str, float]:
    """Return the best of some runs: frames a second by processor time, and by wall time."""
    results = []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        if way == 'episodes':
            count = read_episodes(path)
        else:
            count = read_whole(path, MODEL_SIZE if way == 'resized' else None)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        results.append(
            {'frames': count, 'per_cpu_second': count / cpu, 'per_second': count / wall}
        )
    return max(results, key=lambda result: result['per_cpu_second'])


def main() -> None:
    """Measure, print and write the figures; exit status 1 below the target."""
    parser = argparse.ArgumentParser(description='Reading and decoding recordings on one core.')
    parser.add_argument('--output', type=Path, required=True, help='JSON file to write')
    parser.add_argument('--seconds', type=int, default=10, help='length of the recordings')
    arguments = parser.parse_args()
    report: dict[str, Any] = {
        'machine': machine(opencv=cv2.__version__, rosbags=version('rosbags')),
        'cameras': len(CAMERAS),
        'rate': RATE,
        'jpeg_quality': QUALITY,
        'target': TARGET,
        'rows': [],
    }
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            for storage, packed in STORAGES:
                path = Path(folder) / f'{size[0]}-{storage}-{packed}'
                record(path, size, arguments.seconds, storage, packed)
                for way in ('whole', 'resized', 'episodes'):
                    row = {
                        'width': size[1],
                        'height': size[0],
                        'storage': storage,
                        'compression': packed,
                        'way': way,
                        **measure(path, way),
                    }
                    report['rows'].append(row)
                    print(
                        f'{size[1]} x {size[0]}  {storage:8}{packed:6}{way:9} '
                        f'{row["per_cpu_second"]:8.0f} frames a second of the processor, '
                        f'{row["per_second"]:6.0f} by the clock',
                        flush=True,
                    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    judged = [row for row in report['rows'] if row['way'] != 'resized']
    if min(row['per_cpu_second'] for row in judged) < TARGET:
        sys.exit(f'below the target of {TARGET:g} frames a second')


if __name__ == '__main__':
    main()
