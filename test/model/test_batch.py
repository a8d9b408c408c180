# SPDX-License-Identifier: Apache-2.0
"""Left padding, positions and masks of sequences of different length."""

from __future__ import annotations

import torch

from armor_ros.model.batch import causal_mask, left_pad


def test_left_pad() -> None:
    batch = left_pad([[7, 8, 9], [5]], start=10, padding_id=0, device=torch.device('cpu'))
    assert batch.ids.tolist() == [[7, 8, 9], [0, 0, 5]]
    assert batch.valid.tolist() == [[True, True, True], [False, False, True]]
    assert batch.positions.shape == (3, 2, 3)
    assert batch.positions[0].tolist() == [[10, 11, 12], [10, 10, 10]]
    assert torch.equal(batch.positions[0], batch.positions[2])


def test_causal_mask_of_new_tokens_after_old_ones() -> None:
    valid = torch.tensor([[True, True, True, True], [True, True, False, True]])
    mask = causal_mask(valid, 2).int()
    assert mask.shape == (2, 1, 2, 4)
    assert mask[0, 0].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    # Padding is seen by nobody but itself.
    assert mask[1, 0].tolist() == [[1, 1, 1, 0], [1, 1, 0, 1]]
