# SPDX-License-Identifier: Apache-2.0
"""Any image-text or video-text model of Hugging Face, zero-shot (appendix B.4)."""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from armor_ros.episodes.diagnosis import InputMode
from armor_ros.episodes.episode import Episode
from armor_ros.evaluation.baselines.adapters import make_adapter
from armor_ros.evaluation.baselines.answer import Answer, parse_answer
from armor_ros.evaluation.baselines.prompts import SYSTEM, question
from armor_ros.evaluation.hugging_face import generate_text, load_model
from armor_ros.inference.episode_input import look
from armor_ros.model.config import ArmorConfig

_OPENED = re.compile(r'<answer>\s*$', re.IGNORECASE)
# Tokens that are decoded to see whether the answer comes next.
_TAIL = 16
_YES = ('Yes', 'yes', 'YES', ' Yes', ' yes')
_NO = ('No', 'no', 'NO', ' No', ' no')


class HuggingFaceBaseline:
    """
    Generates the answer greedily, with the general prompt and the model's own chat template.

    The failure probability is that of "No" against "Yes" as the first token of the answer; None
    where the answer is unparsable, or its tokens do not show where the answer begins. ``mode``
    None means the clip, a ready collage apart. Raises ArmorError when it cannot be loaded.
    """

    parallel = 1

    def __init__(
        self,
        path: str,
        *,
        mode: InputMode | None = None,
        camera: str = '',
        device: str = 'auto',
        max_new_tokens: int,
    ) -> None:
        self._loaded = load_model(path, AutoModelForImageTextToText, device)
        self._adapter = make_adapter(self._loaded)
        self._words = _AnswerWords(self._loaded.tokenizer)
        self._mode = mode or InputMode.CLIP
        self._camera = camera
        self._max_new_tokens = max_new_tokens
        self.name = f'hf:{self._loaded.name}'
        self.weights_hash = self._loaded.weights_hash

    def check(self) -> None:
        """Nothing can be missing once it is loaded."""

    def answer(self, episode: Episode) -> Answer:
        """Answer on one episode. Raises ArmorError when it shows nothing or the model fails."""
        mode = self._mode if episode.collage is None else InputMode.COLLAGE
        sight = look(episode, ArmorConfig(), mode, self._camera)
        asked = question(episode.task.instruction, sight.views)
        limit = self._max_new_tokens
        inputs = self._adapter.inputs(sight, episode.fps, SYSTEM, asked, limit)
        watcher = _AnswerWatcher(self._words, self._loaded.tokenizer, inputs['input_ids'].shape[1])
        text = generate_text(self._loaded, inputs, limit, watcher)
        return parse_answer(text, watcher.failure_probability)


class _AnswerWords:
    """The tokens that "Yes" and "No" begin with, where they tell one from the other."""

    def __init__(self, tokenizer: Any) -> None:
        yes, no = _first_tokens(tokenizer, _YES), _first_tokens(tokenizer, _NO)
        self.yes, self.no = sorted(yes - no), sorted(no - yes)

    def failure_probability(self, logits: torch.Tensor) -> float | None:
        """Return the share of "No" in the probability of both, from (V,) logits."""
        if not self.yes or not self.no:
            return None
        logits = logits.float()
        success, failure = (logits[ids].logsumexp(0) for ids in (self.yes, self.no))
        probability = torch.sigmoid(failure - success).item()
        return probability if 0.0 <= probability <= 1.0 else None


class _AnswerWatcher:
    """Sees every step of a generation; keeps the probability where the answer begins."""

    def __init__(self, words: _AnswerWords, tokenizer: Any, prompt_length: int) -> None:
        self._words = words
        self._tokenizer = tokenizer
        self._prompt_length = prompt_length
        self.failure_probability: float | None = None

    def __call__(self, tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        tail = tokens[0, self._prompt_length :][-_TAIL:]
        if len(tail) and _OPENED.search(self._tokenizer.decode(tail)):
            self.failure_probability = self._words.failure_probability(logits[0])
        return logits


def _first_tokens(tokenizer: Any, words: tuple[str, ...]) -> set[int]:
    return {tokenizer(word, add_special_tokens=False)['input_ids'][0] for word in words}
