# SPDX-License-Identifier: Apache-2.0
"""What a frozen tower sees is kept, found again, and changes nothing."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from toy_training import losses_of, make_model, make_recipe, write_data
from training_clips import make_clips

from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import with_config
from armor_ros.training.conditioning import Truth
from armor_ros.training.forward import PackedForward
from armor_ros.training.kept_vision import KeptVision, tower_digest, with_embeddings
from armor_ros.training.samples import TrainingData, TrainingSample, read_samples


def test_embeddings_come_back_as_they_were(tmp_path: Path, model: ArmorModel) -> None:
    packed, kept = PackedForward(model), KeptVision(tmp_path, 'tower')
    for index, clip in enumerate(make_clips(model)):
        name = f'picture{index}'
        sample = TrainingSample('a', clip, Truth(True, ''), picture=name)
        assert kept.get(name) is None
        seen = with_embeddings(sample, kept, packed).clip.embeddings
        found = kept.get(name)
        assert seen is not None
        assert found is not None
        vision, embeddings = found
        assert torch.equal(embeddings, seen)
        torch.testing.assert_close(
            embeddings, model.encode_vision(clip.vision), rtol=1e-4, atol=1e-4
        )
        assert vision.grid == clip.vision.grid
        assert vision.is_video == clip.vision.is_video
        assert vision.seconds_per_step == clip.vision.seconds_per_step


def test_a_damaged_file_is_written_anew(tmp_path: Path, model: ArmorModel) -> None:
    packed, kept = PackedForward(model), KeptVision(tmp_path, 'tower')
    sample = TrainingSample('a', make_clips(model)[0], Truth(True, ''), picture='picture')
    with_embeddings(sample, kept, packed)
    (place,) = tmp_path.rglob('*.safetensors')
    place.write_bytes(place.read_bytes()[:50])
    assert kept.get('picture') is None
    with_embeddings(sample, kept, packed)
    assert kept.get('picture') is not None


def test_another_tower_has_another_name(model: ArmorModel) -> None:
    weight = model.backbone.model.visual.patch_embed.proj.weight
    before = tower_digest(model, 'no')
    assert tower_digest(model, 'bf16') != before
    larger = dataclasses.replace(model.config, image_size=2 * model.config.image_size)
    assert tower_digest(with_config(model, larger), 'no') != before
    with torch.no_grad():
        weight[0] += 1.0
        changed = tower_digest(model, 'no')
        weight[0] -= 1.0
    assert changed != before


@pytest.mark.parametrize('rate', [0.0, 1e-3])
def test_training_is_the_same_with_kept_embeddings(tmp_path: Path, rate: float) -> None:
    data = write_data(tmp_path / 'data')
    phase = {'kind': 'warmup', 'epochs': 3.0, 'vision_learning_rate': rate, 'auxiliary': 0.5}
    recipe = make_recipe(phase)
    plain, kept = (
        losses_of(recipe, data, tmp_path / name, cache=cache)
        for name, cache in (('plain', None), ('kept', tmp_path / 'cache'))
    )
    torch.testing.assert_close(torch.tensor(kept), torch.tensor(plain))
    assert bool(list((tmp_path / 'cache').rglob('*.safetensors'))) == (rate == 0)


def test_data_sets_that_name_files_alike_share_a_cache(tmp_path: Path) -> None:
    data = write_data(tmp_path / 'data')
    recipe = make_recipe({'kind': 'warmup'})
    model = make_model(recipe, data)

    def shown(root: Path, cache: Path | None) -> torch.Tensor:
        samples = read_samples(root, recipe.data)[:1]
        read = TrainingData(root, samples, model, recipe.data.cameras, cache=cache)
        return read[0].clip.vision.patches

    cache = tmp_path / 'cache'
    first = shown(data, cache)
    assert torch.equal(shown(data, cache), first)
    other = Path(shutil.copytree(data, tmp_path / 'other'))
    picture = other / 'views' / 's0' / 'front' / '2.png'
    cv2.imwrite(str(picture), 255 - cv2.imread(str(picture)))
    second = shown(other, cache)
    assert torch.equal(second, shown(other, None))
    assert not torch.equal(second, first)
    # written anew in its place
    cv2.imwrite(str(picture), np.zeros_like(cv2.imread(str(picture))))
    assert torch.equal(shown(other, cache), shown(other, None))
    assert torch.equal(shown(data, cache), first)
