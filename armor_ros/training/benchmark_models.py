# SPDX-License-Identifier: Apache-2.0
"""Models with random weights and samples of noise, to measure the speed of training with."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from armor_ros.errors import ArmorError
from armor_ros.inference.benchmark_models import SIZES, BenchmarkSize, make_model, parameters
from armor_ros.model.armor import ArmorModel
from armor_ros.model.preprocessing import clip_input
from armor_ros.training.conditioning import Truth
from armor_ros.training.packing import Clip
from armor_ros.training.samples import TrainingSample

FPS = 5.0
INSTRUCTION = 'pick up the red cube and place it in the left tote'
EXPLANATION = (
    'the gripper closed beside the cube, lifted nothing, and moved on to the left tote, so that '
    'the cube stayed where it was'
)
# Weights, their gradients, and the two moments of AdamW; activations come on top.
_COPIES = 4


@dataclass(frozen=True, slots=True)
class TrainingSize:
    """
    The shape of a backbone and its clips, and how many samples a step learns from.

    One of four is explained, the first among them.
    """

    shape: BenchmarkSize
    samples: int = 4


# Clips are shorter and smaller than inference's: the naive loop sees each of them many times.
TRAINING_SIZES: dict[str, TrainingSize] = {
    'small': TrainingSize(SIZES['small']),
    'bench': TrainingSize(
        dataclasses.replace(SIZES['bench'], image_size=168, seconds=1.2, tokens=24)
    ),
    '3b': TrainingSize(SIZES['3b'], samples=2),
    '7b': TrainingSize(SIZES['7b'], samples=2),
}


@dataclass(frozen=True, slots=True)
class NoiseSample:
    """A sample as the product takes it, and the frames that the naive loop takes."""

    sample: TrainingSample
    frames: npt.NDArray[np.uint8]
    instruction: str


def make_training_model(size: BenchmarkSize, device: torch.device) -> ArmorModel:
    """
    Return a model without dropout, which would draw differently for differently laid out rows.

    Raises ArmorError when the device has too little memory to train it.
    """
    _check_memory(size, device)
    model = make_model(size, device)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def make_samples(model: ArmorModel, size: TrainingSize) -> list[NoiseSample]:
    """Return clips of noise; one of four is dense (explained), the others are sparse."""
    shape = size.shape
    generator = np.random.default_rng(0)
    count, side = round(shape.seconds * FPS), shape.image_size
    made = []
    for index in range(size.samples):
        frames = generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        # Prompts of different lengths, as real ones are.
        instruction = INSTRUCTION if index % 2 == 0 else INSTRUCTION[:22]
        vision = clip_input(frames, FPS, side, model.geometry)
        prefix = model.prompts.prefix(instruction)
        clip = Clip(prefix, vision, *model.prefix_positions(prefix, vision))
        truth = Truth(failed=index % 2 == 0, explanation='' if index % 4 else EXPLANATION)
        made.append(NoiseSample(TrainingSample(f's{index}', clip, truth), frames, instruction))
    return made


def with_kept_embeddings(model: ArmorModel, sample: TrainingSample) -> TrainingSample:
    """Return a sample that has the vision tower's answer with it."""
    with torch.no_grad():
        embeddings = model.encode_vision(sample.clip.vision)
    return dataclasses.replace(
        sample, clip=dataclasses.replace(sample.clip, embeddings=embeddings)
    )


def describe(size: TrainingSize, samples: list[NoiseSample]) -> dict[str, Any]:
    """Return what the figures say of the model and the samples."""
    decoder, vision = parameters(size.shape)
    return {
        'decoder_weights': decoder,
        'vision_weights': vision,
        'samples': len(samples),
        'dense_samples': sum(bool(each.sample.truth.explanation) for each in samples),
        'prefix_tokens': [each.sample.clip.length for each in samples],
        'vision_tokens': [each.sample.clip.vision_tokens for each in samples],
    }


def _check_memory(size: BenchmarkSize, device: torch.device) -> None:
    vocabulary = (size.vocabulary or 1024) * size.hidden * 2
    needed = (sum(parameters(size)) + vocabulary) * size.bits // 8 * _COPIES
    if device.type == 'cuda':
        available = torch.cuda.mem_get_info(device)[0]
    else:
        available = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if needed > available:
        raise ArmorError(
            f'training at this size needs more than {needed / 1e9:.0f} GB of memory on {device}, '
            f'where {available / 1e9:.0f} GB are free; choose a smaller one'
        )
