# SPDX-License-Identifier: Apache-2.0
"""Where the models and answers of a study lie, and the figures of them, each made once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from armor_ros.episodes.text_verdict import TextVerdict
from armor_ros.evaluation.intervals import Figure
from armor_ros.evaluation.lines import PREDICTIONS, Line
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.study import Study, StudyRecipe, Way, ways_of
from armor_ros.training.study_analysis import probe_figures, round_figures
from armor_ros.training.study_answers import DONE_FILE, folder_of, read_answers
from armor_ros.training.study_figures import answer_figures, difference_figures
from armor_ros.training.study_probes import PROBES_FOLDER, read_probes

ANSWERS_FOLDER = 'answers'


@dataclass(frozen=True, slots=True)
class StudyResults:
    """
    Where a study's models and answers lie.

    ``control`` are figures by split, ``made`` what was read and counted already.
    """

    study: Study
    recipes: dict[str, TrainingRecipe]
    data: Path
    output: Path
    seeds: int
    control: dict[str, dict[str, Any]]
    made: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def folder(self, name: str, seed: int) -> Path:
        """Return the folder of a recipe's run."""
        return self.output / 'runs' / name / f'seed-{seed}'

    def ready(self, entry: StudyRecipe, way: Way) -> list[int]:
        """Return the seeds of which the answers in a way are there."""
        place = entry.trained_as or entry.name
        return [
            seed
            for seed in range(self.seeds)
            if (self.answers(place, seed) / folder_of(way) / DONE_FILE).is_file()
            and (self.answers(place, seed) / folder_of(way) / PREDICTIONS).is_file()
        ]

    def answers(self, name: str, seed: int) -> Path:
        """Return the folder of a run's answers."""
        return self.folder(name, seed) / ANSWERS_FOLDER

    def rows(self) -> list[tuple[StudyRecipe, Way, list[int]]]:
        """Return recipe, way and seeds of each row that has an answer."""
        found = []
        for entry in self.study.recipes:
            recipe = self.recipes[entry.trained_as or entry.name]
            for way in ways_of(entry, recipe):
                seeds = self.ready(entry, way)
                if seeds:
                    found.append((entry, way, seeds))
        return found


@dataclass(frozen=True, slots=True)
class Pair:
    """An answer and what is subtracted from it."""

    entry: StudyRecipe
    way: Way
    minus: StudyRecipe
    minus_way: Way


class Answers:
    """The lines of each row and seed, and the figures of them; both are made once."""

    def __init__(self, results: StudyResults) -> None:
        self.results = results
        self.rows = results.rows()

    def lines(self, entry: StudyRecipe, way: Way, seed: int, split: str) -> list[Line]:
        """Return the answers to the samples of a split."""
        name = entry.trained_as or entry.name

        def read() -> list[Line]:
            return read_answers(self.results.answers(name, seed), way)

        lines = self._once(('lines', name, way, seed), read)
        return [line for line in lines if line['split'] == split]

    def figures(
        self, entry: StudyRecipe, way: Way, seed: int, split: str, kinds: Mapping[str, str]
    ) -> dict[str, Figure]:
        """Return the figures of the answers to a split."""

        def make() -> dict[str, Figure]:
            return answer_figures(self.lines(entry, way, seed, split), kinds)

        name = entry.trained_as or entry.name
        figures: dict[str, Figure] = self._once(('figures', name, way, seed, split), make)
        return figures

    def difference(
        self, pair: Pair, seed: int, split: str, kinds: Mapping[str, str]
    ) -> dict[str, Figure]:
        """Return how the answers of a pair differ on a split."""

        def make() -> dict[str, Figure]:
            return difference_figures(
                self.lines(pair.minus, pair.minus_way, seed, split),
                self.lines(pair.entry, pair.way, seed, split),
                kinds,
            )

        names = (pair.entry.name, pair.way, pair.minus.name, pair.minus_way)
        figures: dict[str, Figure] = self._once(('difference', *names, seed, split), make)
        return figures

    def heads(self, name: str, split: str, verdict: TextVerdict) -> dict[int, dict[str, Figure]]:
        """Return how a recipe's heads listen to each other, of each seed that was asked."""
        found = {}
        for seed in range(self.results.seeds):
            folder = self.results.answers(name, seed) / PROBES_FOLDER
            probes = [probe for probe in read_probes(folder) if probe.split == split]
            if probes:
                key = ('heads', name, seed, split)
                found[seed] = self._once(key, functools.partial(probe_figures, probes, verdict))
        return found

    def rounds(
        self, name: str, split: str, kinds: Mapping[str, str], verdict: TextVerdict
    ) -> dict[int, list[dict[str, Figure]]]:
        """Return a recipe's figures round by round, of each seed that was refined."""
        entry = self.results.study.recipe(name)
        found = {}
        for seed in self.results.ready(entry, 'last'):
            lines = self.lines(entry, 'last', seed, split)
            key = ('rounds', name, seed, split)
            make = functools.partial(round_figures, lines, kinds, verdict)
            found[seed] = self._once(key, make)
        return found

    def _once(self, key: tuple[object, ...], make: Callable[[], Any]) -> Any:
        made = self.results.made
        if key not in made:
            made[key] = make()
        return made[key]
