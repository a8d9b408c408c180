# SPDX-License-Identifier: Apache-2.0
"""Grades kept on disk, so that the same question is asked, and paid for, once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

GRADES = (0.0, 0.5, 1.0)


class GradeCache:
    """
    One JSON file a grade, below a folder that is made when there is something to keep.

    Several processes may share a folder: a file appears whole or not at all. A file that cannot
    be read, or that is of another question, is as good as none. Where nothing can be written,
    nothing is kept.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)

    def get(self, question: dict[str, str]) -> float | None:
        """Return the grade that was given to a question before, None without."""
        try:
            data = json.loads(self._path(question).read_text(encoding='utf-8'))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(data, dict) or data.get('question') != question:
            return None
        grade = data.get('grade')
        is_number = isinstance(grade, (int, float)) and not isinstance(grade, bool)
        return float(grade) if is_number and grade in GRADES else None

    def put(self, question: dict[str, str], grade: float, reply: str) -> None:
        """Keep a grade, and the reply that it was read from."""
        path = self._path(question)
        data = {'question': question, 'grade': grade, 'reply': reply}
        text = json.dumps(data, ensure_ascii=True, indent=1) + '\n'
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.{os.urandom(4).hex()}')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding='utf-8')
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _path(self, question: dict[str, str]) -> Path:
        text = json.dumps(question, sort_keys=True, ensure_ascii=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return self._folder / digest[:2] / f'{digest}.json'
