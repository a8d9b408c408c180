# SPDX-License-Identifier: Apache-2.0
"""
Some time steps of a sample in place of all.

Neighbouring steps look much alike: a vision tower learns more from two steps of each of many
clips than from all steps of a few, for the same work.
"""

from __future__ import annotations

import dataclasses
import random

import torch

from armor_ros.errors import ArmorError
from armor_ros.model.prompts import PrefixTokens
from armor_ros.training.packing import Clip
from armor_ros.training.samples import TrainingSample


def some_steps(sample: TrainingSample, count: int, rng: random.Random) -> TrainingSample:
    """
    Return a sample that shows ``count`` of its time steps, drawn by ``rng``, and asks nothing.

    Of a collage whole columns are kept, side by side in their order. A sample with no more steps
    is returned as it is. Raises ArmorError when it has no state, which tells the steps apart.
    """
    state, vision = sample.state, sample.clip.vision
    if state is None:
        raise ArmorError(f'sample {sample.id!r} has no state, by which to choose time steps')
    steps = len(state.values)
    if count >= steps:
        return sample
    chosen = torch.tensor(sorted(rng.sample(range(steps), count)))
    kept = torch.isin(state.steps, chosen)
    size = int(kept.sum())
    patches = vision.patches.view(len(kept), -1, vision.patches.shape[1])[kept].flatten(0, 1)
    length, height, width = vision.grid
    grid = (count, height, width) if length == steps else (1, height, width * size // len(kept))
    shown = dataclasses.replace(vision, patches=patches, grid=grid)
    clip = Clip(PrefixTokens((), ()), shown, torch.zeros(3, size, dtype=torch.int64), size)
    targets = dataclasses.replace(
        state,
        steps=torch.searchsorted(chosen, state.steps[kept]),
        values=state.values[chosen],
        seen=state.seen[:, chosen],
        above=state.above[chosen],
        views=state.views[kept],
        corners=state.corners[kept],
    )
    return dataclasses.replace(sample, clip=clip, state=targets)
