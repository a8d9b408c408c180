# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: what it may already hold, and run.json, which says what was run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armor_ros import __version__
from armor_ros.configuration import first_change
from armor_ros.datasets.bag_reader import is_recording
from armor_ros.datasets.manifest import MANIFEST_FILE, write_whole
from armor_ros.episodes.text import safe_file_name
from armor_ros.errors import ArmorError
from armor_ros.evaluation.parts import PARTS, holds_finished

RUN_FILE = 'run.json'
SCHEMA = 1
# All that an evaluation writes into its folder; nothing else is ever removed.
_OURS = (
    *('predictions.jsonl', 'metrics.json', 'report.html', 'aha_predictions.jsonl'),
    *('foxglove_layout.json', RUN_FILE),
    *('evidence', 'baselines', PARTS, 'annotated', 'judgements'),
)
# What tells a reader how two runs differ.
_TOLD = ('checkpoint', 'settings', 'splits', 'labels', 'model')
_PACKAGES = ('torch', 'transformers', 'numpy', 'opencv-python-headless', 'rosbags')


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that an evaluation writes, and the places in it."""

    path: Path

    @property
    def parts(self) -> Path:
        """Where finished parts are kept until the run is complete."""
        return self.path / PARTS

    def baseline(self, name: str) -> Path:
        """Return the folder of a baseline's predictions."""
        return self.path / 'baselines' / safe_file_name(name)

    def read(self) -> dict[str, Any]:
        """Return run.json, empty when there is none or it is damaged."""
        try:
            content = json.loads((self.path / RUN_FILE).read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace run.json; raises ArmorError when it cannot be written."""
        text = json.dumps({'schema': SCHEMA, **content}, indent=1, ensure_ascii=False)
        write_whole(self.path / RUN_FILE, f'{text}\n')

    def clear(self) -> None:
        """Remove what an earlier evaluation wrote."""
        for name in _OURS:
            place = self.path / name
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)

    def check_place(self) -> None:
        """Raise ArmorError when the folder is a data set or a recording."""
        if (self.path / MANIFEST_FILE).exists() or is_recording(self.path):
            raise ArmorError(
                f'{self.path} holds a data set or a recording; give the run a folder of its own'
            )

    def begin(self, content: Mapping[str, Any]) -> None:
        """
        Write run.json; raises ArmorError when the folder holds a run of another identity.

        Figures of two runs in one folder would be taken for one another. A run of which no part
        is finished is none, and is replaced.
        """
        known = self.read()
        before, now = known.get('identity', {}), content['identity']
        changed = [name for name, value in now.items() if before.get(name) != value]
        if changed and ((self.path / 'predictions.jsonl').exists() or holds_finished(self.parts)):
            plain = json.loads(json.dumps(content))
            told = (first_change(known.get(name), plain.get(name), name) for name in _TOLD)
            how = next((f' ({change})' for change in told if change and known), '')
            raise ArmorError(
                f'{self.path} holds another run: other {", ".join(changed)}{how}; choose another '
                'output folder, or replace that run with --overwrite'
            )
        if changed and known:
            self.clear()
        self.write(content)

    def finish(self) -> None:
        """Remove the parts of a run that is complete."""
        shutil.rmtree(self.parts, ignore_errors=True)


def host_info() -> dict[str, Any]:
    """Return versions of what was computed with, and the machine."""
    versions = {'armor_ros': __version__, 'python': platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        'versions': versions,
        'host': {
            'system': platform.platform(),
            'machine': platform.machine(),
            'processors': os.cpu_count(),
        },
    }
