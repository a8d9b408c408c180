# SPDX-License-Identifier: Apache-2.0
"""One simulated episode: task and plan in; states, the robot's own word and a judgement out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from armor_ros.errors import ArmorError
from armor_ros.simulation.domain import PLAIN_LOOK, TRAIN, DomainSettings, Look, domain_of
from armor_ros.simulation.events import Judgement
from armor_ros.simulation.explanation import explain
from armor_ros.simulation.failures import NOMINAL, Failure, failure_of
from armor_ros.simulation.judge import judge
from armor_ros.simulation.plan import Plan, sample_plan
from armor_ros.simulation.policy import TICK_STEPS, Controller, Result
from armor_ros.simulation.robot import Cell
from armor_ros.simulation.statelog import StateLog, StateLogger
from armor_ros.simulation.tasks import TASKS, Order, Task, Transport

Observer = Callable[[Cell], None]
"""Called after every step of the physics (4 ms), and once before the first."""

Span = tuple[int, int]
"""The first and the last instant of a part of an episode, nanoseconds of its clock."""

LEAD_TICKS = 50
"""Ticks (20 ms) before the task begins and after it ended; items come to rest in them."""

_WORDING = 1
_SCENES = 200


@dataclass(frozen=True, slots=True)
class Setup:
    """What is simulated: drawn from a seed, before any physics. ``scene`` is the drawn task."""

    seed: int
    mode: str
    scene: Task
    plan: Plan
    domain: DomainSettings = TRAIN
    look: Look = PLAIN_LOOK

    @property
    def task_name(self) -> str:
        """The task's name in ``TASKS``."""
        return self.scene.name


@dataclass(frozen=True, slots=True)
class SimulatedEpisode:
    """
    What came of a set-up.

    ``start_ns`` and ``end_ns`` bound the task on the episode's clock, which starts at 0;
    ``result`` is what the robot's own stack says of it, ``judgement`` what really happened, in
    words ``explanation``, whose times count from ``start_ns``.
    """

    setup: Setup
    log: StateLog
    start_ns: int
    end_ns: int
    result: Result
    judgement: Judgement
    explanation: str


@dataclass(frozen=True, slots=True)
class Relabelled:
    """An episode's video under another instruction: ``scene`` is the task that it is judged by."""

    scene: Task
    instruction: str
    judgement: Judgement
    explanation: str

    @property
    def success(self) -> bool:
        """Whether the video shows this other task done."""
        return self.judgement.success


def draw_setup(
    seed: int,
    mode: str,
    task: str | Order | None = None,
    domain: str | DomainSettings = TRAIN,
) -> Setup:
    """
    Draw task, plan and look from a seed.

    ``task`` is a name in ``TASKS`` or an order for a transport; None is any transport. The same
    seed gives the same scene and the same undisturbed plan for every mode that the scene allows.
    Raises ArmorError on an unknown task, mode or domain.
    """
    layout, habits, _, looks = _streams(seed)
    domain = domain_of(domain)
    name = task if isinstance(task, str) else Transport.name
    failure = failure_of(mode, name)
    for _ in range(_SCENES):
        if isinstance(task, Order):
            scene: Task = Transport.draw(layout, domain, task)
        else:
            scene = TASKS[name].draw(layout, domain)
        if failure is None or failure.applies(scene):
            break
    else:
        raise ArmorError(f'no scene of {name} in {domain.name} allows the mode {mode!r}')
    plan = sample_plan(habits, scene, domain)
    setup = Setup(seed, NOMINAL, scene, plan, domain, domain.draw_look(looks))
    return setup if failure is None else _spoil(setup, failure)


def undisturbed(setup: Setup) -> Setup:
    """Return the set-up of the same scene, habits and look in which nothing is injected."""
    _, habits, _, _ = _streams(setup.seed)
    plan = sample_plan(habits, setup.scene, setup.domain)
    return replace(setup, mode=NOMINAL, plan=plan)


def inject(setup: Setup, mode: str) -> Setup | None:
    """
    Return the set-up with ``mode`` in place of what was injected, in the same scene.

    None where the scene does not allow it. Raises ArmorError on a mode the task does not have.
    """
    failure = failure_of(mode, setup.task_name)
    clean = undisturbed(setup)
    if failure is None:
        return clean
    return _spoil(clean, failure) if failure.applies(setup.scene) else None


def _spoil(setup: Setup, failure: Failure) -> Setup:
    spoiling = _streams(setup.seed)[2]
    plan = failure.spoil(setup.plan, setup.scene, spoiling)
    return replace(setup, mode=failure.name, plan=plan)


def _streams(seed: int) -> list[np.random.Generator]:
    """Return independent streams for the scene, the habits, what is spoilt, and the look."""
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)]


def run_episode(
    setup: Setup, observer: Observer | None = None, *, style: str = 'first_person'
) -> SimulatedEpisode:
    """
    Simulate a set-up to its end and judge it. About 0.5 s of computing without pictures.

    ``style`` is that of the explanation.
    """
    cell = Cell(setup.scene, setup.look)
    if setup.plan.stuck is not None:
        cell.stick(*setup.plan.stuck)
    policy = Controller(cell, setup.plan)
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
    episode = SimulatedEpisode(
        setup, log, start_ns, end_ns, policy.result, judge(log, setup.scene), ''
    )
    return replace(episode, explanation=describe(episode, style=style))


def describe(
    episode: SimulatedEpisode, shown: Span | None = None, *, style: str = 'first_person'
) -> str:
    """
    Return what happened in words, in the phrasing that the episode's seed draws.

    ``shown`` is the part of it that a viewer sees, on the episode's clock: the words count time
    from its first instant. None is the task itself.
    """
    start_ns, end_ns = shown or (episode.start_ns, episode.end_ns)
    return explain(
        episode.judgement,
        episode.setup.scene,
        np.random.default_rng((episode.setup.seed, _WORDING)),
        start_ns=start_ns,
        end_ns=end_ns,
        style=style,
    )


def relabel(
    episode: SimulatedEpisode,
    rng: np.random.Generator,
    shown: Span | None = None,
    *,
    style: str = 'first_person',
) -> list[Relabelled]:
    """
    Return the episode under other instructions of its task, judged anew.

    The states are the same, so the video is too. Those whose label differs from the episode's
    come first, in random order; the list is empty where the scene allows no other instruction.
    ``shown`` and ``style`` are those of ``describe``.
    """
    start_ns, end_ns = shown or (episode.start_ns, episode.end_ns)
    found = []
    for scene in episode.setup.scene.alternatives():
        judgement = judge(episode.log, scene)
        words = explain(
            judgement,
            scene,
            rng,
            start_ns=start_ns,
            end_ns=end_ns,
            style=style,
        )
        found.append(Relabelled(scene, scene.instruction, judgement, words))
    shuffled = [found[i] for i in rng.permutation(len(found))]
    return sorted(shuffled, key=lambda twin: twin.success == episode.judgement.success)
