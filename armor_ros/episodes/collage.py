# SPDX-License-Identifier: Apache-2.0
"""The multi-view collage of appendix B.1: rows are views, columns are time steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from armor_ros.episodes.decoding import resize
from armor_ros.episodes.episode import CameraClip, Episode
from armor_ros.episodes.picture import encode_jpeg, save_picture
from armor_ros.episodes.settings import NS_PER_S, period_ns
from armor_ros.errors import ArmorError

__all__ = [
    'encode_jpeg',
    'render_clip',
    'render_collage',
    'sample_indices',
    'save_picture',
    'select_steps',
]

Frame = npt.NDArray[np.uint8]
Selection = Literal['uniform', 'keyframes']

MAX_COLUMNS = 64
MIN_CELL, MAX_CELL = 8, 1024
# Motion is measured on thumbnails: what matters is the arm, not the noise.
_THUMBNAIL = (32, 32)
_WHITE = 255


def sample_indices(
    count: int, columns: int, motion: npt.NDArray[np.float64] | None = None
) -> list[int]:
    """
    Choose at most ``columns`` of ``count`` time steps, ascending; first and last among them.

    Without ``motion`` they are evenly spread. With it, (count,) how much changed since the step
    before, the others are those with the largest; of equals the earlier.
    """
    if count <= columns:
        return list(range(count))
    if columns == 1:
        return [count - 1]
    if motion is None:
        return [round(step * (count - 1) / (columns - 1)) for step in range(columns)]
    inner = sorted(range(1, count - 1), key=lambda index: (-motion[index], index))
    return sorted([0, *inner[: columns - 2], count - 1])


def select_steps(
    clips: Sequence[CameraClip], fps: float, columns: int, selection: str
) -> list[int]:
    """
    Choose at most ``columns`` time steps of an episode, ascending, in nanoseconds.

    Each is the beginning of a sampling slot in which at least one camera has a frame.
    """
    period = period_ns(fps)
    slots = sorted({int(stamp) // period for clip in clips for stamp in clip.stamps_ns})
    motion = None
    if selection == 'keyframes':
        motion = np.zeros(len(slots))
        position = {slot: index for index, slot in enumerate(slots)}
        for clip in clips:
            for stamp, change in zip(clip.stamps_ns[1:], _changes(clip.frames), strict=True):
                motion[position[int(stamp) // period]] += change
    return [slots[index] * period for index in sample_indices(len(slots), columns, motion)]


def render_collage(
    episode: Episode,
    *,
    columns: int = 8,
    cell: tuple[int, int] = (168, 168),
    cameras: Sequence[str] | None = None,
    selection: Selection = 'uniform',
    annotate: bool = True,
) -> Frame:
    """
    Return the collage (rows * H, columns * W, 3) of an episode, ``cell`` = (H, W).

    Rows are ``cameras`` in the order given, all of the episode when None (the paper's order is
    front, wrist, overhead). Columns are time steps, the same in every row: spread evenly, or
    where the most moves (``'keyframes'``). Each cell shows the frame nearest to its time step, at
    most one sampling interval away, and in its corner the number of the time step, in the
    first row also the seconds since the task's start. Cells without a frame are white.

    Raises ArmorError for an unknown camera or selection, or a size out of range.
    """
    _check_layout(columns, cell)
    if selection not in ('uniform', 'keyframes'):
        raise ArmorError(f'selection is {selection!r}; it must be "uniform" or "keyframes"')
    if cameras is None:
        clips = list(episode.clips)
    else:
        clips = [episode.clip(camera) for camera in cameras if camera]
    if not clips:
        raise ArmorError(f'task {episode.task.task_id!r} has no camera to make a collage of')
    height, width = cell
    picture = np.full((len(clips) * height, columns * width, 3), _WHITE, np.uint8)
    steps = select_steps(clips, episode.fps, columns, selection)
    for row, clip in enumerate(clips):
        for column, step_ns in enumerate(steps):
            index = _nearest(clip, step_ns, period_ns(episode.fps))
            if index is None:
                continue
            top, left = row * height, column * width
            view = picture[top : top + height, left : left + width]
            view[:] = resize(clip.frames[index], cell)
            if annotate:
                seconds = (int(clip.stamps_ns[index]) - episode.start_ns) / NS_PER_S
                _label(view, f'{column}: {seconds:.1f} s' if row == 0 else f'{column}')
    return picture


def render_clip(
    episode: Episode,
    camera: str = '',
    columns: int = 8,
    cell: tuple[int, int] = (154, 154),
    max_frames: int = 160,
) -> Frame:
    """
    Return a contact sheet of one camera's clip, in reading order, each frame with its time.

    ``camera`` '' means the first with frames. Of more than ``max_frames`` frames an even
    selection is shown; a clip without frames is one row of white. Raises ArmorError as
    ``render_collage`` does.
    """
    _check_layout(columns, cell)
    clip = episode.clip(camera)
    shown = sample_indices(len(clip.stamps_ns), max(1, max_frames))
    rows = max(1, -(-len(shown) // columns))
    height, width = cell
    picture = np.full((rows * height, columns * width, 3), _WHITE, np.uint8)
    for position, index in enumerate(shown):
        top, left = position // columns * height, position % columns * width
        view = picture[top : top + height, left : left + width]
        view[:] = resize(clip.frames[index], cell)
        seconds = (int(clip.stamps_ns[index]) - episode.start_ns) / NS_PER_S
        _label(view, f'{index}: {seconds:.1f} s')
    return picture


def _check_layout(columns: int, cell: tuple[int, int]) -> None:
    if not 1 <= columns <= MAX_COLUMNS:
        raise ArmorError(f'columns is {columns}; give a number from 1 to {MAX_COLUMNS}')
    if not all(MIN_CELL <= side <= MAX_CELL for side in cell):
        raise ArmorError(
            f'cell is {cell[0]} x {cell[1]} pixels; give sides from {MIN_CELL} to {MAX_CELL}'
        )


def _nearest(clip: CameraClip, step_ns: int, period: int) -> int | None:
    """Return the index of the frame in the step's slot, else of the nearest within a slot."""
    if not len(clip.stamps_ns):
        return None
    # From the middle of the slot, half a slot each way is the slot itself.
    distance = np.abs(clip.stamps_ns - (step_ns + period // 2))
    index = int(distance.argmin())
    return index if distance[index] <= period + period // 2 else None


def _changes(frames: Frame) -> npt.NDArray[np.float64]:
    """Return (N - 1,) the mean absolute difference of each frame from the one before."""
    small = [cv2.cvtColor(resize(frame, _THUMBNAIL), cv2.COLOR_RGB2GRAY) for frame in frames]
    pairs = zip(small[1:], small[:-1], strict=True)
    return np.array([np.abs(new.astype(np.int16) - old).mean() for new, old in pairs], np.float64)


def _label(cell: Frame, text: str) -> None:
    """Write white on a black strip into the upper left corner, in place."""
    scale = max(0.3, cell.shape[0] / 340)
    thickness = 1 if scale < 0.8 else 2
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), baseline = cv2.getTextSize(text, font, scale, thickness)
    margin = max(2, height // 3)
    bottom, right = height + baseline + margin, width + 2 * margin
    cell[:bottom, :right] = 0
    # OpenCV draws into contiguous memory only.
    canvas = np.ascontiguousarray(cell)
    origin = (margin, height + margin)
    cv2.putText(canvas, text, origin, font, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    cell[:] = canvas
