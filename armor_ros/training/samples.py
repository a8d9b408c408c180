# SPDX-License-Identifier: Apache-2.0
"""Samples of a manifest data set as a learner takes them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from armor_ros.datasets.manifest import Sample, read_manifest, read_state, read_view
from armor_ros.episodes.diagnosis import InputMode
from armor_ros.episodes.episode import CameraClip, CameraEvidence, Episode
from armor_ros.episodes.settings import NS_PER_S
from armor_ros.episodes.task import TaskEvent, TaskPhase
from armor_ros.errors import ArmorError
from armor_ros.inference.episode_input import EpisodeInput, Sight, look, sight_input
from armor_ros.model.armor import ArmorModel
from armor_ros.training.conditioning import Facts, Truth
from armor_ros.training.folds import without_fold
from armor_ros.training.kept_vision import KeptVision
from armor_ros.training.packing import Clip
from armor_ros.training.phase_recipe import PhaseRecipe
from armor_ros.training.recipe import DataRecipe
from armor_ros.training.state_targets import (
    StateTargets,
    shown_frames,
    state_facts,
    state_targets,
)


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """
    A sample ready for any phase.

    ``state`` is the simulator's and ``facts`` are those of ``state_facts``, where they are wanted
    and known; ``picture`` names what is shown, '' where nothing about it is kept.
    """

    id: str
    clip: Clip
    truth: Truth
    state: StateTargets | None = None
    picture: str = ''
    facts: Facts | None = None


def choose_samples(samples: Sequence[Sample], recipe: DataRecipe) -> list[Sample]:
    """
    Keep as many dense and sparse samples as the recipe asks for, in the order of the manifest.

    A dense sample above the bound loses its explanation and is a sparse one. Twins of one
    recording and pairs stay together: what is drawn are groups. Raises ArmorError when there are
    fewer than asked for.
    """
    dense = [sample for sample in samples if sample.dense]
    kept = _draw(dense, recipe.dense, recipe.seed, 'dense')
    others = [
        dataclasses.replace(sample, explanation=None)
        for sample in samples
        if sample.id not in kept
    ]
    sparse = _draw(others, recipe.sparse, recipe.seed, 'sparse')
    chosen = [sample for sample in samples if sample.id in kept]
    chosen += [sample for sample in others if sample.id in sparse]
    order = {sample.id: index for index, sample in enumerate(samples)}
    return sorted(chosen, key=lambda sample: order[sample.id])


def _draw(samples: Sequence[Sample], count: int | None, seed: int, purpose: str) -> set[str]:
    if count is None:
        return {sample.id for sample in samples}
    if count > len(samples):
        raise ArmorError(
            f'data.{purpose} is {count}, but the data set has {len(samples)} such samples; make '
            'more, or ask for fewer'
        )

    def rank(sample: Sample) -> bytes:
        name = f'{seed}/{purpose}/{sample.group or sample.episode or sample.id}'
        return hashlib.sha256(name.encode()).digest()

    return {sample.id for sample in sorted(samples, key=rank)[:count]}


def sample_episode(root: Path, sample: Sample, cameras: Sequence[str]) -> Episode:
    """Return a sample's clips of ``cameras`` (those it has) as the node would have seen them."""
    period = NS_PER_S / sample.fps
    stamps = np.round(np.arange(sample.frames) * period).astype(np.int64)
    names = [name for name in cameras if name in sample.views]
    if not names:
        raise ArmorError(
            f'sample {sample.id!r} has none of the cameras {", ".join(cameras)}; its views: '
            f'{", ".join(sample.views) or "none"}'
        )
    clips = tuple(
        CameraClip(
            CameraEvidence(
                name, '', len(stamps), len(stamps), 0, int(stamps[0]), int(stamps[-1]), 0
            ),
            read_view(root, sample, name),
            stamps,
        )
        for name in names
    )
    end = int(stamps[-1])
    task = TaskEvent(TaskPhase.END, sample.id, end, sample.task, sample.instruction)
    return Episode(task, 0, end, 0, end, clips, False, sample.fps)


class TrainingData(Dataset[TrainingSample]):
    """
    Samples of one split, read and cut into patches when they are asked for.

    Of the simulator's state, where a sample has it, that is read from which ``phases`` learn; see
    ``supervise``. With a folder ``cache`` the pixels of what a sample shows are kept: reading
    videos takes longer than a small model does. ``kept`` is where a frozen tower's embeddings
    are, in the same folder; see ``freeze``.
    """

    def __init__(
        self,
        root: Path,
        samples: Sequence[Sample],
        model: ArmorModel,
        cameras: Sequence[str],
        *,
        phases: Sequence[PhaseRecipe] = (),
        cache: Path | None = None,
    ) -> None:
        self._cache = cache
        self.kept: KeptVision | None = None
        self.samples = tuple(samples)
        self._root = root
        self._cameras = tuple(cameras)
        self._model = model
        self._facts: dict[str, Facts] = {}
        self.supervise(phases)

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[TrainingSample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> TrainingSample:
        """Return a sample; raises ArmorError when its files cannot be read."""
        sample = self.samples[index]
        model = self._model
        views = tuple(name for name in self._cameras if name in sample.views)
        picture = self._picture(sample, views)
        kept = None if self.kept is None else self.kept.get(picture)
        if kept is None:
            sight = self._sight(sample, views, picture)
            shown = sight_input(sight, sample.fps, model.config, model.geometry)
        else:
            is_clip = model.config.input_mode is InputMode.CLIP
            shown = EpisodeInput(kept[0], None if is_clip else views)
        clip = make_clip(model, shown, sample.instruction)
        if kept is not None:
            clip = dataclasses.replace(clip, embeddings=kept[1])
        truth = Truth(sample.label == 'failure', sample.explanation or '')
        state: StateTargets | None = None
        facts: Facts | None = None
        if self._asks_state and sample.state is not None:
            arrays = read_state(self._root, sample)
            state = state_targets(arrays, sample.items, shown, model, views)
        if self._asks_facts and sample.state is not None:
            facts = self._facts_of(sample, shown)
        return TrainingSample(sample.id, clip, truth, state, picture, facts)

    def supervise(self, phases: Sequence[PhaseRecipe]) -> None:
        """Read of the simulator's state from now on what these phases learn from, and no more."""
        self._asks_state = any(phase.asks_state for phase in phases)
        self._asks_facts = any(phase.asks_facts for phase in phases)

    def _facts_of(self, sample: Sample, shown: EpisodeInput) -> Facts:
        """Return a sample's facts; they are few, and reading a state takes long."""
        if sample.id not in self._facts:
            frames = shown_frames(sample.frames, shown, self._model).tolist()
            arrays = read_state(self._root, sample)
            self._facts[sample.id] = state_facts(arrays, sample.items, frames, sample.instruction)
        return self._facts[sample.id]

    def freeze(self, tower: str | None) -> None:
        """Keep the embeddings of the vision tower of this name from now on; None: of none."""
        self.kept = None
        if tower is not None and self._cache is not None:
            self.kept = KeptVision(self._cache, tower)

    def _picture(self, sample: Sample, views: Sequence[str]) -> str:
        """
        Return the name of what a sample shows to a model of this layout.

        Data sets may share a cache, and name their files alike: a file is where it lies, how long
        it is, and when it was written.
        """
        config = self._model.config
        layout = [config.input_mode.value, dataclasses.asdict(config.collage)]
        files = [_state_of(self._root / sample.views[name]) for name in views]
        key = json.dumps([files, sample.fps, layout])
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def _sight(self, sample: Sample, views: Sequence[str], picture: str) -> Sight:
        """Return what the model looks at, from the cache where it is there."""
        config = self._model.config
        if self._cache is None:
            return look(sample_episode(self._root, sample, views), config)
        place = self._cache / f'{picture}.npy'
        if place.is_file():
            frames = np.load(place, allow_pickle=False)
            return Sight(frames, None if config.input_mode is InputMode.CLIP else tuple(views))
        sight = look(sample_episode(self._root, sample, views), config)
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._cache, delete=False) as file:
            np.save(file, sight.frames)
        Path(file.name).replace(place)
        return sight


def _state_of(view: Path) -> list[tuple[str, int, int]]:
    """Return path, size and time of a video, or of each picture of a folder."""
    try:
        files = sorted(view.iterdir()) if view.is_dir() else [view]
        known = [(file.resolve(), file.stat()) for file in files]
    except OSError:
        # it is named in an error where it is read
        return []
    return [(str(file), found.st_size, found.st_mtime_ns) for file, found in known]


def make_clip(model: ArmorModel, shown: EpisodeInput, instruction: str) -> Clip:
    """Return the prefix of a clip under an instruction, as inference builds it."""
    prefix = model.prompts.prefix(instruction, shown.views)
    positions, next_position = model.prefix_positions(prefix, shown.vision)
    return Clip(prefix, shown.vision, positions, next_position)


def read_samples(root: Path, recipe: DataRecipe) -> list[Sample]:
    """Return the samples that a recipe learns from; raises ArmorError when it lacks some."""
    samples = without_fold(choose_samples(read_manifest(root, recipe.split), recipe), recipe)
    if not samples:
        raise ArmorError(f'{root}: the recipe leaves no sample of the split {recipe.split!r}')
    return samples
