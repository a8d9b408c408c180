# SPDX-License-Identifier: Apache-2.0
"""What a benchmark was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def machine(**more: Any) -> dict[str, Any]:
    """Name processor, cores, load and Python; ``more`` stands beside them."""
    model = platform.processor() or platform.machine()
    for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
        if line.startswith('model name'):
            model = line.partition(':')[2].strip()
            break
    return {
        'cpu': model,
        'cores': len(os.sched_getaffinity(0)),
        'load_at_start': os.getloadavg()[0],
        'python': platform.python_version(),
        **more,
    }
