# SPDX-License-Identifier: Apache-2.0
"""One simulated episode as a recording of its own, with what its robot's stack published."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np

from armor_ros.datasets.bag_writer import BagWriter
from armor_ros.datasets.bags import BagStatus
from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.episodes.task import TaskStatus
from armor_ros.simulation.episode import SimulatedEpisode, run_episode
from armor_ros.simulation.recording import FilmSettings, Record, Recorder, write_records

EPOCH_NS = 1_767_254_400 * 1_000_000_000
"""The robot's clock when each recording begins: 2026-01-01 08:00:00 UTC."""

_ACCEPTED, _EXECUTING = 1, 2
_MS = 1_000_000


def write_episode_bag(
    path: Path,
    episode: SimulatedEpisode,
    size: int,
    rate: float,
    status: TaskStatus,
    storage: str,
) -> None:
    """
    Simulate an episode once more, film it at ``rate``, and record it in the new folder ``path``.

    The task is one goal of the action named after it, which ends with ``status``. ``storage`` is
    'mcap' or 'sqlite3'.
    """
    setup = episode.setup
    recorder = Recorder(FilmSettings(size, rate), EPOCH_NS, setup.seed)
    try:
        run_episode(setup, recorder)
    finally:
        recorder.close()
    action = f'/{setup.task_name}'
    goal_id = uuid.UUID(bytes=np.random.default_rng((setup.seed, 2)).bytes(16), version=4).bytes
    start_ns, end_ns = EPOCH_NS + episode.start_ns, EPOCH_NS + episode.end_ns
    records: list[Record] = [
        BagStatus(action, log_ns, (GoalState(goal_id, start_ns, state),))
        for state, log_ns in (
            (_ACCEPTED, start_ns + _MS),
            (_EXECUTING, start_ns + 3 * _MS),
            (int(status), end_ns),
        )
    ]
    with BagWriter(path, storage=storage) as writer:
        write_records(writer, recorder.records + records)
