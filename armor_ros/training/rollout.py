# SPDX-License-Identifier: Apache-2.0
"""
The policy's own answers over the rounds of online refinement (the sampling of Algorithm 1).

All clips of a batch answer side by side. A clip's prefix runs once for all rounds; detection
leaves after the layers that its head needs; the last round's answer, which no prompt would quote,
is not generated. Nothing here has a gradient.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from armor_ros.inference.sampling import choose_tokens, uniforms
from armor_ros.model.armor import ArmorModel
from armor_ros.model.backbone import decoder_layers, final_norm
from armor_ros.model.batch import causal_mask, left_pad
from armor_ros.model.prompts import PreviousAnswer
from armor_ros.training.packing import Clip


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """
    How answers are sampled.

    ``rounds`` is T. Labels are drawn from their distribution unless ``sample_label`` is off, texts
    at ``temperature``, up to ``max_new_tokens``.
    """

    rounds: int = 3
    temperature: float = 0.7
    max_new_tokens: int = 80
    sample_label: bool = True


def rollout(
    model: ArmorModel,
    clips: Sequence[Clip],
    names: Sequence[str],
    settings: RolloutSettings,
    seed: int,
) -> list[list[PreviousAnswer]]:
    """
    Return for each clip what its prompts quote in rounds 0 to T - 1.

    In round 0 that is nothing but the account, where the checkpoint asks for one.

    ``names`` are the samples' ids: a clip's answers depend on its name, the seed and the weights,
    never on the clips beside it. The model answers in eval mode, and is then as it was.
    """
    with _answering(model, clips) as policy:
        previous = policy.told(settings.max_new_tokens)
        history = [previous]
        for index in range(settings.rounds - 1):
            failed = policy.labels(previous, names, settings, seed, index)
            texts = policy.explanations(previous, names, settings, seed, index)
            previous = [
                dataclasses.replace(before, failed=label, explanation=text)
                for before, label, text in zip(previous, failed, texts, strict=True)
            ]
            history.append(previous)
    return [list(answers) for answers in zip(*history, strict=True)]


def say(model: ArmorModel, clips: Sequence[Clip], suffix: Sequence[int], limit: int) -> list[str]:
    """Return the likeliest text of up to ``limit`` tokens behind a prompt, for each clip."""
    with _answering(model, clips) as policy:
        return policy.texts([suffix] * len(clips), torch.zeros(len(clips), limit), 0.0)


def tell(model: ArmorModel, clips: Sequence[Clip], limit: int) -> list[str]:
    """Return an account of each clip in up to ``limit`` tokens; '' where none is asked for."""
    if not model.config.prompts.account_task:
        return [''] * len(clips)
    with _answering(model, clips) as policy:
        return [before.account for before in policy.told(limit)]


def propose(
    model: ArmorModel,
    clips: Sequence[Clip],
    names: Sequence[str],
    accepts: Callable[[int, str], bool],
    tries: int,
    settings: RolloutSettings,
) -> list[str]:
    """
    Return of each clip the first of ``tries`` sampled explanations that is accepted, else ''.

    ``accepts`` is asked with the clip's place and the text. As in ``rollout``, a clip's texts
    depend on its name and the weights alone.
    """
    found = [''] * len(clips)
    with _answering(model, clips) as policy:
        previous = policy.told(settings.max_new_tokens)
        for index in range(tries):
            texts = policy.explanations(previous, names, settings, 0, index)
            for place, text in enumerate(texts):
                if not found[place] and accepts(place, text):
                    found[place] = text
            if all(found):
                break
    return found


@contextlib.contextmanager
def _answering(model: ArmorModel, clips: Sequence[Clip]) -> Iterator[BatchPolicy]:
    """Let the model answer in eval mode and without gradients, and leave it as it was."""
    trained = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield BatchPolicy(model, clips)
    finally:
        model.train(trained)


class _Cache:
    """
    Keys and values of B rows, written in place; what lies behind ``length`` may be overwritten.

    It has the one method that transformers' decoder layers call.
    """

    def __init__(self, layers: int) -> None:
        self.length = 0
        self._stores: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * layers

    def reserve(self, capacity: int) -> None:
        """Make room for ``capacity`` tokens a row."""
        for index, stores in enumerate(self._stores):
            if stores is None or stores[0].shape[2] >= capacity:
                continue
            keys, values = (
                torch.cat([s, s.new_empty(*s.shape[:2], capacity - s.shape[2], s.shape[3])], 2)
                for s in stores
            )
            self._stores[index] = (keys, values)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (B, heads, S, size) behind ``length``; return all up to there and them."""
        stores = self._stores[layer]
        if stores is None:
            self._stores[layer] = (keys, values)
            return keys, values
        end = self.length + keys.shape[2]
        stores[0][:, :, self.length : end] = keys
        stores[1][:, :, self.length : end] = values
        return stores[0][:, :, :end], stores[1][:, :, :end]


class BatchPolicy:
    """The model's answers to B clips, whose prefixes are padded at the front."""

    def __init__(self, model: ArmorModel, clips: Sequence[Clip]) -> None:
        self._model = model
        self._layers = list(decoder_layers(model.backbone))
        self._early = max(model.config.head.pooled_layers)
        self._cache = _Cache(len(self._layers))
        self._next = torch.tensor([clip.next_position for clip in clips], device=model.device)
        longest = max(clip.length for clip in clips)
        embedded = [_embed(model, clip) for clip in clips]
        embeddings = embedded[0].new_zeros(len(clips), longest, embedded[0].shape[1])
        positions = torch.zeros(3, len(clips), longest, dtype=torch.int64)
        self._valid = torch.zeros(len(clips), longest, dtype=torch.bool)
        for row, (clip, tokens) in enumerate(zip(clips, embedded, strict=True)):
            embeddings[row, longest - clip.length :] = tokens
            positions[:, row, longest - clip.length :] = clip.positions.cpu()
            self._valid[row, longest - clip.length :] = True
        self._valid = self._valid.to(model.device)
        hidden, self._features = self._run_early(
            embeddings, positions.to(model.device), self._valid
        )
        self._run_late(hidden, positions.to(model.device), self._valid)
        self._cache.length = longest

    def told(self, limit: int) -> list[PreviousAnswer]:
        """Return what is quoted before any answer: the account, where one is asked for."""
        task, clips = self._model.config.prompts.account_task, len(self._next)
        if not task:
            return [PreviousAnswer()] * clips
        suffixes = [self._model.prompts.free_suffix(task)] * clips
        accounts = self.texts(suffixes, torch.zeros(clips, limit), 0.0)
        return [PreviousAnswer(account=account) for account in accounts]

    def labels(
        self,
        previous: Sequence[PreviousAnswer],
        names: Sequence[str],
        settings: RolloutSettings,
        seed: int,
        index: int,
    ) -> list[bool]:
        """Return whether each clip's task failed: drawn, or the likelier."""
        probabilities = self.failure_probabilities(previous)
        if not settings.sample_label:
            return [probability >= 0.5 for probability in probabilities]
        return [
            float(uniforms(seed, f'label/{name}', index, 0, 1)[0]) < probability
            for name, probability in zip(names, probabilities, strict=True)
        ]

    def failure_probabilities(self, previous: Sequence[PreviousAnswer]) -> list[float]:
        """Return how likely each clip's task failed, given an answer of before."""
        suffixes = [self._model.prompts.detection_suffix(each) for each in previous]
        hidden, positions, valid = self._prompt(suffixes, 0)
        _, features = self._run_early(hidden, positions, valid)
        logits = self._model.detection_logits(torch.cat([self._features, features], 1), valid)
        failure = self._model.config.head.failure_index
        probabilities: list[float] = logits.double().softmax(-1)[:, failure].tolist()
        return probabilities

    def likeliest(self, previous: Sequence[PreviousAnswer], limit: int) -> list[str]:
        """Return the likeliest explanation of each clip, given an answer of before."""
        suffixes = [self._model.prompts.reasoning_suffix(each) for each in previous]
        return self.texts(suffixes, torch.zeros(len(suffixes), limit), 0.0)

    def explanations(
        self,
        previous: Sequence[PreviousAnswer],
        names: Sequence[str],
        settings: RolloutSettings,
        seed: int,
        index: int,
    ) -> list[str]:
        """Return a sampled explanation of each clip."""
        limit = settings.max_new_tokens
        numbers = torch.stack([uniforms(seed, f'token/{name}', index, 0, limit) for name in names])
        suffixes = [self._model.prompts.reasoning_suffix(each) for each in previous]
        return self.texts(suffixes, numbers, settings.temperature)

    def texts(
        self, suffixes: Sequence[Sequence[int]], numbers: torch.Tensor, temperature: float
    ) -> list[str]:
        """
        Return a text of each clip behind a prompt of its own.

        ``numbers`` (B, tokens) in [0, 1) choose them; their count is the most that is said.
        """
        prompts, limit = self._model.prompts, numbers.shape[1]
        tokens: list[list[int]] = [[] for _ in suffixes]
        active = list(range(len(suffixes)))
        hidden, positions, valid = self._prompt(suffixes, limit)
        before = self._cache.length
        for step in range(limit):
            logits = self._logits(hidden, positions, valid)
            self._cache.length += hidden.shape[1]
            chosen = choose_tokens(logits, temperature, numbers[:, step]).tolist()
            for row in list(active):
                if chosen[row] in prompts.stop_ids:
                    active.remove(row)
                else:
                    tokens[row].append(chosen[row])
            if not active:
                break
            hidden = self._model.embed(torch.tensor(chosen)[:, None])
            positions = positions[..., -1:] + 1
            valid = torch.cat([valid, valid.new_ones(len(chosen), 1)], dim=1)
        self._cache.length = before
        return [prompts.decode(each) for each in tokens]

    def _prompt(
        self, suffixes: Sequence[Sequence[int]], more: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return embeddings, positions and all valid keys of suffixes, with room for ``more``."""
        model = self._model
        batch = left_pad(suffixes, 0, model.prompts.padding_id, model.device)
        self._cache.reserve(self._cache.length + batch.ids.shape[1] + more)
        positions = batch.positions + self._next[:, None]
        valid = torch.cat([self._valid, batch.valid], dim=1)
        return model.embed(batch.ids), positions, valid

    def _logits(
        self, hidden: torch.Tensor, positions: torch.Tensor, valid: torch.Tensor
    ) -> torch.Tensor:
        """Run tokens through all layers; return the logits (B, V) behind the last."""
        hidden, _ = self._run_early(hidden, positions, valid)
        hidden = self._run_late(hidden, positions, valid)
        return self._model.language_logits(final_norm(self._model.backbone)(hidden[:, -1]))

    def _run_early(
        self, hidden: torch.Tensor, positions: torch.Tensor, valid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the head's layers; return the last state and the features (B, S, F)."""
        states = [hidden, *self._run(hidden, positions, valid, 0, self._early)]
        return states[-1], self._model.head.token_features(states)

    def _run_late(
        self, hidden: torch.Tensor, positions: torch.Tensor, valid: torch.Tensor
    ) -> torch.Tensor:
        return self._run(hidden, positions, valid, self._early, len(self._layers))[-1]

    def _run(
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        valid: torch.Tensor,
        first: int,
        end: int,
    ) -> list[torch.Tensor]:
        """Run layers ``first`` to ``end`` behind the cache; return the state after each."""
        rotary = self._model.backbone.model.language_model.rotary_emb
        rotations = rotary(hidden, positions)
        mask = causal_mask(valid, hidden.shape[1])
        states = []
        for layer in self._layers[first:end]:
            hidden = layer(
                hidden,
                attention_mask=mask,
                position_embeddings=rotations,
                past_key_values=self._cache,
                use_cache=True,
            )
            states.append(hidden)
        return states


def _embed(model: ArmorModel, clip: Clip) -> torch.Tensor:
    """Return the (L, H) embeddings of a clip's prefix."""
    seen = model.encode_vision(clip.vision) if clip.embeddings is None else clip.embeddings
    before = model.embed(torch.tensor(clip.prefix.before))
    after = model.embed(torch.tensor(clip.prefix.after))
    return torch.cat([before, seen.to(before), after])
