# SPDX-License-Identifier: Apache-2.0
"""
Episodes a minute of the simulated cell, and where the time goes.

    .venv/bin/python benchmarks/simulation.py --output benchmarks/results/simulation.json

Two figures. ``episodes``: 35 frames at 5 FPS of three views at 320 x 320, written as mp4 files
with the state, in as many processes as the machine has cores. ``dataset``: what ``armor simulate``
makes of a recipe of all tasks, where every success is paired with a failure of the same scene, so
that some attempts are simulated and dropped. Measure on an idle machine: the load is written down.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
from machine import machine

from armor_ros.datasets.video import write_video
from armor_ros.simulation.engine import choose_gl
from armor_ros.simulation.episode import draw_setup, run_episode
from armor_ros.simulation.failures import modes_of
from armor_ros.simulation.generate import generate
from armor_ros.simulation.recipe import Recipe, SplitRecipe
from armor_ros.simulation.statelog import state_of
from armor_ros.simulation.tape import Tape
from armor_ros.simulation.tasks import TASKS
from armor_ros.simulation.world import CAMERAS

FRAMES, FPS, SIZE = 35, 5.0, 320
STAGES = ('physics', 'rendering', 'encoding')
TARGET = 40.0


def one_episode(number: int) -> dict[str, Any]:
    """Make one episode with all its files; return wall and CPU seconds of each stage."""
    tasks = list(TASKS)
    task = tasks[number % len(tasks)]
    modes = modes_of(task)
    mode = modes[number // len(tasks) % len(modes)]
    result: dict[str, Any] = {'task': task, 'begin': time.monotonic(), 'wall': {}, 'cpu': {}}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        result['wall'][name] = time.perf_counter() - wall
        result['cpu'][name] = time.process_time() - cpu

    tape = Tape()
    with stage('physics'):
        episode = run_episode(draw_setup(number, mode, task), tape)
        times = episode.start_ns - 400_000_000 + np.arange(FRAMES) * round(1e9 / FPS)
        tape.extend(int(times[-1]))
    with stage('rendering'):
        views = tape.develop(times, SIZE, CAMERAS)
    with stage('encoding'), tempfile.TemporaryDirectory() as folder:
        for view, frames in views.items():
            write_video(Path(folder) / f'{view}.mp4', frames, FPS)
        np.savez_compressed(Path(folder) / 'state.npz', **state_of(episode.log))
    result['end'] = time.monotonic()
    return result


def measure_episodes(count: int, workers: int) -> dict[str, Any]:
    """Return episodes a minute of ``workers`` processes, and the mean seconds of each stage."""
    with ProcessPoolExecutor(workers, get_context('spawn')) as pool:
        list(pool.map(one_episode, range(workers)))  # imports, and the first GL context
        results = list(pool.map(one_episode, range(workers, workers + count)))
    seconds = max(r['end'] for r in results) - min(r['begin'] for r in results)
    spent = {
        kind: {stage: float(np.mean([r[kind][stage] for r in results])) for stage in STAGES}
        for kind in ('wall', 'cpu')
    }
    return {
        'episodes': count,
        'frames': FRAMES,
        'views': len(CAMERAS),
        'size': SIZE,
        'workers': workers,
        'episodes_a_minute': 60 * count / seconds,
        'wall_s_an_episode': spent['wall'],
        'cpu_s_an_episode': spent['cpu'],
    }


def measure_dataset(count: int, workers: int) -> dict[str, Any]:
    """Return episodes a minute of a whole recipe, start-up of the workers included."""
    recipe = Recipe(splits={'train': SplitRecipe(episodes=count, twins=1.0)}, size=SIZE, fps=FPS)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        made = generate(recipe, Path(folder) / 'dataset', workers=workers)
        seconds = time.perf_counter() - begin
    recordings = {sample.episode: sample.frames for sample in made.samples}
    return {
        'episodes': len(recordings),
        'samples': len(made.samples),
        'mean_frames': float(np.mean(list(recordings.values()))),
        'workers': workers,
        'episodes_a_minute': 60 * len(recordings) / seconds,
    }


def show(report: dict[str, Any]) -> None:
    """Print the figures."""
    where, episodes, dataset = report['machine'], report['episodes'], report['dataset']
    print(
        f'{where["cpu"]}, {where["cores"]} cores, {where["gl"]}, mujoco {where["mujoco"]}, ',
        end='',
    )
    print(f'load at start {where["load_at_start"]:.1f}')
    rate = episodes['episodes_a_minute']
    print(
        f'{rate:.1f} episodes a minute ({FRAMES} frames, {len(CAMERAS)} views of {SIZE} px, ',
        end='',
    )
    print(f'{episodes["workers"]} processes); the goal is {TARGET:.0f}')
    total = sum(episodes['cpu_s_an_episode'].values())
    for name in STAGES:
        cpu, wall = episodes['cpu_s_an_episode'][name], episodes['wall_s_an_episode'][name]
        print(f'  {name:10} {cpu:5.2f} s CPU ({cpu / total:4.0%}), {wall:5.2f} s')
    if dataset:
        print(
            f'{dataset["episodes_a_minute"]:.1f} episodes a minute of a whole data set '
            f'({dataset["mean_frames"]:.0f} frames each, {dataset["samples"]} samples of '
            f'{dataset["episodes"]} episodes)'
        )


def main() -> None:
    """Measure, print, write."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description='Episodes a minute of the simulated cell.')
    parser.add_argument('--episodes', type=int, default=48, help='episodes to measure')
    parser.add_argument('--dataset', type=int, default=24, help='episodes of a recipe; 0: none')
    parser.add_argument('--workers', type=int, default=cores, help='processes; default: all cores')
    parser.add_argument('--output', type=Path, help='JSON file for the figures')
    options = parser.parse_args()
    if min(options.episodes, options.workers) < 1 or options.dataset < 0:
        sys.exit('give at least one episode and one worker')
    report = {'machine': machine(gl=choose_gl(), mujoco=version('mujoco'))}
    report['episodes'] = measure_episodes(options.episodes, options.workers)
    report['dataset'] = (
        measure_dataset(options.dataset, options.workers) if options.dataset else None
    )
    show(report)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
        print(options.output)


if __name__ == '__main__':
    main()
