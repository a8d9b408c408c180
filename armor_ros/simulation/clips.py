# SPDX-License-Identifier: Apache-2.0
"""One pair of episodes as files: clips, states, recordings, collages, and the lines about them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from armor_ros.datasets.manifest import Label, Sample
from armor_ros.datasets.video import Frames, write_video
from armor_ros.episodes.collage import render_collage
from armor_ros.episodes.episode import CameraClip, CameraEvidence, Episode
from armor_ros.episodes.picture import save_picture
from armor_ros.episodes.task import TaskEvent, TaskPhase, TaskStatus
from armor_ros.simulation.episode import Relabelled, SimulatedEpisode, Span, describe, relabel
from armor_ros.simulation.episode_bag import write_episode_bag
from armor_ros.simulation.events import Event
from armor_ros.simulation.pairs import Take
from armor_ros.simulation.policy import TICK_SECONDS
from armor_ros.simulation.recipe import Recipe
from armor_ros.simulation.splits import FAILURE, SUCCESS, Pair, stable_seed
from armor_ros.simulation.statelog import state_of
from armor_ros.simulation.world import CAMERAS

SOURCE = 'simulation'

# Seconds that the robot stands idle: before and after the task in every clip, and in all.
_LEAST_IDLE = 0.2
_MOST_LEAD = 1.0
_IDLE = (0.6, 2.0)
_TICK_NS = round(TICK_SECONDS * 1e9)


@dataclass(frozen=True, slots=True)
class Cut:
    """
    Which part of an episode a clip shows.

    ``times_ns`` (T,) are the instants of the frames on the episode's clock.
    """

    times_ns: npt.NDArray[np.int64]

    @property
    def start_ns(self) -> int:
        """The instant of the first frame."""
        return int(self.times_ns[0])

    @property
    def span(self) -> Span:
        """The instants of the first and the last frame."""
        return self.start_ns, int(self.times_ns[-1])

    def __len__(self) -> int:
        return len(self.times_ns)


def cut_pair(recipe: Recipe, pair: Pair, takes: dict[str, Take]) -> dict[str, Cut]:
    """
    Choose the clips of a pair: of one length, with idle time before and after at random.

    Both begin as long before the task: they show the same first frame where the scene is the same.
    """
    rng = np.random.default_rng(stable_seed(recipe.seed, pair.split, pair.number, 'cut'))
    longest = max(take.seconds for take in takes.values())
    steps = math.ceil((longest + float(rng.uniform(*_IDLE))) * recipe.fps)
    most = min(_MOST_LEAD, steps / recipe.fps - longest - _LEAST_IDLE)
    lead_ns = round(float(rng.uniform(_LEAST_IDLE, most)) / TICK_SECONDS) * _TICK_NS
    offsets = np.round(np.arange(steps + 1) * (1e9 / recipe.fps)).astype(np.int64)
    return {
        kind: Cut(max(0, take.episode.start_ns - lead_ns) + offsets)
        for kind, take in takes.items()
    }


def write_take(recipe: Recipe, pair: Pair, name: str, take: Take, cut: Cut, root: Path) -> Sample:
    """Write the files of one episode below ``root`` and return its sample."""
    frames: dict[str, Frames] = {}
    if {'manifest', 'collage'} & set(recipe.formats):
        take.tape.extend(int(cut.times_ns[-1]))
        frames = take.tape.develop(cut.times_ns, recipe.size, recipe.views)
    elif 'audit' in recipe.formats:
        frames = take.tape.develop(cut.times_ns[:1], recipe.size, recipe.views)
    paths = _write_files(recipe, name, take.episode, cut, frames, root)
    lies = take.kind in pair.lies
    status = take.episode.result.status
    if lies:
        status = TaskStatus.ABORTED if take.kind == SUCCESS else TaskStatus.SUCCEEDED
    for storage in ('mcap', 'sqlite3'):
        if storage in recipe.formats:
            paths['bag'] = f'bags/{name}'
            write_episode_bag(root / paths['bag'], take.episode, recipe, status, storage)
    return _sample(recipe, pair, name, take, cut, paths, lies, status)


def _sample(
    recipe: Recipe,
    pair: Pair,
    name: str,
    take: Take,
    cut: Cut,
    paths: dict[str, Any],
    lies: bool,
    status: TaskStatus,
) -> Sample:
    setup = take.episode.setup
    judged: Label = 'success' if take.kind == SUCCESS else 'failure'
    opposite: Label = 'failure' if take.kind == SUCCESS else 'success'
    words = describe(take.episode, cut.span, style=recipe.style)
    return Sample(
        id=name,
        instruction=setup.scene.instruction,
        fps=recipe.fps,
        frames=len(cut),
        label=opposite if lies else judged,
        task=pair.task,
        explanation=words if pair.dense else None,
        split=pair.split,
        source=SOURCE,
        episode=name,
        group=pair.name,
        judged=judged,
        robot_status=status.name,
        injected_mode=setup.mode,
        seed=setup.seed,
        items=tuple(item.name for item in setup.scene.items),
        event=_event(take.episode, take.episode.judgement.cause, cut),
        **paths,
    )


def twin_samples(
    recipe: Recipe, pair: Pair, takes: dict[str, Take], cuts: dict[str, Cut], own: list[Sample]
) -> list[Sample]:
    """
    Return both episodes once more, each under one other instruction with the opposite label.

    Nothing is returned unless both labels turn: a twin of one alone would upset the balance.
    """
    if len(own) != 2:
        return []
    turned: dict[str, list[Relabelled]] = {}
    for kind, take in takes.items():
        seed = stable_seed(recipe.seed, pair.split, pair.number, 'twin', kind)
        rng = np.random.default_rng(seed)
        others = relabel(take.episode, rng, cuts[kind].span, style=recipe.style)
        turned[kind] = [
            other
            for other in others
            if other.success is not (kind == SUCCESS) and _belongs(recipe, pair, other)
        ]
    chosen = choose_twins(turned[SUCCESS], turned[FAILURE])
    if chosen is None:
        return []
    twins = dict(zip((SUCCESS, FAILURE), chosen, strict=True))
    return [
        _twin(sample, twins[kind], takes[kind].episode, cuts[kind])
        for sample, kind in ((sample, str(sample.judged)) for sample in own)
    ]


def _belongs(recipe: Recipe, pair: Pair, twin: Relabelled) -> bool:
    cause = twin.judgement.cause
    return cause is None or recipe.takes_failure(pair.split, cause.kind)


def choose_twins(
    failed: Sequence[Relabelled], succeeded: Sequence[Relabelled]
) -> tuple[Relabelled, Relabelled] | None:
    """
    Choose how to relabel a success and a failure; None when one of them cannot be.

    The same instruction for both is preferred: then both videos stand under both instructions,
    and neither of the two alone tells the label.
    """
    for twin in succeeded:
        for other in failed:
            if other.instruction == twin.instruction:
                return other, twin
    return (failed[0], succeeded[0]) if failed and succeeded else None


def _twin(sample: Sample, twin: Relabelled, episode: SimulatedEpisode, cut: Cut) -> Sample:
    label: Label = 'success' if twin.success else 'failure'
    return dataclasses.replace(
        sample,
        id=f'{sample.id}-twin',
        instruction=twin.instruction,
        label=label,
        judged=label,
        explanation=twin.explanation if sample.dense else None,
        robot_status='',  # the robot was never asked to do this
        event=_event(episode, twin.judgement.cause, cut),
        bag=None,  # its messages tell the other instruction
    )


def _write_files(
    recipe: Recipe,
    name: str,
    episode: SimulatedEpisode,
    cut: Cut,
    frames: dict[str, Frames],
    root: Path,
) -> dict[str, Any]:
    paths: dict[str, Any] = {'views': {}}
    if 'manifest' in recipe.formats:
        paths['views'] = {view: f'videos/{name}/{view}.mp4' for view in recipe.views}
        (root / 'videos' / name).mkdir(parents=True)
        for view, path in paths['views'].items():
            write_video(root / path, frames[view], recipe.fps)
    elif 'audit' in recipe.formats:
        paths['views'] = {view: f'first_frames/{name}/{view}' for view in recipe.views}
        for view, path in paths['views'].items():
            save_picture(root / path / '0.png', frames[view][0])
    if {'manifest', 'audit'} & set(recipe.formats):
        paths['state'] = f'states/{name}.npz'
        (root / 'states').mkdir(exist_ok=True)
        write_state(root / paths['state'], episode, cut)
    if 'collage' in recipe.formats:
        paths['collage'] = f'collages/{name}.jpg'
        save_picture(root / paths['collage'], render_collage(_as_episode(recipe, cut, frames)))
    return paths


def write_state(path: Path, episode: SimulatedEpisode, cut: Cut) -> None:
    """
    Write the state at each frame; before and after the log its first and last sample stand.

    Besides the log's arrays there are ``above``, the name of the region that the gripper is above,
    and ``regions``, the names of those that an item can be put into, the same at each frame.
    """
    rows = np.searchsorted(episode.log.times_ns, cut.times_ns, side='right') - 1
    rows = rows.clip(0, len(episode.log) - 1)
    arrays = {name: array[rows] for name, array in state_of(episode.log, CAMERAS).items()}
    scene = episode.setup.scene
    points = np.maximum(arrays['tcp'], (-np.inf, -np.inf, 0.0))
    arrays['above'] = np.array([scene.place_of(point) for point in points])
    arrays['regions'] = np.tile(np.array(scene.regions, np.str_), (len(rows), 1))
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def _event(episode: SimulatedEpisode, cause: Event | None, cut: Cut) -> dict[str, Any] | None:
    """Return the causal event as plain values, its time counted from the clip's first frame."""
    if cause is None:
        return None
    items = episode.setup.scene.items
    plain = {key: _plain(value) for key, value in dataclasses.asdict(cause).items()}
    named: dict[str, Any] = {'kind': cause.kind.value, 'item': items[cause.item].name}
    if plain.get('others'):
        named['others'] = [items[other].name for other in cause.others]
    return plain | named | {'time_ns': cause.time_ns - cut.start_ns}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _as_episode(recipe: Recipe, cut: Cut, frames: dict[str, Frames]) -> Episode:
    """Return the clip as the monitor's own Episode, from which it makes collages."""
    stamps = cut.times_ns - cut.start_ns
    end = int(stamps[-1])
    clips: Sequence[CameraClip] = [
        CameraClip(
            CameraEvidence(view, '', len(stamps), len(stamps), 0, 0, end, 0), frames[view], stamps
        )
        for view in recipe.views
    ]
    task = TaskEvent(TaskPhase.END, 'clip', end)
    return Episode(task, 0, end, 0, end, tuple(clips), False, recipe.fps)
