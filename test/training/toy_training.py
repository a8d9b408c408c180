# SPDX-License-Identifier: Apache-2.0
"""A small data set of drawn clips, and recipes that train on it in a second."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from armor_ros.configuration import config_from_dict
from armor_ros.datasets.manifest import Sample, read_manifest, write_manifest
from armor_ros.model.armor import ArmorModel
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.samples import TrainingData, read_samples
from armor_ros.training.start import sample_texts, starting_model
from armor_ros.training.trainer import Trainer

FRAMES = 4
SIZE = 56
ITEMS = ('red can', 'blue cube')
REGIONS = ('left bin', 'right bin')
ACCOUNT_TASK = 'What does the gripper do?'
# What a report tells of a step, or of a trial.
LOSSES = ('detection', 'language', 'auxiliary', 'accuracy')
KINDS = ('perception', 'warmup', 'expert', 'online')


def write_data(root: Path, change: Callable[[Sample], Sample] = lambda sample: sample) -> Path:
    """Write ten samples, of which three of the eight to learn from are explained."""
    rng = np.random.default_rng(5)
    samples = []
    for index in range(10):
        name, failed = f's{index}', bool(index % 2)
        for view in ('front', 'wrist'):
            folder = root / 'views' / name / view
            folder.mkdir(parents=True)
            for frame in range(FRAMES):
                picture = rng.integers(0, 90 + 80 * failed, (SIZE, SIZE, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f'{frame}.png'), picture)
        _write_state(root / 'states' / f'{name}.npz', rng)
        explained = index in (0, 1, 5, 8, 9)
        said = 'the can slipped out of the gripper' if failed else 'the can is on the shelf'
        samples.append(
            Sample(
                id=name,
                instruction=f'put the {ITEMS[index % 2]} away',
                views={view: f'views/{name}/{view}' for view in ('front', 'wrist')},
                fps=5.0,
                frames=FRAMES,
                label='failure' if failed else 'success',
                task='tidy',
                explanation=said if explained else None,
                split='train' if index < 8 else 'validation',
                source='drawing',
                state=f'states/{name}.npz',
                items=ITEMS,
            )
        )
    write_manifest(root, [change(sample) for sample in samples])
    return root


def _write_state(path: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(exist_ok=True)
    np.savez(
        path,
        tcp=rng.random((FRAMES, 3)),
        yaw=rng.random(FRAMES),
        width=rng.random(FRAMES) / 20,
        closing=rng.random(FRAMES),
        items=rng.random((FRAMES, len(ITEMS), 3)),
        touched=rng.random((FRAMES, len(ITEMS), 2)),
        lids=np.zeros((FRAMES, len(ITEMS))),
        places_front=rng.random((FRAMES, 1 + len(ITEMS), 2)),
        places_wrist=rng.random((FRAMES, 1 + len(ITEMS), 2)),
        above=rng.choice(['table', *REGIONS], FRAMES),
        regions=np.tile(REGIONS, (FRAMES, 1)),
    )


def make_recipe(*phases: dict[str, Any], dropout: float = 0.1, **changes: Any) -> TrainingRecipe:
    """Return a recipe of these phases, else of one of each kind of Algorithm 1."""
    usual = [{'kind': 'perception'}, {'kind': 'warmup', 'auxiliary': 0.5}, {'kind': 'expert'},
             {'kind': 'online', 'rounds': 2, 'max_new_tokens': 6}]  # fmt: skip
    plain = {
        'name': 'toy',
        'phases': list(phases) or usual,
        'model': {
            'random': {'hidden_size': 64, 'layers': 5, 'vision_hidden_size': 32,
                       'vision_layers': 2, 'patch_size': 14, 'vocabulary': 400},
            'config': {'image_size': 56, 'head': {'dropout': dropout}},
        },
        'data': {'cameras': ['front', 'wrist']},
        'optimizer': {'learning_rate': 1e-3, 'vision_learning_rate': 1e-3},
        'batch_size': 4,
        'micro_batch_size': 2,
        'evaluation': {'samples': 0},
    }  # fmt: skip
    return config_from_dict(TrainingRecipe, plain | changes)


def with_account(recipe: TrainingRecipe, task: str = ACCOUNT_TASK) -> TrainingRecipe:
    """Return a recipe whose model tells an account first."""
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, account_task=task))


def make_model(recipe: TrainingRecipe, root: Path) -> ArmorModel:
    """Return the model that a recipe starts from."""
    return starting_model(recipe, sample_texts(read_samples(root, recipe.data)))


def make_trainer(
    recipe: TrainingRecipe, root: Path, output: Path, cache: Path | None = None, **options: Any
) -> Trainer:
    """Return a trainer from scratch."""
    model = make_model(recipe, root)
    samples = read_samples(root, recipe.data)
    cameras = recipe.data.cameras
    data = TrainingData(root, samples, model, cameras, phases=recipe.phases, cache=cache)
    tries = None
    if recipe.evaluation.samples:
        others = read_manifest(root, recipe.data.validation)
        tries = TrainingData(root, others, model, cameras, phases=recipe.phases)
    return Trainer(model, data, recipe, output, validation=tries, **options)


def losses_of(
    recipe: TrainingRecipe, root: Path, output: Path, cache: Path | None = None
) -> list[list[float]]:
    """Train, and return what ``LOSSES`` names, step by step."""
    found: list[list[float]] = []
    make_trainer(
        recipe, root, output, cache,
        on_step=lambda report: found.append([getattr(report, name) for name in LOSSES]),
    ).train()  # fmt: skip
    return found


def smaller(recipe: TrainingRecipe, **changes: Any) -> TrainingRecipe:
    """Return a recipe with other fields."""
    return dataclasses.replace(recipe, **changes)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """
    Return how far weights are apart, relative to their size.

    Single ones may differ by a step or two: AdamW goes one step by the sign of a gradient that is
    nothing but rounding.
    """
    apart = sum(float((value - other[name]).square().sum()) for name, value in one.items())
    return (apart / sum(float(value.square().sum()) for value in other.values())) ** 0.5
