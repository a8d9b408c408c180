# SPDX-License-Identifier: Apache-2.0
"""Answers of the fine-tuning baselines: one generated text with both (appendix B.4)."""

from __future__ import annotations

import torch

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.episodes.episode import Episode
from armor_ros.evaluation.baselines import Answer, parse_answer
from armor_ros.inference.diagnoser import Diagnoser
from armor_ros.inference.errors import ModelError
from armor_ros.inference.generation import generate
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.model.armor import ArmorModel
from armor_ros.model.attention import causal_bias
from armor_ros.training.conditioning import SFT_REQUEST

MAX_NEW_TOKENS = 120
_THINK = '<think>'
# Of a thought that is forced, tokens that are tried until it has begun.
_OPENING_TOKENS = 12
# Likeliest tokens among which its next one is looked for.
_CANDIDATES = 1024


class SftAnswers:
    """
    Asks a fine-tuned model as it was taught, and reads what it writes; greedily.

    With ``thinks`` the model may not leave its thought empty: after ``<think>`` it takes the
    likeliest token with which a thought can begin. Models taught with many sparse samples, whose
    thoughts are empty, write few of their own accord, though they could. The failure probability
    is that of the whole text with "No" against the same text with "Yes".
    """

    parallel = 1

    def __init__(
        self, model: ArmorModel, *, thinks: bool = False, max_new_tokens: int = MAX_NEW_TOKENS
    ) -> None:
        self._diagnoser = Diagnoser(model, drafts=False)
        self._prompts = model.prompts
        self._suffix = tuple(model.prompts.free_suffix(SFT_REQUEST))
        self._thinks = thinks
        self._limit = max_new_tokens
        self.name = f'{model.info.model_id}{" (made to think)" if thinks else ""}'
        self.weights_hash = model.info.weights_hash

    def check(self) -> None:
        """Nothing can be missing once it is loaded."""

    @torch.inference_mode()
    def answer(self, episode: Episode) -> Answer:
        """Answer on one episode. Raises ArmorError when it shows nothing or the model fails."""
        settings = RefinementSettings(trajectories=1, max_new_tokens=self._limit)
        prefix = self._diagnoser.prefill(episode, settings, lambda: False)
        opening = self._opening(prefix) if self._thinks else []
        if opening is None:
            return Answer(None, '', unparsable=True)
        prompt = [*self._suffix, *opening]
        chance = torch.zeros(1, self._limit)
        said = generate(prefix, [prompt], chance, 0.0, lambda: False)[0].tokens
        text = self._prompts.decode([*opening, *said])
        answer = parse_answer(text)
        if answer.failed is None:
            return answer
        return parse_answer(text, self._failure_probability(prefix, answer.explanation))

    def _opening(self, prefix: SharedPrefix) -> list[int] | None:
        """Return the likeliest tokens up to the first word of a thought; None if there is none."""
        tokens: list[int] = []
        for _ in range(_OPENING_TOKENS):
            logits = self._logits(prefix, [*self._suffix, *tokens])[-1]
            chosen = next(
                (
                    token
                    for token in logits.argsort(descending=True)[:_CANDIDATES].tolist()
                    if self._may_begin([*tokens, token])
                ),
                None,
            )
            if chosen is None:
                return None
            tokens.append(chosen)
            text = self._prompts.decode(tokens)
            if text.startswith(_THINK) and text.removeprefix(_THINK).strip():
                return tokens
        return None

    def _may_begin(self, tokens: list[int]) -> bool:
        """Tell whether a text can go on to a thought: a part of "<think>", or it and a letter."""
        if tokens[-1] in self._prompts.stop_ids:
            return False
        text = self._prompts.decode(tokens)
        if len(text) <= len(_THINK):
            return bool(text) and _THINK.startswith(text)
        thought = text.removeprefix(_THINK).strip()
        return text.startswith(_THINK) and thought[:1].isalnum()

    def _failure_probability(self, prefix: SharedPrefix, thought: str) -> float:
        """Return the probability of "No" against "Yes" behind a thought."""
        failure, success = (
            self._likelihood(prefix, f'{_THINK}{thought}</think> <answer>{word}</answer>')
            for word in ('No', 'Yes')
        )
        return float(torch.sigmoid(failure - success))

    def _likelihood(self, prefix: SharedPrefix, text: str) -> torch.Tensor:
        """Return the logarithm of a text's probability, end token included."""
        tokens = self._prompts.explanation_tokens(text)
        logits = self._logits(prefix, [*self._suffix, *tokens[:-1]])[len(self._suffix) - 1 :]
        chances = logits.double().log_softmax(-1)
        targets = torch.tensor(tokens, device=chances.device)
        return chances.gather(1, targets[:, None]).sum()

    def _logits(self, prefix: SharedPrefix, tokens: list[int]) -> torch.Tensor:
        """Return the logits (N, V) behind each of N tokens that follow a prefix."""
        decoder, model = prefix.decoder, prefix.model
        prefix.cache.reserve(prefix.length + len(tokens))
        positions = torch.arange(len(tokens)) + prefix.next_position
        embeddings = model.embed(torch.tensor(tokens))
        bias = causal_bias(len(tokens), embeddings.device)
        run = decoder.begin(prefix.length, embeddings, positions.expand(3, -1), bias)
        run, _ = decoder.early_layers(run, prefix.cache)
        logits = decoder.language_logits(decoder.late_layers(run, prefix.cache))
        if not torch.isfinite(logits).all():
            raise ModelError('the model answered with a value that is not a number')
        return logits
