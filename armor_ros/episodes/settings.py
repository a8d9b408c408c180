# SPDX-License-Identifier: Apache-2.0
"""The settings of episode collection, checked once when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase

from armor_ros.episodes.text import clean_text
from armor_ros.errors import ArmorError

NS_PER_S = 1_000_000_000
MIB = 1024 * 1024

_RANGES: dict[str, tuple[float, float]] = {
    'fps': (0.1, 60.0),
    'frame_height': (16, 4096),
    'frame_width': (16, 4096),
    'buffer_seconds': (1.0, 3600.0),
    'buffer_bytes': (1, 2**40),
    'pre_roll': (0.0, 600.0),
    'post_roll': (0.0, 600.0),
    'settle': (0.0, 60.0),
    'lookback': (0.1, 3600.0),
    'max_task_seconds': (1.0, 1e7),
    'max_open_tasks': (1, 1000),
    'goal_memory': (1, 1_000_000),
}
_WHOLE = ('frame_height', 'frame_width', 'buffer_bytes', 'max_open_tasks', 'goal_memory')


@dataclass(frozen=True, slots=True)
class EpisodeSettings:
    """
    How camera frames and task events become episodes; seconds and bytes throughout.

    - ``fps``, ``frame_height``, ``frame_width``: frames a second and pixels that are kept.
    - ``buffer_seconds``, ``buffer_bytes``: how much is kept, per camera; whichever is less.
    - ``pre_roll``, ``post_roll``: what a clip shows before and after its task.
    - ``settle``: how long after a clip's end its last frames are awaited.
    - ``lookback``: length of a task of which only the END was seen.
    - ``max_task_seconds``: a task open for longer is ended with status UNKNOWN.
    - ``max_open_tasks``: a START above it ends the oldest open task with status UNKNOWN.
    - ``goal_memory``: ids of goals and ended tasks that are remembered.
    - ``actions``: globs over action names (``*`` matches ``/`` too); one that begins with ``!``
      excludes. Without an including glob all are included.
    - ``outermost_only``: a goal that starts while a goal of another action is active belongs to
      that one and is no task of its own.
    - ``instructions``: (glob over action names, instruction); the first match counts.

    Raises ArmorError for a value out of range.
    """

    fps: float = 5.0
    frame_height: int = 308
    frame_width: int = 308
    buffer_seconds: float = 60.0
    buffer_bytes: int = 256 * MIB
    pre_roll: float = 0.0
    post_roll: float = 0.0
    settle: float = 0.5
    lookback: float = 30.0
    max_task_seconds: float = 4 * 3600.0
    max_open_tasks: int = 16
    goal_memory: int = 1024
    actions: tuple[str, ...] = ('*',)
    outermost_only: bool = True
    instructions: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not low <= value <= high:
                raise ArmorError(f'{name} is {value!r}; give a number from {low:g} to {high:g}')
            if name in _WHOLE and value != int(value):
                raise ArmorError(f'{name} is {value!r}; give a whole number')
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.pre_roll + self.post_roll >= self.buffer_seconds:
            raise ArmorError(
                f'pre_roll {self.pre_roll:g} s and post_roll {self.post_roll:g} s fill the buffer '
                f'of {self.buffer_seconds:g} s; shorten them or raise buffer_seconds'
            )
        if self.goal_memory < self.max_open_tasks:
            raise ArmorError(
                f'goal_memory {self.goal_memory} is less than max_open_tasks '
                f'{self.max_open_tasks}; raise goal_memory'
            )
        frame_bytes = self.frame_height * self.frame_width * 3
        if self.buffer_bytes < frame_bytes:
            raise ArmorError(
                f'buffer_bytes {self.buffer_bytes} does not hold one frame of '
                f'{self.frame_width} x {self.frame_height} pixels, {frame_bytes} bytes; raise it '
                'or lower the frame size'
            )
        for glob in self.actions:
            if not isinstance(glob, str) or not glob.strip('!'):
                raise ArmorError(f'actions holds {glob!r}; give globs such as "/pick*"')
        for entry in self.instructions:
            if len(entry) != 2 or not all(isinstance(part, str) and part for part in entry):
                raise ArmorError(
                    f'instructions holds {entry!r}; give pairs of a glob and a text, both filled'
                )

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of kept frames."""
        return self.frame_height, self.frame_width

    def watches(self, action: str) -> bool:
        """Tell whether goals of ``action`` are tasks, by the globs of ``actions``."""
        excluded = [glob[1:] for glob in self.actions if glob.startswith('!')]
        included = [glob for glob in self.actions if not glob.startswith('!')] or ['*']
        return not _any_match(action, excluded) and _any_match(action, included)

    def instruction_for(self, action: str) -> str:
        """Return the instruction configured for ``action``; empty when there is none."""
        for glob, text in self.instructions:
            if fnmatchcase(action, glob):
                return clean_text(text)
        return ''


def _any_match(name: str, globs: list[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def seconds_to_ns(seconds: float) -> int:
    """Return whole nanoseconds."""
    return round(seconds * NS_PER_S)


def period_ns(fps: float) -> int:
    """Return the length of a sampling slot in nanoseconds."""
    return round(NS_PER_S / fps)
