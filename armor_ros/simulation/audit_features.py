# SPDX-License-Identifier: Apache-2.0
"""What the audit's classifiers may look at: each leaves out nearly all of what a clip shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from armor_ros.datasets.manifest import Sample, read_first_frame, read_state
from armor_ros.episodes.collage import sample_indices
from armor_ros.errors import ArmorError

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]

KEYFRAMES = 8
"""Columns of a collage, whose times are written into it."""

TRAJECTORY_POINTS = 24
_PIXELS = 16
_EDGE_CELLS, _EDGE_DIRECTIONS, _EDGE_PIXELS = 4, 8, 64
_COLOUR_BINS = 8


@dataclass(frozen=True, slots=True)
class AuditData:
    """
    N samples as the classifiers see them.

    ``failed`` (N,) bool is what really happened, ``groups`` (N,) int64 the recordings that begin
    alike and must not be torn apart, ``splits`` (N,) str. ``features`` maps a probe's name to
    (N, D) floats or (N,) texts, ``missing`` a probe's name to why it cannot be measured.
    """

    failed: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.int64]
    splits: npt.NDArray[np.str_]
    features: dict[str, Array]
    missing: dict[str, str]


def extract(root: Path, samples: Sequence[Sample], progress: Progress | None = None) -> AuditData:
    """Read all that the probes need; raises ArmorError when a file is missing or damaged."""
    names = [sample.group or sample.episode or sample.id for sample in samples]
    _, groups = np.unique(names, return_inverse=True)
    views = sorted(set.intersection(*(set(sample.views) for sample in samples)))
    has_state = all(sample.state is not None for sample in samples)
    frames: dict[tuple[str, ...], Array] = {}
    motions: dict[str, tuple[Array, Array]] = {}
    rows: dict[str, list[Array]] = {'metadata': [], 'first frame': [], 'trajectory': []}
    for number, sample in enumerate(samples):
        if progress is not None:
            progress(number, len(samples))
        length = np.array([sample.frames / sample.fps, sample.frames, sample.fps])
        if sample.state is not None and has_state:
            if sample.state not in motions:
                motions[sample.state] = _motion_features(root, sample)
            times, path = motions[sample.state]
            rows['metadata'].append(np.concatenate([length, times]))
            rows['trajectory'].append(path)
        else:
            rows['metadata'].append(length)
        clips = tuple(sample.views[view] for view in views)
        if clips not in frames:
            pictures = [read_first_frame(root, sample, view) for view in views]
            frames[clips] = np.concatenate(
                [picture_features(p) for p in pictures] or [np.empty(0)]
            )
        rows['first frame'].append(frames[clips])
    missing = {}
    if not has_state:
        missing['trajectory'] = 'samples have no state'
    if not views:
        missing['first frame'] = 'samples have no view in common'
    features: dict[str, Array] = {
        name: np.stack(row) for name, row in rows.items() if name not in missing
    }
    features['instruction'] = np.array([sample.instruction for sample in samples], dtype=object)
    return AuditData(
        failed=np.array([(sample.judged or sample.label) == 'failure' for sample in samples]),
        groups=groups.astype(np.int64),
        splits=np.array([sample.split for sample in samples]),
        features=features,
        missing=missing,
    )


def _motion_features(root: Path, sample: Sample) -> tuple[Array, Array]:
    """Return the times of the keyframes (8,), seconds, and the resampled trajectory (24 * 4,)."""
    state = read_state(root, sample)
    lacking = [name for name in ('tcp', 'width') if name not in state]
    if lacking:
        raise ArmorError(
            f'the state of sample {sample.id!r} lacks {" and ".join(lacking)}; '
            f'it has: {", ".join(state)}'
        )
    columns = np.column_stack([state['tcp'], state['width']]).astype(np.float64)
    return keyframe_times(columns, sample.fps), resampled(columns, TRAJECTORY_POINTS)


def keyframe_times(columns: Array, fps: float) -> Array:
    """
    Return when the most moves, (8,) seconds, as a collage of keyframes is annotated with.

    ``columns`` (T, C) are positions and the gripper's opening, metres. Fewer frames than eight
    repeat the last.
    """
    motion = np.concatenate([[0.0], np.abs(np.diff(columns, axis=0)).sum(axis=1)])
    steps = sample_indices(len(columns), KEYFRAMES, motion)
    return np.array(steps + [steps[-1]] * (KEYFRAMES - len(steps))) / fps


def resampled(columns: Array, points: int) -> Array:
    """Return (T, C) columns at ``points`` evenly spread instants, flattened column by column."""
    instants = np.linspace(0, len(columns) - 1, points)
    own = np.arange(len(columns))
    return np.concatenate([np.interp(instants, own, column) for column in columns.T])


def picture_features(picture: npt.NDArray[np.uint8]) -> Array:
    """Return a small copy, histograms of edge directions, and of colours of an RGB picture."""
    small = cv2.resize(picture, (_PIXELS, _PIXELS), interpolation=cv2.INTER_AREA)
    colours = [
        np.histogram(picture[..., channel], bins=_COLOUR_BINS, range=(0, 256))[0]
        for channel in range(3)
    ]
    shares = np.concatenate(colours) / picture[..., 0].size
    parts = [small.ravel() / 255.0, _edges(picture), shares]
    return np.concatenate(parts).astype(np.float32)


def _edges(picture: npt.NDArray[np.uint8]) -> Array:
    """Return a histogram of edge directions for each of 4 x 4 cells, (128,)."""
    side = _EDGE_PIXELS
    grey = cv2.cvtColor(cv2.resize(picture, (side, side)), cv2.COLOR_RGB2GRAY)
    down, right = np.gradient(grey.astype(np.float64))
    turn = (np.arctan2(down, right) + np.pi) / (2 * np.pi) * _EDGE_DIRECTIONS
    direction = np.minimum(turn.astype(int), _EDGE_DIRECTIONS - 1)
    strength = np.hypot(down, right) / 255.0
    cell = np.arange(side) * _EDGE_CELLS // side
    index = (cell[:, None] * _EDGE_CELLS + cell[None, :]) * _EDGE_DIRECTIONS + direction
    size = _EDGE_CELLS**2 * _EDGE_DIRECTIONS
    return np.bincount(index.ravel(), strength.ravel(), size) / (side / _EDGE_CELLS) ** 2
