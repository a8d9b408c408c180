# SPDX-License-Identifier: Apache-2.0
"""The one thread that touches the model: it loads it, diagnoses, and encodes in between."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from armor_ros.episodes.diagnosis import (
    Diagnosis,
    InputMode,
    ModelInfo,
    ReportStatus,
    settled,
)
from armor_ros.errors import ArmorError
from armor_ros.serving.frame_store import FrameStore, ServerSession
from armor_ros.serving.messages import (
    Detection,
    ModelState,
    Refused,
    Result,
    RoundDone,
    ServerMessage,
)
from armor_ros.serving.protocol import encode
from armor_ros.serving.streams import (
    MAX_STREAMS,
    MEGABYTE,
    STREAM_MEGABYTES,
    Stream,
    StreamOpener,
    StreamPool,
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """
    A model that is ready.

    ``diagnose`` and ``open_stream`` have the signatures of the methods of
    ``armor_ros.inference.diagnoser.Diagnoser``; without ``open_stream`` all is done when an
    episode has ended. ``input_mode`` is what the checkpoint was trained with.
    """

    info: ModelInfo
    diagnose: Callable[..., Diagnosis]
    open_stream: StreamOpener | None = None
    input_mode: InputMode = InputMode.CLIP


class ModelWorker:
    """Runs ``load``, then diagnoses, in a thread of its own; a model's error becomes an answer."""

    def __init__(
        self,
        load: Callable[[], LoadedModel],
        store: FrameStore,
        max_streams: int = MAX_STREAMS,
        stream_bytes: int = STREAM_MEGABYTES * MEGABYTE,
    ) -> None:
        """``max_streams`` and ``stream_bytes`` bound what is encoded while it happens."""
        self._load = load
        self._store = store
        self._max_streams = max_streams
        self._stream_bytes = stream_bytes
        self._model: LoadedModel | None = None
        self._streams: StreamPool | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix='armor-model')
        self.state = ModelState('loading', 'the model is being loaded', None)
        self.is_beyond_repair = False

    async def load(self) -> ModelState:
        """Load the model; return the state, ready or failed, which is also ``state`` then."""
        loop = asyncio.get_running_loop()
        self.state = await loop.run_in_executor(self._executor, self._load_model)
        return self.state

    async def diagnose(self, session: ServerSession, post: Callable[[bytes], None]) -> bytes:
        """
        Diagnose a complete session; return the encoded Result or Refused.

        ``post`` is given encoded progress messages, in the model's thread.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._answer, session, post)

    async def step(self, sessions: Sequence[ServerSession]) -> bool:
        """
        Encode a little of what these sessions' cameras have seen, about a second of video.

        Returns whether there was anything to do. An error costs the session its stream.
        """
        if self._streams is None:
            return False
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._step, self._streams, sessions)

    def close(self) -> None:
        """Take no more work; what runs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _load_model(self) -> ModelState:
        started = time.monotonic()
        try:
            self._model = self._load()
            if self._model.open_stream is not None and self._max_streams:
                self._streams = StreamPool(
                    self._model.open_stream,
                    self._model.input_mode,
                    self._store,
                    self._max_streams,
                    self._stream_bytes,
                )
            state = ModelState('ready', '', self._model.info)
            encode(state)
        except BaseException as error:
            _log('the model cannot be loaded', error)
            return ModelState('failed', f'the model cannot be loaded: {describe(error)}', None)
        info = self._model.info
        _logger.info(
            'model %s (%s) is ready after %.1f s',
            info.model_id,
            info.quantization,
            time.monotonic() - started,
        )
        return state

    def _step(self, streams: StreamPool, sessions: Sequence[ServerSession]) -> bool:
        """Run in the model's thread."""
        try:
            return streams.step(sessions)
        except BaseException as error:
            _log('an episode could not be encoded while it happened', error)
            self.is_beyond_repair = self.is_beyond_repair or _breaks_device(error)
            error.__traceback__ = None  # it holds on to frames and tensors
        _release_memory()
        return True

    def _answer(self, session: ServerSession, post: Callable[[bytes], None]) -> bytes:
        """Run in the model's thread: whatever happens, there is an answer."""
        try:
            return encode(self._run(session, post))
        except BaseException as error:
            if session.stop.is_set():
                return encode(Refused(session.number, ReportStatus.CANCELED, 'canceled'))
            _log('inference failed', error)
            self.is_beyond_repair = _breaks_device(error)
            text = f'inference failed: {describe(error)}'
            error.__traceback__ = None  # it holds on to frames and tensors
        _release_memory()
        return encode(Refused(session.number, ReportStatus.MODEL_ERROR, text))

    def _run(self, session: ServerSession, post: Callable[[bytes], None]) -> ServerMessage:
        model, submit, number = self._model, session.submit, session.number
        if model is None or submit is None:
            raise ArmorError('the model is not loaded')
        stream = self._streams.take(session, submit) if self._streams is not None else None
        started, deadline = time.monotonic(), submit.settings.deadline
        end = started + deadline
        episode = self._store.take_episode(session)

        def diagnose(stream: Stream | None) -> Diagnosis:
            try:
                return model.diagnose(
                    episode,
                    submit.settings,
                    stream=stream,
                    deadline=max(0.0, end - time.monotonic()) if deadline else None,
                    on_round=lambda rounds: post(encode(RoundDone(number, tuple(rounds)))),
                    on_detection=lambda value: post(encode(Detection(number, float(value)))),
                    should_stop=session.stop.is_set,
                    usual_explanations=submit.usual_explanations,
                )
            finally:
                if stream is not None:
                    stream.close()

        try:
            diagnosis = diagnose(stream)
            asked = settled(submit.settings, model.info)
            is_reduced = diagnosis.settings.trajectories != asked.trajectories
        except BaseException as error:
            if session.stop.is_set() or not self._streams or not _is_out_of_memory(error):
                raise
            error.__traceback__ = None
            is_reduced = True
        if is_reduced and self._streams:
            # Other episodes' streams are not to change the answer on this one.
            _logger.warning('memory ran out: all streams are closed, and inference begins anew')
            self._streams.close()
            _release_memory()
            diagnosis = diagnose(self._streams.late(session))
        return Result(number, diagnosis, time.monotonic() - started)


def describe(error: BaseException) -> str:
    """Return an error in one line of at most 500 characters."""
    text = ' '.join(str(error).split())
    if not isinstance(error, ArmorError):
        text = f'{type(error).__name__}: {text}' if text else type(error).__name__
    return text.encode(errors='replace').decode()[:500]


def _log(what: str, error: BaseException) -> None:
    """Log a user's mistake in a sentence, everything else with its traceback."""
    if isinstance(error, ArmorError):
        _logger.error('%s: %s', what, error)
    else:
        _logger.error('%s', what, exc_info=error)


def _breaks_device(error: BaseException) -> bool:
    """Whether the accelerator refuses all further work of this process after this error."""
    if type(error).__name__ == 'OutOfMemoryError':
        return False
    return type(error).__name__ == 'AcceleratorError' or 'CUDA error' in str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether more memory would have helped; ``ModelError`` says so in words."""
    if isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError':
        return True
    return isinstance(error, ArmorError) and 'memory' in str(error)


def _release_memory() -> None:
    """Give back what a failed inference held, so that the next one starts afresh."""
    gc.collect()
    torch = sys.modules.get('torch')
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
