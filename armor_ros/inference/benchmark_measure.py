# SPDX-License-Identifier: Apache-2.0
"""The measurements of the benchmark: a model with random weights, a clip of noise, and a clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import transformers

from armor_ros.episodes.diagnosis import RefinementSettings, Round
from armor_ros.errors import ArmorError
from armor_ros.inference.algorithm2 import Detection, Explanation, Refinement, refine
from armor_ros.inference.benchmark_limits import (
    Roofline,
    Workload,
    device_name,
    measure_roofline,
    synchronized,
)
from armor_ros.inference.benchmark_models import BenchmarkSize, make_model, repeat_itself
from armor_ros.inference.benchmark_naive import NaiveReference
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.inference.drafts import DraftBudget, Drafter
from armor_ros.inference.policy import ModelPolicy
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.inference.sampling import uniforms
from armor_ros.inference.stream import Prepared
from armor_ros.model.armor import ArmorModel
from armor_ros.model.prompts import PreviousAnswer

INSTRUCTION = 'pick up the red cube and place it in the left tote'
FPS = 5.0
ROUNDS, TRAJECTORIES = 4, 3
LONGER = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table, in seconds; ``naive`` and ``limit`` None where there is none."""

    name: str
    measured: float
    naive: float | None = None
    limit: float | None = None


@dataclass(slots=True)
class Times:
    """
    Seconds of one run behind a prefix: the first detection, and the end of each round.

    ``bytes`` is the most memory of a GPU that was in use by the end of each round.
    """

    detection: float = 0.0
    rounds: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)


class Unsettled:
    """A policy whose entropy falls in every round, so that refinement never stops early."""

    def __init__(self, policy: ModelPolicy) -> None:
        self._policy = policy
        self._round = 0

    def detect(self, previous: Sequence[PreviousAnswer]) -> list[Detection]:
        """Return the policy's detections with ever lower entropies."""
        self._round += 1
        return [
            Detection(each.failure_probability, -float(self._round))
            for each in self._policy.detect(previous)
        ]

    def explain(self, previous: Sequence[PreviousAnswer], round_index: int) -> list[Explanation]:
        """Return the policy's explanations with no entropy."""
        return [
            Explanation(each.text, 0.0) for each in self._policy.explain(previous, round_index)
        ]


class Benchmark:
    """One model, one clip of noise, and everything that is measured with them."""

    def __init__(self, size: BenchmarkSize, device: torch.device) -> None:
        self.size = size
        self.device = device
        self.model: ArmorModel = make_model(size, device)
        count = round(size.seconds * FPS)
        side = size.image_size
        generator = np.random.default_rng(0)
        self.frames = generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        self.stamps = [index * 200_000_000 for index in range(count)]
        self.settings = RefinementSettings(
            rounds=ROUNDS, trajectories=TRAJECTORIES, max_new_tokens=size.tokens, tolerance=0.0
        )

    @torch.inference_mode()
    def run(self) -> dict[str, Any]:
        """Measure everything once."""
        roofline = measure_roofline(self.device, self.model.embed(torch.tensor([0])).dtype)
        streaming, prepared, waited = self.stream()
        prefix = prepared.prefix
        length = prefix.length
        times, outcome = self._refine(prefix, None)
        naive_detection, naive_explanation = self._naive(outcome)
        cold = self._cold()
        extra = self._extra_memory(length)
        longer = self._longer(prefix)
        repeated, repeats = self._repeated()
        calls = ROUNDS * TRAJECTORIES
        naive = calls * (naive_detection + naive_explanation)
        work = self.workload(length)
        after = waited + times.rounds[-1]
        rows = [
            Row('streaming, while the task runs', streaming, None, work.encode(roofline)),
            Row(
                'first_detection', waited + times.detection, naive_detection,
                work.detection(roofline),
            ),
            Row('first_report', waited + times.rounds[0], None, work.round(roofline)),
            Row('after_task_end', after, naive, ROUNDS * work.round(roofline)),
            Row('drafted', repeated, naive, self._drafted_limit(work, roofline)),
            Row(
                'whole', cold + times.rounds[-1], naive,
                work.encode(roofline) + ROUNDS * work.round(roofline),
            ),
        ]  # fmt: skip
        ratios = {row.name: row.naive / row.measured for row in rows if row.naive is not None}
        ratios['sixty_seconds'] = longer
        ratios['memory'] = extra
        return {
            **self.surroundings(roofline),
            'rows': [dataclasses.asdict(row) for row in rows],
            'ratios': ratios,
            'round_seconds': times.rounds,
            'round_bytes': times.bytes,
            'waited_seconds': waited,
            'prefix_tokens': length,
            'prefix_seconds_cold': cold,
            'naive_detection_seconds': naive_detection,
            'naive_explanation_seconds': naive_explanation,
            'texts_repeat': repeats,
        }

    def stream(self) -> tuple[float, Prepared, float]:
        """Return seconds of streaming, the prefix, and the seconds it took when all was over."""
        stream = Diagnoser(self.model).open_stream(fps=FPS)
        start = synchronized(self.device)
        for stamp, frame in zip(self.stamps, self.frames, strict=True):
            stream.push(stamp, frame)
            stream.step()
        middle = synchronized(self.device)
        prepared = self.prepare(stream, TRAJECTORIES)
        return middle - start, prepared, synchronized(self.device) - middle

    def prepare(self, stream: Any, trajectories: int, count: int | None = None) -> Prepared:
        """Bring a stream's prefix to the clip (or its first frames) and the question."""
        question = self.model.prompts.prefix(INSTRUCTION).after
        scratch = trajectories * (2 * self.size.tokens + 48)
        prepared: Prepared = stream.prepare(
            self.frames[:count], self.stamps[:count], FPS, question, lambda: False, scratch
        )
        return prepared

    def _refine(
        self, prefix: SharedPrefix, drafter: Drafter | None, **changes: Any
    ) -> tuple[Times, Refinement]:
        """Run all rounds behind a prefix."""
        times = Times()
        start = synchronized(self.device)

        def on_detection(_: float) -> None:
            times.detection = synchronized(self.device) - start

        def on_round(_: tuple[Round, ...]) -> None:
            times.rounds.append(synchronized(self.device) - start)
            if self.device.type == 'cuda':
                times.bytes.append(torch.cuda.max_memory_allocated(self.device))

        settings = dataclasses.replace(self.settings, **changes)
        policy = ModelPolicy(prefix, settings, lambda: False, drafter)
        outcome = refine(Unsettled(policy), settings, on_round, on_detection)
        return times, outcome

    def _naive(self, outcome: Refinement) -> tuple[float, float]:
        """Return the seconds of one detection and one explanation; check their answers."""
        reference = NaiveReference(self.model, self.frames, FPS, INSTRUCTION)
        before, after = outcome.trace[0], outcome.trace[TRAJECTORIES]
        previous = PreviousAnswer(before.failed, before.explanation)
        start = synchronized(self.device)
        probability = reference.detect(previous)
        middle = synchronized(self.device)
        numbers = uniforms(self.settings.seed, 'token', 1, 0, self.size.tokens)
        tokens = reference.explain(previous, numbers, self.settings.temperature)
        end = synchronized(self.device)
        text = self.model.prompts.decode(tokens)
        # In half precision the order of sums tells, and texts drift apart.
        is_exact = self.size.bits == 32
        if is_exact and abs(probability - after.failure_probability) > 1e-4:
            raise ArmorError(
                f'the naive reference finds {probability}, the engine '
                f'{after.failure_probability}; the engine is wrong on this machine'
            )
        if is_exact and text != after.explanation:
            raise ArmorError(
                f'the naive reference says {text!r}, the engine {after.explanation!r}; the '
                'engine is wrong on this machine'
            )
        return middle - start, end - middle

    def _cold(self) -> float:
        """Return the seconds of a prefix of which nothing was streamed."""
        start = synchronized(self.device)
        prepared = self.prepare(Diagnoser(self.model).open_stream(fps=FPS), TRAJECTORIES)
        prepared.prefix.complete()
        return synchronized(self.device) - start

    def _extra_memory(self, length: int) -> float:
        """Return what the rows of two more trajectories take, beside the prefix of the clip."""
        sizes = []
        for trajectories in (1, TRAJECTORIES):
            stream = Diagnoser(self.model).open_stream(fps=FPS)
            prefix = self.prepare(stream, trajectories, 2).prefix
            lengthen(prefix, round(length / prefix.length))
            self._refine(prefix, None, rounds=2, trajectories=trajectories)
            sizes.append(prefix.cache.nbytes)
            share = prefix.length / prefix.cache.capacity
        return (sizes[1] - sizes[0]) / (sizes[1] * share)

    def _longer(self, prefix: SharedPrefix) -> float:
        """Return how much longer two rounds take behind a prefix several times as long."""
        # One right after the other: on a busy machine times of different minutes are no pair.
        usual = self._refine(prefix, None, rounds=2)[0].rounds[1]
        lengthen(prefix, LONGER)
        return self._refine(prefix, None, rounds=2)[0].rounds[1] / usual

    def _repeated(self) -> tuple[float, bool]:
        """Return the seconds after the end when each round repeats the last, and whether so."""
        repeat_itself(self.model, self.size.tokens)
        _, prepared, waited = self.stream()
        drafter = Drafter(DraftBudget.of_device(self.device.type))
        times, outcome = self._refine(prepared.prefix, drafter)
        texts = {answer.explanation for answer in outcome.trace}
        return waited + times.rounds[-1], len(texts) == 1

    def workload(self, length: int) -> Workload:
        """Return what is asked for behind a prefix of so many tokens."""
        return Workload(
            self.size,
            length,
            len(self.model.prompts.prefix(INSTRUCTION).after),
            ROUNDS,
            TRAJECTORIES,
            max(self.model.config.head.pooled_layers),
        )

    def _drafted_limit(self, work: Workload, roofline: Roofline) -> float:
        """Return the least seconds when all later rounds are verified in one forward each."""
        return work.round(roofline) + (ROUNDS - 1) * work.round(roofline, steps=1)

    def surroundings(self, roofline: Roofline) -> dict[str, Any]:
        """Name the machine and the libraries."""
        return {
            'device': device_name(self.device),
            'threads': torch.get_num_threads(),
            'torch': torch.__version__,
            'transformers': transformers.__version__,
            'roofline': dataclasses.asdict(roofline),
            'settings': dataclasses.asdict(self.settings),
        }


def lengthen(prefix: SharedPrefix, times: int) -> None:
    """Repeat the stored keys and values, for measurements of which the answer does not matter."""
    length = prefix.length
    prefix.complete()
    summary = prefix.summary
    cache = prefix.cache
    cache.reserve(cache.capacity + (times - 1) * length, exactly=True)
    for stores in (cache.keys, cache.values):
        for store in stores:
            for copy in range(1, times):
                store[:, copy * length : (copy + 1) * length] = store[:, :length]
    prefix.assume(times * length, summary)
