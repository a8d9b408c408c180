# SPDX-License-Identifier: Apache-2.0
"""Models behind an API as baselines, zero-shot or with examples (appendix B.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from armor_ros.episodes.collage import sample_indices
from armor_ros.episodes.diagnosis import InputMode
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.picture import encode_jpeg
from armor_ros.evaluation.baselines.answer import Answer, Example, parse_answer
from armor_ros.evaluation.baselines.prompts import SYSTEM, few_shot_parts, question
from armor_ros.evaluation.chat import ChatModel
from armor_ros.inference.episode_input import look
from armor_ros.model.config import ArmorConfig

MAX_FRAMES = 16


class HostedBaseline:
    """
    Shows a chat model the collage of an episode, or up to 16 frames of its clip, as JPEG.

    ``mode`` COLLAGE, the default, is one picture a task; CLIP is evenly spread frames of one
    camera. Examples are shown in the same way, before the question; with k of them the name ends
    in "(k-shot)".
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        mode: InputMode | None = None,
        camera: str = '',
        examples: Sequence[Example] = (),
        max_new_tokens: int,
    ) -> None:
        self._model = model
        self._mode = mode or InputMode.COLLAGE
        self._camera = camera
        self._max_new_tokens = max_new_tokens
        self._examples = [(example, *self._show(example.episode)) for example in examples]
        self.parallel = model.parallel
        self.name = model.name + (f' ({len(examples)}-shot)' if examples else '')

    def check(self) -> None:
        """Raise ArmorError when the model cannot be asked."""
        self._model.check()

    def answer(self, episode: Episode) -> Answer:
        """Ask the model; raises ArmorError when the episode shows nothing or nobody answers."""
        pictures, asked = self._show(episode)
        parts = few_shot_parts(self._examples, pictures, asked)
        return parse_answer(self._model.reply(SYSTEM, parts, self._max_new_tokens))

    def _show(self, episode: Episode) -> tuple[list[bytes], str]:
        """Return the JPEGs of an episode and its question."""
        mode = self._mode if episode.collage is None else InputMode.COLLAGE
        sight = look(episode, ArmorConfig(), mode, self._camera)
        shown = sample_indices(len(sight.frames), MAX_FRAMES)
        pictures = [encode_jpeg(np.ascontiguousarray(sight.frames[index])) for index in shown]
        return pictures, question(episode.task.instruction, sight.views)
