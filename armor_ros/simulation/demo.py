# SPDX-License-Identifier: Apache-2.0
"""A demo recording: transports that go well or badly, and what the robot itself says of them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armor_ros.datasets.bag_writer import BagWriter
from armor_ros.episodes.goal_tracker import GoalState
from armor_ros.errors import ArmorError
from armor_ros.simulation.domain import PLAIN
from armor_ros.simulation.episode import Setup, SimulatedEpisode, draw_setup, run_episode
from armor_ros.simulation.failures import failure_of
from armor_ros.simulation.recording import FilmSettings, Record, Recorder, write_records
from armor_ros.simulation.signals import EPOCH_NS, TRIGGERS, Goal, Trigger, goal_id, signals
from armor_ros.simulation.tasks import Order, Transport

ACTION = '/transport'
LABELS_FILE = 'labels.jsonl'
DEMO_EPISODES = (
    'nominal',
    'slip',
    'wrong_destination',
    'missed_grasp',
    'nominal',
    'wrong_object',
)
DEMO_SIZE = 256
DEMO_TASK = Order('blue', 'can', source=0, destination=2)

_MS = 1_000_000

Progress = Callable[[int, int, str], None]
"""Called with episodes done, episodes in all, and what is being done now."""


@dataclass(frozen=True, slots=True)
class Label:
    """
    One task of the recording as it really went: a line of ``labels.jsonl``.

    ``task_id`` is the id that the monitor forms. ``start_ns`` is the start's stamp, ``end_ns`` the
    instant at which the end was logged, both on the robot's clock. ``outcome`` ('success' or
    'failure'), ``explanation`` and ``event`` (the earliest causal event, None on success) are
    judged from the simulator's state. ``injected_mode`` says how the attempt was disturbed and is
    no label; ``robot_status`` and ``robot_message`` are what the robot's own stack said.
    """

    task_id: str
    goal_id: str
    start_ns: int
    end_ns: int
    instruction: str
    outcome: str
    explanation: str
    event: dict[str, Any] | None
    injected_mode: str
    robot_status: str
    robot_message: str
    seed: int


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """
    What was recorded.

    ``instructions`` maps an action's name to the one instruction its goals had, as the monitor's
    setting ``instructions`` takes it; empty when task events carry the instructions.
    """

    bag: Path
    labels: tuple[Label, ...]
    instructions: dict[str, str]
    duration_s: float
    size_bytes: int


def generate_demo_bag(
    output: Path,
    *,
    seed: int = 0,
    episodes: Sequence[str] = DEMO_EPISODES,
    size: int = DEMO_SIZE,
    rate: float = 15.0,
    trigger: Trigger = 'action',
    progress: Progress | None = None,
) -> DemoSummary:
    """
    Simulate, film and record episodes into a new rosbag2 (MCAP) directory ``output``.

    ``episodes`` names the injected mode of each. With ``trigger`` 'action' the tasks are goals of
    one action, ``/transport``, and all have the same instruction, because an action's status
    carries none; with 'task_event' each has its own, in ``/armor/task_event``. ``labels.jsonl``
    in the directory tells how each really went. The same arguments give the same recording.

    The directory appears complete or not at all. Raises ArmorError when it exists, on unknown
    modes, and when pictures cannot be rendered.
    """
    film = FilmSettings(size, rate)
    _check(output, episodes, trigger)
    output.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f'.{output.name}.', dir=output.parent))
    try:
        unfinished = workshop / output.name  # the data file takes its name from the directory
        labels: list[Label] = []
        goals: list[GoalState] = []
        now_ns = EPOCH_NS
        with BagWriter(unfinished, compression='chunk') as writer:
            for index, mode in enumerate(episodes):
                if progress is not None:
                    progress(index, len(episodes), f'simulating and filming: {mode}')
                task = DEMO_TASK if trigger == 'action' else None
                setup = demo_setup(seed, index, mode, task)
                episode, records = _film(setup, film, now_ns)
                goal = _goal(episode, now_ns)
                write_records(writer, [*records, *signals(goal, trigger, goals)])
                # an action server lists earlier goals too, as long as it keeps their results
                goals.append(goal.state(goal.status))
                labels.append(_label(episode, now_ns, goal, trigger))
                now_ns += int(episode.log.times_ns[-1])
        _write_labels(unfinished / LABELS_FILE, labels)
        size_bytes = sum(path.stat().st_size for path in unfinished.iterdir())
        unfinished.rename(output)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    if progress is not None:
        progress(len(episodes), len(episodes), 'done')
    instructions = {ACTION: labels[0].instruction} if trigger == 'action' else {}
    seconds = (now_ns - EPOCH_NS) / 1e9
    return DemoSummary(output, tuple(labels), instructions, seconds, size_bytes)


def _check(output: Path, episodes: Sequence[str], trigger: str) -> None:
    if output.exists():
        raise ArmorError(f'{output} exists already: remove it or choose another output')
    if not episodes:
        raise ArmorError('no episodes to simulate: name at least one mode')
    for mode in episodes:
        failure_of(mode, Transport.name)
    if trigger not in TRIGGERS:
        raise ArmorError(f'no trigger {trigger!r}; choose from: {", ".join(TRIGGERS)}')


def demo_setup(seed: int, index: int, mode: str, task: Order | None) -> Setup:
    """
    Return the set-up of the recording's episode number ``index``.

    One robot does them all: its stack looks at its grip once, after lifting.
    """
    setup = draw_setup(1000 * seed + index + 1, mode, task, PLAIN)
    return dataclasses.replace(setup, plan=dataclasses.replace(setup.plan, watches_grip=False))


def _film(
    setup: Setup, film: FilmSettings, epoch_ns: int
) -> tuple[SimulatedEpisode, list[Record]]:
    recorder = Recorder(film, epoch_ns, setup.seed)
    try:
        episode = run_episode(setup, recorder)
    finally:
        recorder.close()
    return episode, recorder.records


def _goal(episode: SimulatedEpisode, epoch_ns: int) -> Goal:
    return Goal(
        name=Transport.name,
        id=goal_id(episode.setup.seed),
        start_ns=epoch_ns + episode.start_ns,
        end_ns=epoch_ns + episode.end_ns + 2 * _MS,
        instruction=episode.setup.scene.instruction,
        status=episode.result.status,
        message=episode.result.message,
    )


def _label(episode: SimulatedEpisode, epoch_ns: int, goal: Goal, trigger: Trigger) -> Label:
    setup, judgement = episode.setup, episode.judgement
    cause = judgement.cause
    event = None
    if cause is not None:
        event = dataclasses.asdict(cause) | {
            'kind': cause.kind.value,
            'time_ns': epoch_ns + cause.time_ns,
            'item': setup.scene.items[cause.item].name,
        }
    return Label(
        task_id=goal.task_id(trigger),
        goal_id=goal.id,
        start_ns=goal.start_ns,
        end_ns=goal.end_ns,
        instruction=goal.instruction,
        outcome='success' if judgement.success else 'failure',
        explanation=episode.explanation,
        event=event,
        injected_mode=setup.mode,
        robot_status=goal.status.name,
        robot_message=goal.message,
        seed=setup.seed,
    )


def _write_labels(path: Path, labels: Sequence[Label]) -> None:
    with path.open('w', encoding='utf-8') as file:
        for label in labels:
            file.write(json.dumps(dataclasses.asdict(label)) + '\n')
