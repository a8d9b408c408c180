# SPDX-License-Identifier: Apache-2.0
"""Which pairs of frames of a long clip are looked at, so that its tokens stay within a limit."""

from __future__ import annotations


def pair_stride(pairs: int, budget: int) -> int:
    """
    Return n: of ``pairs`` pairs of frames every n-th is looked at, and the last.

    It is the smallest power of two with which at most ``budget`` pairs are left, so that what a
    longer clip keeps of its beginning is part of what a shorter one keeps. ``budget`` is at
    least 2.
    """
    stride = 1
    # One is set aside for the last pair, so that the stride only grows with the clip.
    while pairs > budget and -(-pairs // stride) > budget - 1:
        stride *= 2
    return stride


def kept_pairs(pairs: int, stride: int) -> list[int]:
    """Return the indices of the pairs that are looked at, the last always among them."""
    kept = list(range(0, pairs, stride))
    if kept and kept[-1] != pairs - 1:
        kept.append(pairs - 1)
    return kept
