# SPDX-License-Identifier: Apache-2.0
"""Inference without any of the engine: transformers as it comes, everything encoded every time."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from armor_ros.inference.sampling import choose_tokens
from armor_ros.model.armor import ArmorModel
from armor_ros.model.preprocessing import clip_input
from armor_ros.model.prompts import PreviousAnswer


class NaiveReference:
    """Each answer re-encodes the whole clip and prompt; texts come from ``generate``."""

    def __init__(self, model: ArmorModel, frames: Any, fps: float, instruction: str) -> None:
        self._model = model
        self._frames = frames
        self._fps = fps
        self._instruction = instruction

    @torch.inference_mode()
    def detect(self, previous: PreviousAnswer) -> float:
        """Return the probability of failure."""
        model = self._model
        inputs = self.inputs(model.prompts.detection_suffix(previous))
        output = model.backbone.model(**inputs, use_cache=False, output_hidden_states=True)
        features = model.head.token_features(output.hidden_states)
        valid = torch.ones(features.shape[:2], dtype=torch.bool, device=model.device)
        logits = model.detection_logits(features, valid)
        return float(logits.softmax(dim=-1)[0, model.config.head.failure_index])

    @torch.inference_mode()
    def explain(
        self, previous: PreviousAnswer, numbers: torch.Tensor, temperature: float
    ) -> list[int]:
        """Return as many tokens as ``numbers`` (N,), one uniform number for each."""
        inputs = self.inputs(self._model.prompts.reasoning_suffix(previous))
        count = len(numbers)
        output = self._model.backbone.generate(
            **inputs,
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
            logits_processor=LogitsProcessorList([_Seeded(numbers, temperature)]),
        )
        tokens: list[int] = output[0, inputs['input_ids'].shape[1] :].tolist()
        return tokens

    def inputs(self, suffix: list[int]) -> dict[str, torch.Tensor]:
        """Return the arguments of transformers' forward for one whole prompt."""
        model, prompts = self._model, self._model.prompts
        vision = clip_input(self._frames, self._fps, model.config.image_size, model.geometry)
        tokens = prompts.prefix(self._instruction)
        steps, height, width = vision.grid
        count = steps * height * width // model.geometry.merge_size**2
        ids = [*tokens.before, *[prompts.video_id] * count, *tokens.after, *suffix]
        device = model.device
        input_ids = torch.tensor([ids], device=device)
        return {
            'input_ids': input_ids,
            'attention_mask': torch.ones_like(input_ids),
            'mm_token_type_ids': (input_ids == prompts.video_id).int() * 2,
            'pixel_values_videos': vision.patches.to(device, model.backbone.dtype),
            'video_grid_thw': torch.tensor([vision.grid], device=device),
            'second_per_grid_ts': torch.tensor([vision.seconds_per_step], device=device),
        }


class _Seeded(LogitsProcessor):  # type: ignore[misc]
    """Leaves only the token that the next uniform number chooses."""

    def __init__(self, numbers: torch.Tensor, temperature: float) -> None:
        self._numbers = iter(numbers)
        self._temperature = temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # An end that ``min_new_tokens`` forbids is no part of the distribution that is sampled.
        logits = scores.float().masked_fill(scores.isneginf(), -1e9)
        chosen = choose_tokens(logits, self._temperature, next(self._numbers)[None])
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)
