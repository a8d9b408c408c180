# SPDX-License-Identifier: Apache-2.0
"""pi_theta on one clip: detection and explanation behind a prefix that is computed once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.inference.algorithm2 import Detection, Explanation
from armor_ros.inference.drafts import Drafter
from armor_ros.inference.errors import Canceled, OutOfTime
from armor_ros.inference.generation import Generated, generate
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.inference.sampling import entropies, uniforms
from armor_ros.model.attention import causal_bias
from armor_ros.model.prompts import PreviousAnswer


class ModelPolicy:
    """
    The model's answers about one clip (see ``algorithm2.Policy``).

    ``drafter`` None decodes without drafts. ``out_of_time`` is asked before each step: the texts
    of round 0 are cut when it becomes true, a later round is given up (OutOfTime).
    """

    def __init__(
        self,
        prefix: SharedPrefix,
        settings: RefinementSettings,
        should_stop: Callable[[], bool],
        drafter: Drafter | None = None,
        out_of_time: Callable[[], bool] | None = None,
    ) -> None:
        self._model = prefix.model
        self._prefix = prefix
        self._settings = settings
        self._should_stop = should_stop
        self._drafter = drafter
        self._out_of_time = out_of_time
        self._account: str | None = None

    @property
    def account(self) -> str:
        """What the prompts quote of the clip; empty before the first question."""
        return self._account or ''

    def detect(self, previous: Sequence[PreviousAnswer]) -> list[Detection]:
        """Return the label's distribution given each trajectory's previous answer."""
        if self._should_stop():
            raise Canceled
        if previous[0] != PreviousAnswer():
            self._check_time()
        different = list(dict.fromkeys(previous))
        logits = self._detection_logits(self._with_account(different))
        answers = detections(logits, self._model.config.head.failure_index)
        return [answers[different.index(answer)] for answer in previous]

    def explain(self, previous: Sequence[PreviousAnswer], round_index: int) -> list[Explanation]:
        """Return a sampled explanation given each trajectory's previous answer."""
        if self._settings.temperature == 0.0:
            # Without chance, the same prompt has the same answer, to the last digit.
            different = list(dict.fromkeys(previous))
        else:
            different = list(previous)
        generated = self._generate(self._with_account(different), round_index)
        decode = self._model.prompts.decode
        answers = [Explanation(decode(text.tokens), text.entropy) for text in generated]
        if len(different) == len(previous):
            return answers
        return [answers[different.index(answer)] for answer in previous]

    def _with_account(self, previous: Sequence[PreviousAnswer]) -> list[PreviousAnswer]:
        """Return the same answers behind the account of the clip, which is asked for once."""
        if self._account is None:
            self._account = self._tell()
        return [dataclasses.replace(answer, account=self._account) for answer in previous]

    def _tell(self) -> str:
        """
        Return the likeliest account of the clip.

        The checkpoint's ``PromptConfig.account_task`` asks for it. It is empty without, and when
        time runs out before its end.
        """
        model, settings = self._model, self._settings
        task = model.config.prompts.account_task
        if not task:
            return ''
        try:
            (told,) = generate(
                self._prefix,
                [model.prompts.free_suffix(task)],
                torch.zeros(1, settings.max_new_tokens, dtype=torch.float64),
                0.0,
                self._should_stop,
                out_of_time=self._check_time,
            )
        except OutOfTime:
            return ''
        return model.prompts.decode(told.tokens)

    def _generate(self, previous: Sequence[PreviousAnswer], round_index: int) -> list[Generated]:
        """Sample a text for each previous answer."""
        settings, prompts = self._settings, self._model.prompts
        numbers = torch.stack(
            [
                uniforms(settings.seed, 'token', round_index, m, settings.max_new_tokens)
                for m in range(len(previous))
            ]
        )
        if self._drafter is not None:
            texts = [each.explanation for each in previous]
            self._drafter.begin_round(
                [prompts.explanation_tokens(text) if text else [] for text in texts]
            )
        return generate(
            self._prefix,
            [prompts.reasoning_suffix(answer) for answer in previous],
            numbers,
            settings.temperature,
            self._should_stop,
            drafter=self._drafter,
            out_of_time=self._out_of_time if round_index == 0 else self._check_time,
        )

    def _check_time(self) -> bool:
        """Return False; raises OutOfTime when the deadline has passed."""
        if self._out_of_time is not None and self._out_of_time():
            raise OutOfTime
        return False

    def _detection_logits(self, previous: Sequence[PreviousAnswer]) -> torch.Tensor:
        """Run the detection's tokens for all answers, packed, through the first layers."""
        model, prefix = self._model, self._prefix
        suffixes = [model.prompts.detection_suffix(answer) for answer in previous]
        sizes = [len(suffix) for suffix in suffixes]
        device = model.device
        bias = torch.full((sum(sizes), sum(sizes)), -torch.inf, device=device)
        places: list[int] = []
        for size in sizes:
            own = slice(len(places), len(places) + size)
            bias[own, own] = causal_bias(size, device)
            places += range(prefix.next_position, prefix.next_position + size)
        prefix.cache.reserve(prefix.length + sum(sizes), exactly=True)
        embeddings = model.embed(torch.tensor([token for ids in suffixes for token in ids]))
        positions = torch.tensor(places, device=device).expand(3, -1)
        run = prefix.decoder.begin(prefix.length, embeddings, positions, bias)
        _, features = prefix.decoder.early_layers(run, prefix.cache)
        return prefix.reader.classify(
            [prefix.summary.merge(prefix.reader.summarize(own)) for own in features.split(sizes)]
        )


def detections(logits: torch.Tensor, failure_index: int) -> list[Detection]:
    """Turn logits (B, 2) into distributions; raises ModelError when they are not finite."""
    label_entropies = entropies(logits).tolist()
    probabilities = torch.softmax(logits.double(), dim=-1)[:, failure_index].tolist()
    return [
        Detection(probability, entropy)
        for probability, entropy in zip(probabilities, label_entropies, strict=True)
    ]
