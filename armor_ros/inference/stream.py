# SPDX-License-Identifier: Apache-2.0
"""An episode that is encoded while it happens, so that little is left to do at its end."""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from armor_ros.errors import ArmorError
from armor_ros.inference.clip_encoder import ClipEncoder, Frame
from armor_ros.inference.engine import Engine
from armor_ros.inference.errors import Canceled
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.inference.thinning import kept_pairs, pair_stride
from armor_ros.model.mrope import text_positions

# Pairs of frames that go through the decoder at once when several wait.
CHUNK_PAIRS = 4

# What makes a frame the same frame: its stamp, its shape, and a checksum of some of its pixels.
FrameKey = tuple[int, tuple[int, ...], int]
PairKey = tuple[FrameKey, ...]


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """
    Bounds of one stream.

    ``max_tokens`` vision tokens are kept; a longer clip is thinned to every second, fourth, ...
    pair of frames. ``max_waiting`` frames may wait to be encoded; more are left to the end.
    """

    max_tokens: int = 32768
    max_waiting: int = 256


DEFAULT_LIMITS = StreamLimits()


@dataclass(frozen=True, slots=True)
class Prepared:
    """
    An episode's prefix, ready to be asked, and how it came about.

    ``frame_stride`` is n when every n-th pair of frames is looked at; ``late_frames`` counts the
    frames looked at that were encoded only when the episode had ended, all if nothing had been
    streamed.
    """

    prefix: SharedPrefix
    frame_stride: int = 1
    late_frames: int = 0


class EpisodeStream:
    """
    The clip of one camera, growing.

    ``push`` may be called from any thread and returns at once. All other methods belong to the
    thread that owns the model; any number of streams may be open and take turns in it.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        fps: float | None = None,
        camera: str = '',
        limits: StreamLimits = DEFAULT_LIMITS,
    ) -> None:
        """
        Open a stream.

        ``fps`` is the sampling rate, by default the checkpoint's. ``camera`` names the camera
        whose frames will be pushed; when it is empty, stamps and pixels alone tell at the end
        whether these were the right ones.
        """
        self.camera = camera
        self._engine = engine
        self._model = engine.model
        self._fps = engine.model.config.fps if fps is None else fps
        self._limits = limits
        self._encoder = ClipEncoder(engine, self._fps)
        if limits.max_tokens < 2 * self._encoder.tokens_per_step:
            raise ArmorError(
                f'max_tokens is {limits.max_tokens}, and a pair of frames takes '
                f'{self._encoder.tokens_per_step} tokens; allow at least two pairs'
            )
        self._budget = limits.max_tokens // self._encoder.tokens_per_step
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, Frame]] = deque()
        self._last_stamp = -(2**63)
        self._shape: tuple[int, ...] | None = None
        self._is_open = True
        self._reset()

    @property
    def waiting(self) -> int:
        """Frames pushed and not encoded yet."""
        return len(self._waiting)

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and embeddings held."""
        return self._prefix.cache.nbytes + sum(e.nbytes for e in self._embeddings.values())

    @property
    def nbytes_after_step(self) -> int:
        """What ``nbytes`` may be after the next ``step``, at most."""
        encoder, cache = self._encoder, self._prefix.cache
        tokens = CHUNK_PAIRS * encoder.tokens_per_step
        slots = max(self._prefix.length, encoder.opening_length) + tokens
        weight: torch.Tensor = self._model.backbone.get_input_embeddings().weight
        growth = cache.nbytes_with(slots) - cache.nbytes + tokens * weight[0].nbytes
        return self.nbytes + growth

    def push(self, stamp_ns: int, frame: Frame) -> bool:
        """
        Take a (height, width, 3) uint8 RGB frame; it must not be changed afterwards.

        Returns False when the frame is not taken: the stream is closed, too many wait, its size
        is another, or its stamp is not later than the last. The first three end the stream: that
        frame and those after it are encoded when the episode has ended.
        """
        with self._lock:
            if not self._is_open or stamp_ns <= self._last_stamp:
                return False
            is_alike = self._shape in (None, frame.shape)
            if not is_alike or len(self._waiting) >= self._limits.max_waiting:
                # What follows a gap would stand at the wrong place.
                self._is_open = False
                return False
            self._last_stamp, self._shape = stamp_ns, frame.shape
            self._waiting.append((stamp_ns, frame))
            return True

    @torch.inference_mode()
    def step(self) -> bool:
        """Encode some of what waits, about a second of video; return whether there was any."""
        count = self._encoder.frames_per_step
        fresh: dict[PairKey, Frame] = {}
        while len(fresh) < CHUNK_PAIRS and len(self._waiting) >= count:
            taken = [self._waiting.popleft() for _ in range(count)]
            key = tuple(_frame_key(*each) for each in taken)
            self._pairs.append(key)
            fresh[key] = np.stack([frame for _, frame in taken])
        stride = pair_stride(len(self._pairs), self._budget)
        wanted = [(index, self._pairs[index]) for index in range(0, len(self._pairs), stride)]
        # At once, because their frames are let go.
        self._encode([key for _, key in wanted if key in fresh], fresh.__getitem__)
        if not self._bring(wanted, fresh.__getitem__):
            return bool(fresh)
        self._prefix.complete()
        return True

    def close(self) -> None:
        """Take no more frames, and free all memory."""
        with self._lock:
            self._is_open = False
            self._waiting.clear()
        self._reset()

    @torch.inference_mode()
    def prepare(
        self,
        frames: Frame,
        stamps_ns: Sequence[int],
        fps: float,
        question: Sequence[int],
        should_stop: Callable[[], bool],
        scratch: int = 0,
    ) -> Prepared:
        """
        Bring the prefix to exactly this clip followed by this question.

        ``frames`` (N, height, width, 3); ``scratch`` tokens more will be needed behind it.
        What was streamed is kept up to the first frame that differs. Closes the stream; the
        prefix stays valid, but only its first layers have run on what is new (see
        ``SharedPrefix.complete``). Raises Canceled when asked to stop.
        """
        with self._lock:
            self._is_open = False
            self._waiting.clear()
        if fps != self._fps:
            # The frames would stand at other instants.
            self._fps, self._encoder = fps, ClipEncoder(self._engine, fps)
            self._prefix.cut(0)
            self._stored.clear()
        prefix = self._prefix
        pairs = _pair_frames(len(frames), self._encoder.frames_per_step)
        keys = [
            tuple(_frame_key(int(stamps_ns[index]), frames[index]) for index in pair)
            for pair in pairs
        ]
        stride = pair_stride(len(pairs), self._budget)
        wanted = [(index, keys[index]) for index in kept_pairs(len(pairs), stride)]
        tokens = self._encoder.opening_length + len(wanted) * self._encoder.tokens_per_step
        prefix.cache.reserve(tokens + len(question) + scratch, exactly=True)
        known = set(self._embeddings)
        late = {index for pos, key in wanted if key not in known for index in pairs[pos]}
        source = dict(zip(keys, pairs, strict=True))
        while self._bring(wanted, lambda key: frames[source[key]]):
            if should_stop():
                raise Canceled
        self._ask(question, len(pairs))
        self._reset()
        return Prepared(prefix, stride, len(late))

    def _reset(self) -> None:
        """Forget everything that was encoded."""
        self._prefix = self._engine.new_prefix()
        self._pairs: list[PairKey] = []
        self._embeddings: dict[PairKey, torch.Tensor] = {}
        # The pairs in the prefix, with their place in the clip.
        self._stored: list[tuple[int, PairKey]] = []

    def _bring(
        self, wanted: list[tuple[int, PairKey]], frames: Callable[[PairKey], Frame]
    ) -> bool:
        """Take the prefix a chunk closer to the wanted pairs; return False when it is there."""
        encoder, prefix = self._encoder, self._prefix
        common = 0
        for ours, theirs in zip(self._stored, wanted, strict=False):
            if ours != theirs:
                break
            common += 1
        if common < len(self._stored):
            tokens = encoder.tokens_per_step
            left = prefix.cut(encoder.opening_length + common * tokens)
            common = max(0, left - encoder.opening_length) // tokens
            del self._stored[common:]
            needed = {key for _, key in wanted}
            self._embeddings = {k: e for k, e in self._embeddings.items() if k in needed}
        chunk = wanted[common : common + CHUNK_PAIRS]
        if not chunk:
            return False
        self._encode([key for _, key in chunk], frames)
        self._append([self._embeddings[key] for _, key in chunk], [index for index, _ in chunk])
        self._stored += chunk
        return True

    def _encode(self, keys: Sequence[PairKey], frames: Callable[[PairKey], Frame]) -> None:
        """Put the pairs that are not encoded yet through the vision tower."""
        absent = [key for key in keys if key not in self._embeddings]
        encoded = self._encoder.encode([frames(key) for key in absent])
        self._embeddings.update(zip(absent, encoded, strict=True))

    def _append(self, steps: list[torch.Tensor], indices: list[int]) -> None:
        """Append encoded steps to the prefix, behind the opening."""
        positions = self._encoder.positions(indices)
        embeddings = torch.cat(steps).to(self._prefix.decoder.dtype)
        if not self._prefix.length:
            opening, places = self._encoder.opening()
            embeddings = torch.cat([opening, embeddings])
            positions = torch.cat([places, positions], dim=1)
        self._prefix.append(embeddings, positions)

    def _ask(self, question: Sequence[int], steps: int) -> None:
        """Append the tokens that follow a clip of so many steps."""
        start = self._encoder.following(steps)
        embeddings = self._model.embed(torch.tensor(list(question)))
        self._prefix.append(embeddings, text_positions(start, len(question)))
        self._prefix.next_position = start + len(question)


def _pair_frames(count: int, size: int) -> list[list[int]]:
    """Return the frame indices of each step of a clip; the last frame fills the last step."""
    return [
        [min(index, count - 1) for index in range(start, start + size)]
        for start in range(0, count, size)
    ]


def _frame_key(stamp_ns: int, frame: Frame) -> FrameKey:
    """
    Return what tells frames apart.

    A frame at the same instant is the same but for a fault, so that every sixteenth pixel of
    every sixteenth row is proof enough, and costs microseconds.
    """
    return stamp_ns, frame.shape, zlib.crc32(np.ascontiguousarray(frame[::16, ::16]).data)
