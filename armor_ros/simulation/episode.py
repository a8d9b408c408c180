# SPDX-License-Identifier: Apache-2.0
"""One simulated episode: scene and plan in; states, the robot's own word and a judgement out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from armor_ros.simulation.explanation import explain
from armor_ros.simulation.judge import Judgement, judge
from armor_ros.simulation.plan import Plan, inject, sample_plan
from armor_ros.simulation.policy import TICK_STEPS, Result, TransportPolicy
from armor_ros.simulation.robot import Cell
from armor_ros.simulation.scene import Scene, Task, sample_scene, sample_task
from armor_ros.simulation.statelog import StateLog, StateLogger

Observer = Callable[[Cell], None]
"""Called after every step of the physics (4 ms), and once before the first."""

LEAD_TICKS = 50
"""Ticks (20 ms) before the task begins and after it ended; items come to rest in them."""

_WORDING = 1


@dataclass(frozen=True, slots=True)
class Setup:
    """What is simulated: drawn from a seed, before any physics."""

    seed: int
    mode: str
    scene: Scene
    plan: Plan


@dataclass(frozen=True, slots=True)
class SimulatedEpisode:
    """
    What came of a set-up.

    ``start_ns`` and ``end_ns`` bound the task on the episode's clock, which starts at 0;
    ``result`` is what the robot's own stack says of it, ``judgement`` what really happened, in one
    sentence ``explanation``.
    """

    setup: Setup
    log: StateLog
    start_ns: int
    end_ns: int
    result: Result
    judgement: Judgement
    explanation: str


def draw_setup(seed: int, mode: str, task: Task | None = None) -> Setup:
    """
    Draw scene and plan from a seed.

    The same seed gives the same scene and the same undisturbed plan for every mode. Raises
    ArmorError on an unknown mode.
    """
    layout, habits, spoiling = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)
    )
    scene = sample_scene(layout, task if task is not None else sample_task(layout))
    plan = inject(mode, sample_plan(habits, scene), scene, spoiling)
    return Setup(seed, mode, scene, plan)


def run_episode(setup: Setup, observer: Observer | None = None) -> SimulatedEpisode:
    """Simulate a set-up to its end and judge it. About 0.5 s of computing without pictures."""
    cell = Cell(setup.scene)
    policy = TransportPolicy(cell, setup.plan)
    logger = StateLogger()

    def tick() -> None:
        logger.sample(cell, closing=policy.closed)
        for _ in range(TICK_STEPS):
            cell.step()
            if observer is not None:
                observer(cell)

    if observer is not None:
        observer(cell)
    for _ in range(LEAD_TICKS):
        tick()
    start_ns = cell.time_ns
    for _ in policy.run():
        tick()
    end_ns = cell.time_ns
    for _ in range(LEAD_TICKS):
        tick()
    logger.sample(cell, closing=policy.closed)
    log = logger.finish()
    judgement = judge(log, setup.scene)
    wording = np.random.default_rng((setup.seed, _WORDING))
    explanation = explain(judgement, setup.scene, wording, start_ns=start_ns, end_ns=end_ns)
    return SimulatedEpisode(setup, log, start_ns, end_ns, policy.result, judgement, explanation)
