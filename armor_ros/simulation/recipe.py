# SPDX-License-Identifier: Apache-2.0
"""Recipes: what a generated data set shall contain, read from YAML and checked once."""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from armor_ros.configuration import config_from_yaml
from armor_ros.errors import ArmorError
from armor_ros.simulation.domain import DOMAINS
from armor_ros.simulation.events import EventKind
from armor_ros.simulation.failures import FAILURES, NOMINAL, modes_of
from armor_ros.simulation.recording import FilmSettings
from armor_ros.simulation.signals import Trigger
from armor_ros.simulation.tasks import TASKS
from armor_ros.simulation.world import CAMERAS

TRAIN = 'train'

Format = Literal['manifest', 'mcap', 'sqlite3', 'collage', 'audit']
Style = Literal['first_person', 'aha']


@dataclass(frozen=True, slots=True)
class NoiseRecipe:
    """
    Wrong labels on demand, as a robot's own log has them; sparse samples only.

    ``false_success`` is the share of failures whose action reports SUCCEEDED and which are
    labelled success; ``false_failure`` the share of successes that are reported as ABORTED.
    """

    false_success: float = 0.0
    false_failure: float = 0.0


@dataclass(frozen=True, slots=True)
class SplitRecipe:
    """
    One split of a data set.

    ``tasks`` and ``modes`` map names to weights; empty means all that the recipe does not hold
    out, equally. ``domain`` names what varies in the cell. ``success`` is the share of episodes
    that succeed, ``perturbed`` the share of episodes in which a perturbed attempt is asked to
    succeed all the same, ``dense`` the share of samples with an explanation. ``twins`` is the
    share of pairs of episodes that stand under another instruction too, with the opposite label;
    they have a wrong object or destination for their failure, beside what ``modes`` weighs.
    """

    episodes: int
    tasks: dict[str, float] = field(default_factory=dict)
    modes: dict[str, float] = field(default_factory=dict)
    domain: str = TRAIN
    success: float = 0.5
    perturbed: float = 0.3
    dense: float = 1.0
    twins: float = 0.0
    noise: NoiseRecipe = field(default_factory=NoiseRecipe)


@dataclass(frozen=True, slots=True)
class Recipe:
    """
    A data set in one file.

    ``formats`` is what is written: see docs/simulation.md; 'audit' is the states and each view's
    first frame alone. ``fps`` and ``size`` are those of the clips, ``bag_rate`` the frames a
    second of recordings; ``trigger`` is how these tell of tasks, 'action' by an action's status,
    'task_event' by TaskEvents, which say what was asked for.
    ``style`` is that of the explanations. ``held_out_tasks`` and ``held_out_modes`` appear only
    in splits that name them, never in ``train``; nor do failures of the kinds that the held out
    modes are meant to lead to, whatever led to them. A success and a failure are drawn together
    from one scene; ``length_difference`` bounds, in seconds, by how much the times that the robot
    took may differ. ``attempts`` bounds how many scenes are tried for such a pair.
    """

    splits: dict[str, SplitRecipe]
    seed: int = 0
    fps: float = 5.0
    size: int = 320
    views: tuple[str, ...] = CAMERAS
    formats: tuple[Format, ...] = ('manifest',)
    style: Style = 'first_person'
    bag_rate: float = 15.0
    trigger: Trigger = 'action'
    held_out_tasks: tuple[str, ...] = ()
    held_out_modes: tuple[str, ...] = ()
    length_difference: float = 2.0
    attempts: int = 8

    def __post_init__(self) -> None:
        if not self.splits:
            raise ArmorError('splits is empty; name at least one, such as train')
        FilmSettings(self.size, self.bag_rate)
        if self.size % 2:
            raise ArmorError(f'size is {self.size}; mp4 files need an even number of pixels')
        _check_range('fps', self.fps, 0.5, 50.0)
        _check_range('length_difference', self.length_difference, 0.0, 60.0)
        _check_range('attempts', self.attempts, 1, 1000)
        _check_range('seed', self.seed, 0, 2**63)
        _check_names('views', self.views, CAMERAS)
        if not self.formats or not self.views:
            raise ArmorError('formats and views need at least one entry each')
        if {'audit', 'manifest'} <= set(self.formats):
            raise ArmorError('formats names audit and manifest, which holds all of it: remove one')
        _check_names('held_out_tasks', self.held_out_tasks, TASKS)
        _check_names('held_out_modes', self.held_out_modes, all_modes())
        for name, split in self.splits.items():
            self._check_split(name, split)

    def _check_split(self, name: str, split: SplitRecipe) -> None:
        here = f'splits.{name}'
        if not name or not all(c.isascii() and (c.isalnum() or c in '_') for c in name):
            raise ArmorError(f'{here}: the name of a split has letters, digits and _ only')
        _check_range(f'{here}.episodes', split.episodes, 1, 10_000_000)
        for share in ('success', 'perturbed', 'dense', 'twins'):
            _check_range(f'{here}.{share}', getattr(split, share), 0.0, 1.0)
        for share in ('false_success', 'false_failure'):
            _check_range(f'{here}.noise.{share}', getattr(split.noise, share), 0.0, 1.0)
        _check_names(f'{here}.domain', [split.domain], DOMAINS)
        _check_weights(f'{here}.tasks', split.tasks, TASKS)
        _check_weights(f'{here}.modes', split.modes, all_modes())
        if NOMINAL in split.modes:
            raise ArmorError(
                f'{here}.modes names {NOMINAL!r}; the share of successes is set by success'
            )
        for kind, held_out, named in (
            ('task', self.held_out_tasks, split.tasks),
            ('mode', self.held_out_modes, split.modes),
        ):
            shared = sorted(set(held_out) & set(named))
            if name == TRAIN and shared:
                raise ArmorError(
                    f'{here} names the {kind} {shared[0]!r}, which is held out; remove it from '
                    f'one of the two'
                )
        for task in self.tasks_of(name):
            self.modes_of(name, task)

    def tasks_of(self, split: str) -> dict[str, float]:
        """
        Return the tasks of a split and their weights; ArmorError when none is left.

        Where the split names none, these are all that can have one of its modes.
        """
        tasks = self.splits[split].tasks or {
            task: 1.0
            for task in TASKS
            if task not in self.held_out_tasks and self._possible_modes(split, task)
        }
        if not tasks:
            raise ArmorError(f'splits.{split} has no task left with a mode; hold out fewer')
        return tasks

    def modes_of(self, split: str, task: str) -> dict[str, float]:
        """Return the modes to inject into a task in a split; ArmorError when none is left."""
        modes = self._possible_modes(split, task)
        if not modes:
            raise ArmorError(
                f'splits.{split}: no mode is left for the task {task!r}; it can have: '
                f'{", ".join(modes_of(task)[1:])}'
            )
        return modes

    def takes_failure(self, split: str, kind: EventKind) -> bool:
        """
        Tell whether a failure with a cause of this kind belongs into a split.

        Kinds of held out modes belong into the splits that name such a mode, and nothing else
        does; that is what makes those failures unseen.
        """
        named = set(self.splits[split].modes) & set(self.held_out_modes)
        wanted = _kinds(named)
        return kind in wanted if named else kind not in _kinds(self.held_out_modes)

    def _possible_modes(self, split: str, task: str) -> dict[str, float]:
        wanted = self.splits[split].modes
        possible = [mode for mode in modes_of(task) if mode != NOMINAL]
        if wanted:
            return {mode: wanted[mode] for mode in possible if mode in wanted}
        return {mode: 1.0 for mode in possible if mode not in self.held_out_modes}


def _kinds(modes: Collection[str]) -> frozenset[EventKind]:
    return frozenset(kind for mode in modes for kind in FAILURES[mode].kinds)


def all_modes() -> tuple[str, ...]:
    """Return every mode that some task can have."""
    return tuple(dict.fromkeys(mode for task in TASKS for mode in modes_of(task)))


def read_recipe(name: str | Path) -> Recipe:
    """
    Read a recipe by its file, or by the name of one in ``config/simulation`` ('smoke').

    Raises ArmorError naming the file and the mistake.
    """
    path = find_recipe(name)
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ArmorError(f'cannot read the recipe {path}: {error}') from error
    return config_from_yaml(Recipe, text, str(path))


def find_recipe(name: str | Path) -> Path:
    """Return the file of a recipe given by path or name; ArmorError lists the known names."""
    if Path(name).suffix or Path(name).exists():
        return Path(name)
    folders = [Path(__file__).parents[2] / 'config' / 'simulation']
    prefixes = [*os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix]
    folders += [Path(p, 'share', 'armor_ros', 'config', 'simulation') for p in prefixes if p]
    known: list[str] = []
    for folder in folders:
        if (folder / f'{name}.yaml').is_file():
            return folder / f'{name}.yaml'
        known += [path.stem for path in folder.glob('*.yaml')]
    listed = ', '.join(sorted(set(known))) or 'none is installed'
    raise ArmorError(f'no recipe {str(name)!r}; give a YAML file or one of: {listed}')


def recipe_to_yaml(recipe: Recipe) -> str:
    """Return a recipe with every value, as YAML that ``read_recipe`` takes."""
    plain = dataclasses.asdict(recipe)
    listed = {key: list(value) for key, value in plain.items() if isinstance(value, tuple)}
    return yaml.safe_dump(plain | listed, sort_keys=False)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ArmorError(f'{name} is {value}; it must be from {low} to {high}')


def _check_names(name: str, values: Collection[str], known: Collection[str]) -> None:
    for value in values:
        if value not in known:
            near = difflib.get_close_matches(value, known, n=1, cutoff=0.0)[0]
            raise ArmorError(
                f'{name} names {value!r}; did you mean {near!r}? There are: {", ".join(known)}'
            )
    if len(set(values)) < len(values):
        raise ArmorError(f'{name} names one thing twice: {", ".join(values)}')


def _check_weights(name: str, weights: dict[str, float], known: Collection[str]) -> None:
    _check_names(name, list(weights), known)
    for key, weight in weights.items():
        if not 0.0 < weight < float('inf'):
            raise ArmorError(f'{name}.{key} is {weight}; a weight is a positive number')
