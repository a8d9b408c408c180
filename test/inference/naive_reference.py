# SPDX-License-Identifier: Apache-2.0
"""
Algorithm 2 written a second time, as plainly as it can be, to hold the real one against.

Every call, and every generated token, encodes the whole prompt and the whole clip again with
transformers' own forward, one trajectory at a time, without a cache. Prompts, positions, the
classification head and the entropies are written out here; of the product it uses only the
weights, the preprocessing and the cleaning of texts (which have their own tests), and the seeded
numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.episodes.episode import Episode
from armor_ros.episodes.text import clean_text
from armor_ros.inference.sampling import uniforms
from armor_ros.model.armor import ArmorModel
from armor_ros.model.preprocessing import VisionInput, clip_input

SYSTEM = 'You are observing a video showing embodied agents (robots or humans) demonstrating.'


@dataclass
class NaiveRound:
    round: int
    trajectory: int
    failure_probability: float
    explanation: str
    tokens: list[int]
    detection_entropy: float
    explanation_entropy: float
    combined_entropy: float


@dataclass
class NaiveResult:
    trace: list[NaiveRound]
    selected: int


class NaiveReference:
    """Answers about one clip with the weights of ``model``."""

    def __init__(self, model: ArmorModel, episode: Episode) -> None:
        self.model = model
        self.backbone = model.backbone
        self.tokenizer = model.tokenizer
        self.question = clean_text(episode.task.instruction)
        self.vision: VisionInput = clip_input(
            episode.clip().frames, episode.fps, model.config.image_size, model.geometry
        )

    def refine(self, settings: RefinementSettings) -> NaiveResult:
        """Run Algorithm 2 in the order of the paper, with the return policy "last"."""
        answers: list[tuple[str, str]] = [('', '')] * settings.trajectories
        lowest = math.inf
        trace: list[NaiveRound] = []
        for t in range(settings.rounds):
            rows = []
            for m in range(settings.trajectories):
                probability, detection_entropy = self.detect(*answers[m])
                tokens, explanation_entropy = self.explain(*answers[m], settings, t, m)
                combined = detection_entropy + settings.entropy_weight * explanation_entropy
                text = self.text(tokens)
                rows.append(
                    NaiveRound(
                        t, m, probability, text, tokens,
                        detection_entropy, explanation_entropy, combined,
                    )
                )  # fmt: skip
            trace += rows
            best = min(rows, key=lambda row: row.combined_entropy)
            if best.combined_entropy >= lowest - settings.tolerance:
                break
            lowest = best.combined_entropy
            answers = [
                ('No' if row.failure_probability >= 0.5 else 'Yes', row.explanation)
                for row in rows
            ]
        return NaiveResult(trace, trace.index(best))

    def detect(self, detection: str, reasoning: str) -> tuple[float, float]:
        """Return the probability of failure and the entropy of the label."""
        ids = self.prompt(detection, reasoning, 'Please give a Yes/No answer.')
        output = self.forward(ids)
        layers = [output.hidden_states[layer] for layer in (1, 2, 3, 4)]
        features = (layers[0] + layers[1] + layers[2] + layers[3]) / 4
        failure, success = self.head(features[0]).tolist()
        p = 1 / (1 + math.exp(success - failure))
        return p, -p * math.log(p) - (1 - p) * math.log(1 - p)

    def explain(
        self, detection: str, reasoning: str, settings: RefinementSettings, t: int, m: int
    ) -> tuple[list[int], float]:
        """Return sampled tokens without the end token, and their mean entropy."""
        ids = self.prompt(detection, reasoning, 'Please give your reasoning.')
        numbers = uniforms(settings.seed, 'token', t, m, settings.max_new_tokens).tolist()
        ends = self.tokenizer.convert_tokens_to_ids(['<|im_end|>', '<|endoftext|>'])
        tokens: list[int] = []
        entropies = []
        for number in numbers:
            logits = self.forward(ids + tokens).logits[0, -1]
            p = torch.softmax(logits, dim=-1)
            entropies.append(float(-(p * p.log()).nan_to_num(0.0).sum()))
            token = self.sample(logits, settings.temperature, number)
            if token in ends:
                break
            tokens.append(token)
        return tokens, sum(entropies) / len(entropies)

    def sample(self, logits: torch.Tensor, temperature: float, number: float) -> int:
        """Walk along the distribution until the number is used up."""
        if temperature == 0:
            return int(logits.argmax())
        weights = torch.softmax(logits.double() / temperature, dim=-1).tolist()
        total = 0.0
        for token, weight in enumerate(weights):
            total += weight
            if total > number:
                return token
        return len(weights) - 1

    def prompt(self, detection: str, reasoning: str, task: str) -> list[int]:
        """Return the whole prompt, its vision placeholders included."""
        steps, height, width = self.vision.grid
        control = self.tokenizer.convert_tokens_to_ids
        ids = [control('<|im_start|>'), *self.encode('system\n'), *self.encode(SYSTEM)]
        ids += [control('<|im_end|>'), *self.encode('\n'), control('<|im_start|>')]
        ids += [*self.encode('user\n'), control('<|vision_start|>')]
        ids += [control('<|video_pad|>')] * (steps * height * width // 4)
        ids += [control('<|vision_end|>')]
        ids += self.encode(
            f'In the video, the robot is attempting to {self.question}.\n'
            f'Did the robot successfully {self.question}?\n'
        )
        if detection:
            ids += self.encode(f'Given the previous detection is {detection}.\n')
        if reasoning:
            ids += self.encode(f'Given the previous reasoning is {reasoning}\n')
        ids += [*self.encode(task), control('<|im_end|>'), *self.encode('\n')]
        return [*ids, control('<|im_start|>'), *self.encode('assistant\n')]

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True
        ).input_ids
        return ids

    def text(self, tokens: list[int]) -> str:
        return clean_text(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def forward(self, ids: list[int]) -> Any:
        """Run everything through transformers' forward, from pixels to logits."""
        return self.backbone(
            input_ids=torch.tensor([ids]),
            pixel_values_videos=self.vision.patches,
            video_grid_thw=torch.tensor([self.vision.grid]),
            position_ids=torch.tensor(self.positions(ids))[:, None],
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            use_cache=False,
            output_hidden_states=True,
        )

    def positions(self, ids: list[int]) -> list[list[int]]:
        """Return (3, L) positions: vision on a grid in time, text one past the largest."""
        pad = self.tokenizer.convert_tokens_to_ids('<|video_pad|>')
        steps, height, width = self.vision.grid
        grid = [
            (int(t * 0.4 * 2 + 1e-9), y, x)
            for t in range(steps)
            for y in range(height // 2)
            for x in range(width // 2)
        ]
        triples: list[tuple[int, int, int]] = []
        for index, token in enumerate(ids):
            if token == pad:
                first = ids.index(pad)
                triples.append(tuple(first + axis for axis in grid[index - first]))  # type: ignore[arg-type]
            else:
                following = max((max(triple) for triple in triples), default=-1) + 1
                triples.append((following,) * 3)
        return [list(axis) for axis in zip(*triples, strict=True)]

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Return the two logits of (L, H) features (section A.1)."""
        weights = self.model.head.state_dict()
        hidden = features.shape[1]

        def linear(x: torch.Tensor, name: str) -> torch.Tensor:
            return x @ weights[f'{name}.weight'].T + weights[f'{name}.bias']

        def norm(x: torch.Tensor, name: str) -> torch.Tensor:
            return functional.layer_norm(
                x, (hidden,), weights[f'{name}.weight'], weights[f'{name}.bias']
            )

        keys = norm(linear(functional.gelu(linear(features, 'projector.0')), 'projector.3'), 'ln')
        inputs = [weights['cls_token'][0], keys, keys]
        matrices = weights['agg_attn.in_proj_weight'].chunk(3)
        biases = weights['agg_attn.in_proj_bias'].chunk(3)
        q, k, v = (
            (x @ matrix.T + bias).unflatten(-1, (8, -1)).transpose(0, 1)
            for x, matrix, bias in zip(inputs, matrices, biases, strict=True)
        )
        scores = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(hidden // 8), dim=-1)
        x = linear((scores @ v).transpose(0, 1).flatten(), 'agg_attn.out_proj')
        x = norm(x, 'out_ln')
        for name in ('out_mlp.0', 'out_mlp.3'):
            x = functional.gelu(linear(x, name))
        return linear(x, 'out_mlp.6')
