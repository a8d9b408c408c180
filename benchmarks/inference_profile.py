# SPDX-License-Identifier: Apache-2.0
"""
Where the seconds of inference go, by phase and by part of the model.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/inference_profile.py --size bench \
        --output benchmarks/inference-profile-cpu.json

The model and the clip are those of ``armor benchmark inference``. While it runs, the engine's own
functions are timed from outside; a function's time is its own, less that of those that it calls.
Nothing is drafted, so that all rounds cost what a round without a guess costs.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from armor_ros.episodes.diagnosis import Round
from armor_ros.inference import generation, stream
from armor_ros.inference.algorithm2 import refine
from armor_ros.inference.benchmark_limits import measure_roofline, synchronized
from armor_ros.inference.benchmark_measure import Benchmark, Unsettled
from armor_ros.inference.benchmark_models import SIZES
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.inference.policy import ModelPolicy
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.inference.stream import Prepared
from armor_ros.model import decoder
from armor_ros.model.armor import ArmorModel
from armor_ros.model.backbone import decoder_layers
from armor_ros.model.cache import KeyValueCache
from armor_ros.model.checkpoint import choose_device
from armor_ros.model.head_summary import HeadReader

REST = 'everything else'
STREAMING, END = 'streaming', 'question and first detection'


class Stopwatch:
    """Own seconds of named parts, and the calls of each, in the phase that is set."""

    def __init__(self, device: torch.device) -> None:
        self.phase = ''
        self.seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._device = device
        self._parts = [REST]
        self._last = synchronized(device)

    def lap(self) -> None:
        """Give the time since the last call to the part that runs."""
        now = synchronized(self._device)
        self.seconds[self.phase][self._parts[-1]] += now - self._last
        self._last = now

    def enter(self, phase: str) -> None:
        """Begin another phase."""
        self.lap()
        self.phase = phase

    def timed(self, function: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        """Return the function with its own time given to the part that ``name`` makes of it."""

        @functools.wraps(function)
        def measured(*arguments: Any, **options: Any) -> Any:
            self.lap()
            self._parts.append(name(*arguments))
            try:
                return function(*arguments, **options)
            finally:
                self.lap()
                self._parts.pop()

        return measured


@contextlib.contextmanager
def watching(watch: Stopwatch, model: ArmorModel) -> Iterator[None]:
    """Time the parts of the model while the context lasts."""
    kinds = {}
    for layer in decoder_layers(model.backbone):
        for name, module in layer.named_modules():
            kinds[id(module)] = 'decoder: MLP' if 'mlp' in name else 'decoder: projections'
    kinds[id(model.backbone.lm_head)] = 'language head'

    def of_module(module: Any, _: Any) -> str:
        return kinds[id(module)]

    parts: list[tuple[Any, str, Callable[..., str]]] = [
        (decoder, 'linear', of_module),
        (decoder, 'attend', lambda *_: 'decoder: attention'),
        (decoder, 'rotate', lambda *_: 'decoder: rotations'),
        (decoder, 'rotations', lambda *_: 'decoder: rotations'),
        (KeyValueCache, 'write', lambda *_: 'cache'),
        (KeyValueCache, 'reserve', lambda *_: 'cache'),
        (HeadReader, 'summarize', lambda *_: 'classification head'),
        (HeadReader, 'classify', lambda *_: 'classification head'),
        (ArmorModel, 'encode_vision', lambda *_: 'vision tower'),
        (stream, '_frame_key', lambda *_: 'frames'),
        (generation, 'choose_tokens', lambda *_: 'sampling and entropies'),
        (generation, 'entropies', lambda *_: 'sampling and entropies'),
    ]
    before = [getattr(owner, name) for owner, name, _ in parts]
    for (owner, name, part), function in zip(parts, before, strict=True):
        setattr(owner, name, watch.timed(function, part))
    try:
        yield
    finally:
        for (owner, name, _), function in zip(parts, before, strict=True):
            setattr(owner, name, function)


def profile(size: str, device: torch.device) -> dict[str, Any]:
    """Return the seconds of each phase by part, and the least that the device allows."""
    bench = Benchmark(SIZES[size], device)
    watch = Stopwatch(device)
    with torch.inference_mode():
        roofline = measure_roofline(device, bench.model.embed(torch.tensor([0])).dtype)
        bench.stream()  # libraries set themselves up in their first calls
        with watching(watch, bench.model):
            prepared = _streamed(bench, watch)
            _answered(bench, prepared.prefix, watch)
        watch.enter('')
    work = bench.workload(prepared.prefix.length)
    phases = [phase for phase in watch.seconds if phase]
    limits = {STREAMING: work.encode(roofline), END: work.detection(roofline)}
    return {
        'size': size,
        **bench.surroundings(roofline),
        'prefix_tokens': prepared.prefix.length,
        'phases': {phase: dict(watch.seconds[phase]) for phase in phases},
        'limits': {phase: limits.get(phase, work.round(roofline)) for phase in phases},
    }


def _streamed(bench: Benchmark, watch: Stopwatch) -> Prepared:
    """Stream the clip, and append the question."""
    episode = Diagnoser(bench.model).open_stream(fps=5.0)
    watch.enter(STREAMING)
    for stamp, frame in zip(bench.stamps, bench.frames, strict=True):
        episode.push(stamp, frame)
        episode.step()
    watch.enter(END)
    return bench.prepare(episode, bench.settings.trajectories)


def _answered(bench: Benchmark, prefix: SharedPrefix, watch: Stopwatch) -> None:
    """Run all rounds."""

    def on_round(answers: tuple[Round, ...]) -> None:
        watch.enter(f'round {answers[0].round + 1}')

    policy = ModelPolicy(prefix, bench.settings, lambda: False)
    refine(
        Unsettled(policy),
        bench.settings,
        on_round,
        lambda _: watch.enter('round 0'),
    )
    watch.enter('')
    watch.seconds.pop(f'round {bench.settings.rounds}', None)


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown: parts by phases, in seconds."""
    phases = figures['phases']
    totals: dict[str, float] = defaultdict(float)
    for parts in phases.values():
        for part, seconds in parts.items():
            totals[part] += seconds
    lines = ['| seconds | ' + ' | '.join(phases) + ' |', '|---|' + '---|' * len(phases)]
    for part in sorted(totals, key=lambda part: (part == REST, -totals[part])):
        cells = [f'{parts[part]:.3f}' if part in parts else '' for parts in phases.values()]
        lines.append(f'| {part} | ' + ' | '.join(cells) + ' |')
    sums = {phase: sum(parts.values()) for phase, parts in phases.items()}
    limits = figures['limits']
    for name, cells in (
        ('together', [f'{sums[phase]:.3f}' for phase in phases]),
        ('the least', [f'{limits[phase]:.3f}' for phase in phases]),
        ('of the least', [f'{sums[phase] / limits[phase]:.2f}' for phase in phases]),
    ):
        lines.append(f'| **{name}** | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description='Where the seconds of inference go.')
    parser.add_argument('--size', choices=sorted(SIZES), default='small')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda')
    parser.add_argument('--output', type=Path, help='JSON file for the figures')
    options = parser.parse_args()
    figures = profile(options.size, choose_device(options.device))
    print(f'{figures["device"]}, {figures["threads"]} threads, size {figures["size"]}\n')
    print(table(figures))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
