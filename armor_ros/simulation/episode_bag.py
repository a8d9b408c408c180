# SPDX-License-Identifier: Apache-2.0
"""One simulated episode as a recording of its own, with what its robot's stack published."""

from __future__ import annotations

from pathlib import Path

from armor_ros.datasets.bag_writer import BagWriter
from armor_ros.episodes.task import TaskStatus
from armor_ros.simulation.episode import SimulatedEpisode, run_episode
from armor_ros.simulation.recipe import Recipe
from armor_ros.simulation.recording import FilmSettings, Recorder, write_records
from armor_ros.simulation.signals import EPOCH_NS, Goal, goal_id, signals
from armor_ros.simulation.splits import stable_seed


def write_episode_bag(
    path: Path, episode: SimulatedEpisode, recipe: Recipe, status: TaskStatus, storage: str
) -> None:
    """
    Simulate an episode once more, film it, and record it in the new folder ``path``.

    The task is one goal, which ends with ``status``; ``recipe`` says how large and how often
    pictures are, and how the robot's stack tells of tasks. ``storage`` is 'mcap' or 'sqlite3'.
    """
    setup = episode.setup
    recorder = Recorder(FilmSettings(recipe.size, recipe.bag_rate), EPOCH_NS, setup.seed)
    try:
        run_episode(setup, recorder)
    finally:
        recorder.close()
    goal = Goal(
        name=setup.task_name,
        # a success and a failure may share their seed, and no two recordings share a goal
        id=goal_id(stable_seed(setup.seed, path.name)),
        start_ns=EPOCH_NS + episode.start_ns,
        end_ns=EPOCH_NS + episode.end_ns,
        instruction=setup.scene.instruction,
        status=status,
        message=episode.result.message if status is episode.result.status else '',
    )
    with BagWriter(path, storage=storage) as writer:
        write_records(writer, [*recorder.records, *signals(goal, recipe.trigger)])
