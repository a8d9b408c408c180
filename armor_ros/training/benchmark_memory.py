# SPDX-License-Identifier: Apache-2.0
"""How much memory a piece of work takes, on a GPU or a processor."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch


class PeakMemory:
    """How much memory work takes at its peak on top of what was in use when it began."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: int | None
        if device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
            return
        try:
            # What was freed but is still held would hide what the work takes.
            ctypes.CDLL(None).malloc_trim(0)
            # Linux takes this as: forget the highest resident size so far.
            Path('/proc/self/clear_refs').write_text('5', encoding='ascii')
            self._before = _resident('VmRSS')
        except (AttributeError, OSError):
            self._before = None

    def bytes(self) -> int | None:
        """Return them; None where the system does not tell."""
        if self._before is None:
            return None
        if self._device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self._device) - self._before
        return max(0, _resident('VmHWM') - self._before)


def _resident(name: str) -> int:
    """Return a figure of /proc/self/status in bytes."""
    for line in Path('/proc/self/status').read_text(encoding='ascii').splitlines():
        if line.startswith(f'{name}:'):
            return int(line.split()[1]) * 1024
    raise OSError(f'/proc/self/status has no {name}')
