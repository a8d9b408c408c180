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

from armor_ros.configuration import config_from_dict
from armor_ros.datasets.manifest import MANIFEST_FILE, Sample, write_whole
from armor_ros.errors import ArmorError
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.recipe_files import recipe_text
from armor_ros.training.sampled import SamplingReport
from armor_ros.training.schedule import StepReport
from armor_ros.training.state import Progress
from armor_ros.training.validation import Trial

CHECKPOINT_FOLDER = 'checkpoint'
LOG_FILE = 'training.jsonl'
RECIPE_FILE = 'recipe.yaml'
DATA_FILE = 'data.json'
LOCK_FILE = '.lock'

_KINDS = {StepReport: 'step', Trial: 'trial', SamplingReport: 'sampling'}


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What a run learns from: name and hash of the data set, and counts of its samples."""

    name: str
    manifest_sha256: str
    samples: int
    dense: int
    labels: dict[str, int]
    tasks: dict[str, int]
    sources: dict[str, int]
    validation: int


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

    def begin(self, recipe: TrainingRecipe, facts: DataFacts) -> None:
        """
        Note what is trained on what; raises ArmorError when the folder holds another run.

        A folder with the same recipe and data is gone on with.
        """
        text, data = recipe_text(recipe), dataclasses.asdict(facts)
        noted = self.path / RECIPE_FILE
        if noted.is_file():
            # what recipes could not say when it was noted was as it is by default
            before = config_from_dict(TrainingRecipe, yaml.safe_load(noted.read_text()))
            changed = _first_change(yaml.safe_load(recipe_text(before)), yaml.safe_load(text))
            if changed:
                raise self._other(f'another recipe: {changed}')
            known = json.loads((self.path / DATA_FILE).read_text(encoding='utf-8'))
            if known['manifest_sha256'] != facts.manifest_sha256:
                raise self._other(
                    f'another data set, or one that has changed since: {known["name"]} had '
                    f'{known["samples"]} samples, {facts.name} has {facts.samples}'
                )
            return
        if self._writes:
            # the recipe last: it says that the rest is there
            write_whole(self.path / DATA_FILE, json.dumps(data, indent=2) + '\n')
            write_whole(noted, text)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing here; raises ArmorError when one does already."""
        if not self._writes:
            yield
            return
        lock = FileLock(self.path / LOCK_FILE)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise ArmorError(
                f'another process is training in {self.path}; wait until it has ended, or give '
                'another --output. Processes that share a study take other seeds each: --shard'
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
        path = self.path / LOG_FILE
        if not self._writes or not path.is_file():
            return
        reached = (0, 0) if progress is None else (progress.phase, progress.step)
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        kept = [line for line in lines if (line['phase'], line['step']) < reached]
        write_whole(path, ''.join(json.dumps(line) + '\n' for line in kept))

    def note(self, entry: StepReport | Trial | SamplingReport) -> None:
        """Add a line to the log: what a step did, how the model does, or what was sampled."""
        if not self._writes:
            return
        line = {'kind': _KINDS[type(entry)], **dataclasses.asdict(entry)}
        with (self.path / LOG_FILE).open('a', encoding='utf-8') as file:
            file.write(json.dumps(line) + '\n')

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """Return the log's lines of a kind: 'step', 'trial' or 'sampling'."""
        path = self.path / LOG_FILE
        if not path.is_file():
            return []
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        return [line for line in lines if line['kind'] == kind]


def _first_change(before: Any, after: Any, name: str = '') -> str:
    """Say which value differs between two recipes, '' if none does."""
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(str(key), before.get(key), after.get(key)) for key in {**before, **after}]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [(str(i), *both) for i, both in enumerate(zip(before, after, strict=True))]
    else:
        return '' if before == after else f'{name} was {before!r}, and is {after!r}'
    for key, one, other in pairs:
        if change := _first_change(one, other, f'{name}.{key}' if name else key):
            return change
    return ''
