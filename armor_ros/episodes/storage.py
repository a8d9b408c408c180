# SPDX-License-Identifier: Apache-2.0
"""What the monitor leaves on disk: pictures of evidence within a quota, and people's labels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from armor_ros.episodes.task import safe_file_name
from armor_ros.errors import ArmorError


class EvidenceStore:
    """
    Keeps JPEG pictures in a folder of at most ``max_bytes``; the oldest go first.

    A picture larger than the quota, or a disk that refuses it, raises ArmorError: the caller
    publishes its report all the same.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def save(self, task_id: str, stamp_ns: int, jpeg: bytes) -> Path:
        """Store the picture of one task, and return its path."""
        if len(jpeg) > self._max_bytes:
            raise ArmorError(
                f'a picture of {len(jpeg)} bytes is larger than the quota of {self._max_bytes} '
                'bytes; raise evidence_megabytes'
            )
        path = self._folder / f'{stamp_ns:020d}_{safe_file_name(task_id)}.jpg'
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(jpeg))
            temporary = path.with_suffix('.tmp')
            temporary.write_bytes(jpeg)
            temporary.replace(path)
        except OSError as error:
            raise ArmorError(
                f'evidence cannot be stored in {self._folder}: {error.strerror or error}; free '
                'some room, or set data_dir to another folder'
            ) from error
        return path

    def _make_room(self, needed: int) -> None:
        # Names begin with the stamp, zero-padded: sorted by name is sorted by age.
        pictures = sorted(self._folder.glob('*.jpg'))
        sizes = {picture: picture.stat().st_size for picture in pictures}
        total = sum(sizes.values())
        for picture in pictures:
            if total + needed <= self._max_bytes:
                return
            picture.unlink(missing_ok=True)
            total -= sizes[picture]


class LabelLog:
    """Appends people's words on tasks to a JSON-lines file, one record a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, record: Mapping[str, Any]) -> Path:
        """Store one record durably and return the file's path; raise ArmorError if it cannot."""
        line = json.dumps(record, ensure_ascii=False, sort_keys=True) + '\n'
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open('a', encoding='utf-8') as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ArmorError(
                f'the label cannot be stored in {self._path}: {error.strerror or error}; free '
                'some room, or set data_dir to another folder'
            ) from error
        return self._path
