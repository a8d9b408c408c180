# SPDX-License-Identifier: Apache-2.0
"""Where the picture of a line's evidence lies: in the run folder, or nowhere."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from armor_ros.evaluation.lines import Line


def evidence_path(folder: Path, line: Line) -> Path | None:
    """Return the file of a line's evidence; None for none, or one outside the run folder."""
    name = line.get('evidence')
    if not isinstance(name, str) or not name or '\0' in name:
        return None
    parts = PurePosixPath(name)
    if not parts.parts or parts.is_absolute() or '..' in parts.parts or ':' in parts.parts[0]:
        return None
    try:
        path = (folder / parts).resolve()
        inside = path.is_relative_to(folder.resolve()) and path.is_file()
    except OSError:
        return None
    return path if inside else None
