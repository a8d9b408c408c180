# SPDX-License-Identifier: Apache-2.0
"""The order in which samples are learned from: a function of the seed, the same everywhere."""

from __future__ import annotations

import random
from collections.abc import Sequence


def epoch_order(dense: Sequence[bool], seed: str) -> list[int]:
    """
    Return all indices in a random order in which dense ones are spread evenly.

    ``dense[i]`` says whether sample i is explained. So every batch has about its share of them.
    """
    rng = random.Random(seed)
    kinds = []
    for wanted in (True, False):
        indices = [index for index, kind in enumerate(dense) if kind is wanted]
        rng.shuffle(indices)
        # Where in the epoch each stands, from 0 to 1; ties cannot outlast the random offset.
        offset = rng.random()
        kinds += [((place + offset) / len(indices), index) for place, index in enumerate(indices)]
    return [index for _, index in sorted(kinds)]


def global_batch(dense: Sequence[bool], seed: str, step: int, size: int) -> list[tuple[int, int]]:
    """
    Return the (index, epoch) of the samples of optimizer step ``step``, sparse ones first.

    Epochs follow one another without a seam: a batch may end one and begin the next.
    """
    count = len(dense)
    chosen = []
    orders: dict[int, list[int]] = {}
    for place in range(step * size, (step + 1) * size):
        epoch = place // count
        if epoch not in orders:
            orders[epoch] = epoch_order(dense, f'{seed}/{epoch}')
        chosen.append((orders[epoch][place % count], epoch))
    return sorted(chosen, key=lambda entry: dense[entry[0]])


def share_of(
    batch: Sequence[tuple[int, int]], rank: int, processes: int, micro: int
) -> list[list[tuple[int, int]]]:
    """
    Return the micro-batches of one process: every ``processes``-th sample, ``micro`` at a time.

    All processes have equally many, as long as ``processes`` divides the batch.
    """
    own = batch[rank::processes]
    return [list(own[start : start + micro]) for start in range(0, len(own), micro)]
