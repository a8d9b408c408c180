# SPDX-License-Identifier: Apache-2.0
"""The one thread that touches the model: loads it, then diagnoses one episode at a time."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from armor_ros.episodes.diagnosis import Diagnosis, ModelInfo, ReportStatus
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

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """
    A model that is ready.

    ``diagnose`` has the signature of ``armor_ros.inference.diagnoser.Diagnoser.diagnose``.
    """

    info: ModelInfo
    diagnose: Callable[..., Diagnosis]


class ModelWorker:
    """Runs ``load``, then diagnoses, in a thread of its own; a model's error becomes an answer."""

    def __init__(self, load: Callable[[], LoadedModel], store: FrameStore) -> None:
        self._load = load
        self._store = store
        self._model: LoadedModel | None = None
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

    def close(self) -> None:
        """Take no more work; what runs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _load_model(self) -> ModelState:
        started = time.monotonic()
        try:
            self._model = self._load()
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
        if self._model is None or session.submit is None:
            raise ArmorError('the model is not loaded')
        number, settings = session.number, session.submit.settings
        episode = self._store.take_episode(session)
        started = time.monotonic()
        diagnosis = self._model.diagnose(
            episode,
            settings,
            on_round=lambda rounds: post(encode(RoundDone(number, tuple(rounds)))),
            on_detection=lambda value: post(encode(Detection(number, float(value)))),
            should_stop=session.stop.is_set,
        )
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


def _release_memory() -> None:
    """Give back what a failed inference held, so that the next one starts afresh."""
    gc.collect()
    torch = sys.modules.get('torch')
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
