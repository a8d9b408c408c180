# SPDX-License-Identifier: Apache-2.0
"""Columns of parquet files, read within limits and by rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from armor_ros.errors import ArmorError

MAX_ROWS = 50_000_000
MAX_GROUP_BYTES = 2 << 30


def column_names(path: Path) -> tuple[str, ...]:
    """Return the names of a file's columns; raises ArmorError when it cannot be read."""
    with _open(path) as file:
        return tuple(str(name) for name in file.schema_arrow.names)


def read_rows(
    path: Path,
    columns: Sequence[str],
    start: int = 0,
    stop: int | None = None,
    batch_rows: int = 4096,
) -> Iterator[dict[str, Any]]:
    """
    Yield the rows from ``start`` to before ``stop`` as plain values by the names of ``columns``.

    Columns that the file lacks are left out; ``batch_rows`` rows are held at a time. Raises
    ArmorError when it cannot be read, is damaged, or is larger than the limits.
    """
    with _open(path) as file:
        known = [name for name in file.schema_arrow.names if name in columns]
        _check_size(file.metadata)
        groups, first = _row_groups(file.metadata, start, stop)
        if not known or not groups:
            return
        for batch in file.iter_batches(batch_rows, groups, known, use_threads=False):
            last = first + batch.num_rows
            low, high = max(start - first, 0), (last if stop is None else min(last, stop)) - first
            if high > low:
                yield from batch.slice(low, high - low).to_pylist()
            first = last


def _row_groups(metadata: Any, start: int, stop: int | None) -> tuple[list[int], int]:
    """Return the row groups that hold rows of the range, and the first row of the first."""
    groups: list[int] = []
    first = position = 0
    for group in range(metadata.num_row_groups):
        end = position + metadata.row_group(group).num_rows
        if end > start and (stop is None or position < stop):
            first = first if groups else position
            groups.append(group)
        position = end
    return groups, first


def _check_size(metadata: Any) -> None:
    if metadata.num_rows > MAX_ROWS:
        raise ArmorError(f'it has {metadata.num_rows} rows; the limit is {MAX_ROWS}')
    for group in range(metadata.num_row_groups):
        # not by column: pyarrow ends the process when it meets damage there
        length = metadata.row_group(group).total_byte_size
        if length > MAX_GROUP_BYTES:
            raise ArmorError(
                f'its row group {group} takes {length >> 20} MiB; the limit is '
                f'{MAX_GROUP_BYTES >> 20}: write smaller row groups'
            )


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a file; whatever pyarrow makes of a damaged one becomes one ArmorError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ArmorError(
            'parquet files need pyarrow, which is not installed: '
            "pip install 'armor-ros[evaluation]' (or pyarrow)"
        ) from error
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except ArmorError as error:
        raise ArmorError(f'cannot read {path}: {error}') from error
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        ArithmeticError,
        MemoryError,
    ) as error:
        raise ArmorError(f'cannot read {path}: {error}') from error
