# SPDX-License-Identifier: Apache-2.0
"""The linters are content: style, types, and which part may import which."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTERS = {
    'style': ['ruff', 'check', '--no-fix'],
    'format': ['ruff', 'format', '--diff'],
    'types': ['mypy'],
    'imports': ['lint-imports', '--no-logo'],
}


@pytest.mark.parametrize('name', LINTERS)
def test_linter_is_content(name: str) -> None:
    command, *arguments = LINTERS[name]
    beside_python = os.path.dirname(sys.executable)
    path = shutil.which(command, path=beside_python) or shutil.which(command)
    if path is None:
        pytest.skip(f'{command} is not installed')
    result = subprocess.run(
        [path, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    if result.returncode != 0:
        pytest.fail(f'{" ".join(LINTERS[name])}:\n{result.stdout}{result.stderr}', pytrace=False)
