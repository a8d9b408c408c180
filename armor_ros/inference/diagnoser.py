# SPDX-License-Identifier: Apache-2.0
"""Diagnoser: an Episode in, a Diagnosis out (Algorithm 2)."""

from __future__ import annotations

import dataclasses
import gc
import logging
import math
import time
from collections.abc import Callable, Sequence

import torch

from armor_ros.episodes.diagnosis import (
    Diagnosis,
    InputMode,
    RefinementSettings,
    diagnosis_of,
    settled,
)
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.text_verdict import TextVerdict
from armor_ros.errors import ArmorError
from armor_ros.inference.algorithm2 import (
    OnDetection,
    OnRound,
    Refinement,
    check_settings,
    refine,
)
from armor_ros.inference.decision import Decision
from armor_ros.inference.drafts import DraftBudget, Drafter
from armor_ros.inference.engine import Engine
from armor_ros.inference.episode_input import chosen_clip, episode_input
from armor_ros.inference.errors import Canceled, ModelError
from armor_ros.inference.policy import ModelPolicy
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.inference.stream import DEFAULT_LIMITS, EpisodeStream, Prepared, StreamLimits
from armor_ros.model.armor import ArmorModel
from armor_ros.model.products import forget_copies

# Table 5 of the paper.
PAPER_SETTINGS = RefinementSettings()

# Tokens of a suffix beside the previous explanation, with room to spare.
_SUFFIX_TOKENS = 48

_logger = logging.getLogger(__name__)


class Diagnoser:
    """
    Answers for one model, one episode at a time.

    The same episode and settings give an equal Diagnosis. Not thread-safe by promise: use one
    thread a Diagnoser and its streams (but ``EpisodeStream.push``).
    """

    def __init__(
        self,
        model: ArmorModel,
        *,
        usual_explanations: Sequence[str] = (),
        drafts: bool = True,
        limits: StreamLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Prepare to answer with the weights that ``model`` has at the time; it is put in eval mode.

        When its weights change, as in training, streams that were opened before are to be closed.

        ``usual_explanations`` are texts that the model is likely to say, the likeliest first;
        like ``drafts`` they make answers faster, never different. ``clock`` gives seconds, for
        deadlines.
        """
        self.model = model
        self._engine = Engine(model)
        self._decision = Decision(
            model.calibration, model.config.input_mode, model.why_uncalibrated
        )
        # What words mean does not depend on the settings that probabilities are calibrated for.
        words = model.calibration.words if model.calibration else {}
        self._text_verdict = TextVerdict(words) if words else None
        self._budget = DraftBudget.of_device(model.device.type) if drafts else None
        self._usual_explanations = tuple(usual_explanations)
        self._usual_tokens: dict[str, list[int]] = {}
        self._limits = limits
        self._clock = clock

    def open_stream(self, *, fps: float | None = None, camera: str = '') -> EpisodeStream:
        """
        Open a stream for an episode that has begun (see ``EpisodeStream``).

        ``fps`` is the rate at which its frames are sampled, by default the checkpoint's.
        """
        return EpisodeStream(self._engine, fps=fps, camera=camera, limits=self._limits)

    def diagnose(
        self,
        episode: Episode,
        settings: RefinementSettings = PAPER_SETTINGS,
        *,
        stream: EpisodeStream | None = None,
        deadline: float | None = None,
        on_round: OnRound | None = None,
        on_detection: OnDetection | None = None,
        should_stop: Callable[[], bool] | None = None,
        usual_explanations: Sequence[str] = (),
    ) -> Diagnosis:
        """
        Run Algorithm 2 on an episode.

        ``settings.rounds`` and ``trajectories`` 0 are those of the checkpoint's calibration, else
        the paper's; the returned settings say how many. What ``stream`` has encoded of the episode
        is used as far as it is the episode's own, and the rest counts as ``late_frames``; the
        stream is closed.
        ``deadline`` is in seconds from now: when it has passed, the answer is the best of the
        rounds that are complete, or round 0 with its texts cut, marked ``deadline_reached``;
        there is always a detection. ``on_detection`` is told round 0's failure probability before
        any explanation is, ``on_round`` the answers of all trajectories after each round.
        ``should_stop`` is asked before each step of the decoder and each chunk of the clip.
        ``usual_explanations`` go before those given at construction.

        When memory runs out, everything is freed and tried once more with one trajectory (which
        the returned settings say), and callbacks may then hear of round 0 again.

        Raises Canceled when ``should_stop`` is true, ModelError when the model's numbers are not
        finite or memory does not suffice, ArmorError on bad settings, an error level that nothing
        vouches for, or an episode without frames.
        """
        settings = settled(settings, self.model.info)
        check_settings(settings)
        self._decision.check(settings, episode.fps)
        asked = settings
        stop = should_stop if should_stop is not None else _never
        out_of_time = self._timer(deadline)
        was_streamed = stream is not None
        usual = self._tokens_of((*usual_explanations, *self._usual_explanations))

        def attempt(settings: RefinementSettings, stream: EpisodeStream | None) -> Diagnosis:
            with torch.inference_mode():
                prepared = self._prepare(episode, settings, stop, stream)
                if not was_streamed:
                    prepared = dataclasses.replace(prepared, late_frames=0)
                drafter = Drafter(self._budget, usual) if self._budget else None
                policy = ModelPolicy(prepared.prefix, settings, stop, drafter, out_of_time)
                outcome = refine(
                    policy, settings, on_round, on_detection, out_of_time, self._text_verdict
                )
            diagnosis = self._diagnosis(outcome, policy.account, settings, prepared)
            return self._decision.apply(diagnosis, asked, episode.fps)

        try:
            return self._with_retry(attempt, settings, stream)
        finally:
            if stream is not None:
                stream.close()

    def prefill(
        self,
        episode: Episode,
        settings: RefinementSettings,
        should_stop: Callable[[], bool],
    ) -> SharedPrefix:
        """Compute what all rounds and trajectories on an episode share."""
        with torch.inference_mode():
            prefix = self._prepare(episode, settings, should_stop, None).prefix
            prefix.complete(should_stop)
        return prefix

    def _with_retry(
        self,
        attempt: Callable[[RefinementSettings, EpisodeStream | None], Diagnosis],
        settings: RefinementSettings,
        stream: EpisodeStream | None,
    ) -> Diagnosis:
        """Try; when memory runs out, once more with as little as possible."""
        try:
            return attempt(settings, stream)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            _logger.warning('out of memory; trying again with one trajectory: %s', error)
        # Outside of the handler, where the error no longer holds on to tensors.
        if stream is not None:
            stream.close()
        _free_memory(self.model.device)
        try:
            return attempt(dataclasses.replace(settings, trajectories=1), None)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        _free_memory(self.model.device)
        raise ModelError(
            f'the memory of {self.model.device} does not suffice for this episode, even with one '
            'trajectory; use a smaller or quantized model, or a lower limit of tokens'
        )

    def _prepare(
        self,
        episode: Episode,
        settings: RefinementSettings,
        should_stop: Callable[[], bool],
        stream: EpisodeStream | None,
    ) -> Prepared:
        """Bring an episode's prefix to its end, on the basis of what was streamed."""
        if should_stop():
            raise Canceled
        config = self.model.config
        mode = config.input_mode if settings.input_mode is None else settings.input_mode
        if mode is not InputMode.CLIP:
            return Prepared(self._see_collage(episode, settings))
        clip = chosen_clip(episode, settings.camera)
        if stream is None or stream.camera not in ('', clip.evidence.camera):
            stream = self.open_stream(fps=episode.fps)
        question = self.model.prompts.prefix(episode.task.instruction).after
        scratch = settings.trajectories * (2 * settings.max_new_tokens + _SUFFIX_TOKENS)
        prepared = stream.prepare(
            clip.frames, clip.stamps_ns.tolist(), episode.fps, question, should_stop, scratch
        )
        if prepared.frame_stride > 1:
            _logger.warning(
                'task %r: of %d frames only every %d. pair is looked at',
                episode.task.task_id, len(clip.frames), prepared.frame_stride,
            )  # fmt: skip
        return prepared

    def _see_collage(self, episode: Episode, settings: RefinementSettings) -> SharedPrefix:
        """Return the prefix of an episode's collage, which needs the whole episode."""
        model, prefix = self.model, self._engine.new_prefix()
        seen = episode_input(
            episode, model.config, model.geometry, settings.input_mode, settings.camera
        )
        tokens = model.prompts.prefix(episode.task.instruction, seen.views)
        positions, prefix.next_position = model.prefix_positions(tokens, seen.vision)
        parts = (
            model.embed(torch.tensor(tokens.before)),
            self._engine.encode_vision(seen.vision).to(prefix.decoder.dtype),
            model.embed(torch.tensor(tokens.after)),
        )
        prefix.append(torch.cat(parts), positions)
        return prefix

    def _tokens_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Return what the model would generate for each text; the same ones come every time."""
        known, encode = self._usual_tokens, self.model.prompts.explanation_tokens
        self._usual_tokens = {text: known.get(text) or encode(text) for text in texts}
        return list(self._usual_tokens.values())

    def _timer(self, deadline: float | None) -> Callable[[], bool] | None:
        """Return a function that tells whether ``deadline`` seconds from now have passed."""
        if deadline is None:
            return None
        if not (math.isfinite(deadline) and deadline >= 0):
            raise ArmorError(f'deadline is {deadline}; it must be a number of seconds from 0 on')
        end = self._clock() + deadline
        return lambda: self._clock() >= end

    def _diagnosis(
        self,
        outcome: Refinement,
        account: str,
        settings: RefinementSettings,
        prepared: Prepared,
    ) -> Diagnosis:
        """Report the selected answer with everything that led to it."""
        return dataclasses.replace(
            diagnosis_of(outcome.trace, settings, self.model.info),
            deadline_reached=outcome.deadline_reached,
            frame_stride=prepared.frame_stride,
            late_frames=prepared.late_frames,
            account=account,
        )


def _never() -> bool:
    """Never stop."""
    return False


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory of the device or of the machine ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "can't allocate memory" in str(error) or 'not enough memory' in str(error)


def _free_memory(device: torch.device) -> None:
    """Give back all memory that nothing refers to, and what only makes things faster."""
    forget_copies()
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.empty_cache()
