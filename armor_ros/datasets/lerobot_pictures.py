# SPDX-License-Identifier: Apache-2.0
"""Cameras that a LeRobot data set keeps as encoded pictures within its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from armor_ros.datasets.parquet import read_rows
from armor_ros.datasets.sampling import ClipSampler, sampled_indices
from armor_ros.datasets.video import Frames
from armor_ros.datasets.views import decode_picture
from armor_ros.errors import ArmorError

# pictures are large: few rows at a time
_BATCH_ROWS = 64


@dataclass(frozen=True, slots=True)
class ParquetPicturesView:
    """The pictures of one episode in one column ``{bytes, path}`` of a table, at ``fps``."""

    path: Path
    column: str
    episode: int
    fps: float

    def read(self, fps: float, size: tuple[int, int] | None = None) -> Frames:
        """Return the frames as ``record.View`` says; raises ArmorError naming the row."""
        name = f'column {self.column!r} of {self.path}'
        sampler = ClipSampler(name, fps, None, size)
        start, stop = self._rows()
        wanted = sampled_indices(stop - start, self.fps, fps)
        times = Counter(wanted)
        number = 0
        for index, picture in self._decoded(start, stop, set(wanted), size):
            for _ in range(times[index]):
                sampler.add(picture, number / fps)
                number += 1
        return sampler.clip()

    def _rows(self) -> tuple[int, int]:
        """Return the first row of the episode and the one after its last."""
        rows = [
            index
            for index, row in enumerate(read_rows(self.path, ('episode_index',)))
            if row.get('episode_index') == self.episode
        ]
        if not rows:
            raise ArmorError(f'{self.path} has no row of episode {self.episode}')
        if rows[-1] - rows[0] >= len(rows):
            raise ArmorError(f'{self.path} has rows of others between those of {self.episode}')
        return rows[0], rows[-1] + 1

    def _decoded(
        self, start: int, stop: int, wanted: set[int], size: tuple[int, int] | None
    ) -> Iterator[tuple[int, Frames]]:
        """Yield the wanted rows, counted from ``start``, as pictures."""
        rows = read_rows(self.path, (self.column,), start, stop, batch_rows=_BATCH_ROWS)
        for index, row in enumerate(rows):
            if index not in wanted:
                continue
            cell = row.get(self.column)
            data = cell.get('bytes') if isinstance(cell, dict) else cell
            if not isinstance(data, bytes):
                raise ArmorError(
                    f'{self.path}, row {start + index}: column {self.column!r} holds no picture'
                )
            try:
                picture = decode_picture(data, size)
            except ArmorError as error:
                raise ArmorError(f'{self.path}, row {start + index}: {error}') from error
            yield index, picture
