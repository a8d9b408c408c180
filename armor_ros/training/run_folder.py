# SPDX-License-Identifier: Apache-2.0
"""The folder of a training run: one recipe on one data set, its log, and its checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from armor_ros.configuration import first_change, read_yaml_config
from armor_ros.datasets.manifest import MANIFEST_FILE, Sample, write_whole
from armor_ros.errors import ArmorError
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.recipe_files import recipe_text
from armor_ros.training.sampled import SAMPLED_FOLDER, SamplingReport
from armor_ros.training.schedule import StepReport
from armor_ros.training.state import STATE_FOLDER, Progress
from armor_ros.training.validation import Trial

CHECKPOINT_FOLDER = 'checkpoint'
LOG_FILE = 'training.jsonl'
RECIPE_FILE = 'recipe.yaml'
DATA_FILE = 'data.json'
LOCK_FILE = '.lock'
FOLDS_FOLDER = 'folds'

# What a run goes on from, or is finished with.
_KEPT = (CHECKPOINT_FOLDER, STATE_FOLDER, SAMPLED_FOLDER, FOLDS_FOLDER)
_KINDS = {StepReport: 'step', Trial: 'trial', SamplingReport: 'sampling'}


@dataclass(frozen=True, slots=True)
class DataFacts:
    """
    What a run learns from: name and hash of the data set, and counts of its samples.

    ``weak`` are those whose label is the word of the robot's own stack.
    """

    name: str
    manifest_sha256: str
    samples: int
    dense: int
    labels: dict[str, int]
    tasks: dict[str, int]
    sources: dict[str, int]
    validation: int
    weak: int = 0


def data_facts(root: Path, samples: Sequence[Sample], validation: Sequence[Sample]) -> DataFacts:
    """Return the facts of a data set."""
    return DataFacts(
        name=root.resolve().name,
        manifest_sha256=hashlib.sha256((root / MANIFEST_FILE).read_bytes()).hexdigest(),
        samples=len(samples),
        dense=sum(sample.dense for sample in samples),
        labels=dict(sorted(Counter(sample.label for sample in samples).items())),
        tasks=dict(sorted(Counter(sample.task or 'unnamed' for sample in samples).items())),
        sources=dict(sorted(Counter(sample.source or 'unnamed' for sample in samples).items())),
        validation=len(validation),
        weak=sum(sample.weak for sample in samples),
    )


class RunFolder:
    """What a run has written down so far; only the first process writes."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self._writes = writes

    @property
    def checkpoint(self) -> Path:
        """Where the trained model comes to lie."""
        return self.path / CHECKPOINT_FOLDER

    def check(self, recipe: TrainingRecipe, facts: DataFacts) -> None:
        """
        Raise ArmorError when the folder holds what another recipe, or other data, has begun.

        A run that has kept nothing yet is none: its folder may be taken for another.
        """
        if (self.path / MANIFEST_FILE).exists():
            raise ArmorError(f'{self.path} is a data set; give the run a folder of its own')
        noted = self.path / RECIPE_FILE
        if not noted.is_file() or not self._has_begun():
            return
        # what recipes could not say when it was noted was as it is by default
        before = self._noted_recipe()
        changed = first_change(_plain(before), _plain(recipe))
        if changed:
            raise self._other(f'another recipe: {changed}')
        known = self._noted_data()
        if known['manifest_sha256'] != facts.manifest_sha256:
            raise self._other(
                f'another data set, or one that has changed since: {known["name"]} had '
                f'{known["samples"]} samples, {facts.name} has {facts.samples}'
            )

    def begin(self, recipe: TrainingRecipe, facts: DataFacts) -> None:
        """
        Note what is trained on what, where that is not noted yet; raises as ``check`` does.

        The folder has to be ``held``: nobody can take it between the look and the note.
        """
        self.check(recipe, facts)
        if not self._writes or (self._has_begun() and (self.path / RECIPE_FILE).is_file()):
            return
        # the recipe last: it says that the rest is there
        data = json.dumps(dataclasses.asdict(facts), indent=2)
        write_whole(self.path / DATA_FILE, f'{data}\n')
        write_whole(self.path / RECIPE_FILE, recipe_text(recipe))

    def _has_begun(self) -> bool:
        """Tell whether something is kept that a run of this recipe goes on from."""
        return any((self.path / name).exists() for name in _KEPT)

    def _noted_recipe(self) -> TrainingRecipe:
        try:
            return read_yaml_config(TrainingRecipe, self.path / RECIPE_FILE)
        except ArmorError as error:
            raise self._damaged(str(error)) from error

    def _noted_data(self) -> dict[str, Any]:
        path = self.path / DATA_FILE
        try:
            known: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
            return {name: known[name] for name in ('name', 'samples', 'manifest_sha256')}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(f'{path} is damaged ({error})') from error

    def _damaged(self, what: str) -> ArmorError:
        return ArmorError(f'{what}; remove {self.path} to begin anew, or give another --output')

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing here; raises ArmorError when one does already."""
        if not self._writes:
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK_FILE)
            lock.acquire(blocking=False)
        except Timeout as error:
            raise ArmorError(
                f'another process is training in {self.path}; wait until it has ended, or give '
                'another --output. Processes that share a study take other seeds each: --shard'
            ) from error
        except OSError as error:
            raise ArmorError(
                f'cannot write to {self.path}: {error.strerror or error}; give another --output'
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _other(self, what: str) -> ArmorError:
        return ArmorError(
            f'{self.path} holds a run with {what}. Give another --output, or the same recipe and '
            'data to go on with it'
        )

    def rewind(self, progress: Progress | None) -> None:
        """Forget lines on what comes after the kept state: it will be done again."""
        if not self._writes or not (self.path / LOG_FILE).is_file():
            return
        reached = (0, 0) if progress is None else (progress.phase, progress.step)
        kept = [line for line in self._log() if (line['phase'], line['step']) < reached]
        write_whole(self.path / LOG_FILE, ''.join(json.dumps(line) + '\n' for line in kept))

    def note(self, entry: StepReport | Trial | SamplingReport) -> None:
        """Add a line to the log: what a step did, how the model does, or what was sampled."""
        if not self._writes:
            return
        line = {'kind': _KINDS[type(entry)], **dataclasses.asdict(entry)}
        with (self.path / LOG_FILE).open('a', encoding='utf-8') as file:
            file.write(json.dumps(line) + '\n')

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """Return the log's lines of a kind: 'step', 'trial' or 'sampling'."""
        return [line for line in self._log() if line['kind'] == kind]

    def _log(self) -> list[dict[str, Any]]:
        """Return all lines of the log; one that was cut off as it was written is left out."""
        path = self.path / LOG_FILE
        if not path.is_file():
            return []
        *lines, last = path.read_text(encoding='utf-8', errors='replace').split('\n')
        try:
            found = [json.loads(line) for line in lines]
        except ValueError as error:
            raise self._damaged(f'{path} is damaged ({error})') from error
        if last.strip():
            with contextlib.suppress(ValueError):
                found.append(json.loads(last))
        return found


def _plain(recipe: TrainingRecipe) -> Any:
    return yaml.safe_load(recipe_text(recipe))
