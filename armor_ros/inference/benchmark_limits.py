# SPDX-License-Identifier: Apache-2.0
"""What a device can do at best, measured here, and how long that makes each part of the work."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from armor_ros.inference.benchmark_models import BenchmarkSize, parameters
from armor_ros.model.products import linear


@dataclass(frozen=True, slots=True)
class Roofline:
    """Bytes read and floating-point operations done in a second, at best."""

    bytes_per_second: float
    operations_per_second: float

    def seconds(self, operations: float, read: float) -> float:
        """Return the least time for so many operations and bytes."""
        return max(operations / self.operations_per_second, read / self.bytes_per_second)


def device_name(device: torch.device) -> str:
    """Return the name of a GPU or of the processor."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


def synchronized(device: torch.device) -> float:
    """
    Return the time in seconds when all work given to the device is done.

    With one thread on a CPU it is the thread's own time, which other programs do not lengthen.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    elif torch.get_num_threads() == 1:
        return time.thread_time()
    return time.perf_counter()


def measure_roofline(device: torch.device, dtype: torch.dtype) -> Roofline:
    """Measure a large matrix product, and a sum over more than any cache holds."""
    side = 8192 if device.type == 'cuda' else 1024
    square = torch.ones((side, side), dtype=dtype, device=device)
    module = nn.Linear(side, side, bias=False, dtype=dtype, device=device)
    # A CPU has two libraries for it, and the limit is the better one's.
    product = min(
        _best(lambda: square @ square, device), _best(lambda: linear(module, square), device)
    )
    large = torch.ones(1 << (30 if device.type == 'cuda' else 26), device=device)
    total = _best(lambda: large.sum(), device)
    return Roofline(large.nbytes / total, 2 * side**3 / product)


@dataclass(frozen=True, slots=True)
class Workload:
    """What one diagnosis asks for: tokens of the clip, and of suffixes and texts by round."""

    size: BenchmarkSize
    prefix: int
    question: int
    rounds: int
    trajectories: int
    early: int

    @property
    def suffix(self) -> int:
        """Tokens of a later round's suffix, about."""
        return self.size.tokens + 32

    def encode(self, roofline: Roofline) -> float:
        """Return the least seconds for the vision tower and the prefill of the clip."""
        decoder, vision = parameters(self.size)
        patches = 4 * self.prefix
        attention = 2 * self.prefix**2 * self.size.hidden * self.size.layers
        operations = 2 * decoder * self.prefix + 2 * vision * patches + attention
        return roofline.seconds(operations, (decoder + vision) * self.size.bits / 8)

    def detection(self, roofline: Roofline) -> float:
        """Return the least seconds for a first detection behind a streamed clip."""
        return self._tokens(self.question + 24, roofline) * self.early / self.size.layers

    def round(self, roofline: Roofline, *, steps: int | None = None) -> float:
        """Return the least seconds for one round's detections and texts in so many steps."""
        rows = self.trajectories
        steps = self.size.tokens if steps is None else steps
        fed = self._tokens(rows * self.suffix, roofline)
        return fed * (1 + self.early / self.size.layers) + steps * self._tokens(rows, roofline)

    def _tokens(self, count: int, roofline: Roofline) -> float:
        """Return the least seconds to run so many tokens together behind the prefix."""
        size, decoder = self.size, parameters(self.size)[0]
        attention = 4 * size.hidden * size.layers * self.prefix
        cache = 2 * size.layers * size.hidden * size.key_heads // size.heads * self.prefix
        return roofline.seconds(
            (2 * decoder + attention) * count, (decoder + cache) * size.bits / 8
        )


def _best(work: Callable[[], torch.Tensor], device: torch.device) -> float:
    """Return the shortest of five runs in seconds, after one to warm up."""
    work()
    times = []
    for _ in range(5):
        start = synchronized(device)
        work()
        times.append(synchronized(device) - start)
    return min(times)
