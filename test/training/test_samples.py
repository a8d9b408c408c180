# SPDX-License-Identifier: Apache-2.0
"""Which samples a recipe learns from, and what a cache keeps of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from toy_training import make_model, make_recipe, smaller

from armor_ros.datasets.manifest import Sample, write_manifest
from armor_ros.training.recipe import DataRecipe
from armor_ros.training.samples import TrainingData, choose_samples, read_samples


def samples(explained: int, others: int, twins: int = 1) -> list[Sample]:
    base = Sample(id='a', instruction='', views={'v': 'v'}, fps=5.0, frames=1, label='success')
    return [
        dataclasses.replace(
            base,
            id=f's{index}',
            group=f'g{index // twins}' if twins > 1 else '',
            explanation=f'text {index}' if index < explained else None,
        )
        for index in range(explained + others)
    ]


def test_explained_samples_above_the_bound_lose_what_is_said_of_them() -> None:
    whole = samples(10, 10)
    chosen = choose_samples(whole, DataRecipe(dense=3, sparse=None))
    assert [sample.id for sample in chosen] == [sample.id for sample in whole]
    assert sum(sample.dense for sample in chosen) == 3
    assert {sample.explanation for sample in chosen} <= {f'text {i}' for i in range(10)} | {None}
    few = choose_samples(whole, DataRecipe(dense=3, sparse=5))
    assert (len(few), sum(sample.dense for sample in few)) == (8, 3)
    assert {s.id for s in few if s.dense} == {s.id for s in chosen if s.dense}


@pytest.mark.parametrize('seed', range(4))
def test_twins_are_drawn_together(seed: int) -> None:
    chosen = choose_samples(samples(20, 20, twins=2), DataRecipe(dense=6, sparse=8, seed=seed))
    dense = [sample.group for sample in chosen if sample.dense]
    assert sorted(dense) == sorted([*dense[::2], *dense[::2]])
    sparse = [sample.group for sample in chosen if not sample.dense]
    assert sorted(sparse) == sorted([*sparse[::2], *sparse[::2]])


@pytest.mark.parametrize('fold', range(3))
def test_folds_are_cut_of_what_was_drawn(tmp_path: Path, fold: int) -> None:
    write_manifest(tmp_path, [dataclasses.replace(s, split='train') for s in samples(12, 12)])
    recipe = DataRecipe(dense=6, sparse=6)
    whole = read_samples(tmp_path, recipe)
    kept = read_samples(tmp_path, dataclasses.replace(recipe, folds=3, left_out=fold))
    assert 0 < len(kept) < len(whole) == 12
    # else the model of a fold would have learned from samples that the recipe leaves out
    assert {sample.id for sample in kept} < {sample.id for sample in whole}


def test_other_seeds_draw_others() -> None:
    drawn = {
        tuple(s.id for s in choose_samples(samples(20, 0), DataRecipe(dense=6, sparse=0, seed=k)))
        for k in range(4)
    }
    assert len(drawn) == 4


def test_models_of_other_layouts_share_a_cache_and_no_picture(
    toy_data: Path, tmp_path: Path
) -> None:
    clip, collage = make_recipe({'kind': 'warmup'}), make_recipe({'kind': 'warmup'})
    config = dataclasses.replace(
        collage.model.config,
        input_mode=type(collage.model.config.input_mode).COLLAGE,
        collage=dataclasses.replace(
            collage.model.config.collage, columns=2, cell_width=28, cell_height=28
        ),
    )
    collage = smaller(collage, model=dataclasses.replace(collage.model, config=config))
    shown = []
    for recipe in (clip, collage, clip):
        chosen = read_samples(toy_data, recipe.data)
        model = make_model(recipe, toy_data)
        seen = [
            TrainingData(toy_data, chosen, model, recipe.data.cameras, cache=cache)[0].clip.vision
            for cache in (tmp_path / 'cache', None)
        ]
        assert seen[0].grid == seen[1].grid
        assert torch.equal(seen[0].patches, seen[1].patches)
        shown.append(seen[0].grid)
    assert shown[0] == shown[2] != shown[1]
