# SPDX-License-Identifier: Apache-2.0
"""ArmorModel: Qwen2.5-VL with a second head that detects failures (section 4.1, figure 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from armor_ros.episodes.diagnosis import ModelInfo
from armor_ros.model.batch import causal_mask
from armor_ros.model.calibration import Calibration
from armor_ros.model.compatibility import check_compatible
from armor_ros.model.config import ArmorConfig
from armor_ros.model.head import ClassificationHead
from armor_ros.model.mrope import VisionGrid, text_positions, vision_positions
from armor_ros.model.preprocessing import PatchGeometry, VisionInput
from armor_ros.model.prompts import PrefixTokens, PromptEncoder

# Tokens prefilled at a time. Bounds the mask and the hidden states of a long clip.
PREFILL_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class DecoderOutput:
    """
    What the decoder made of S new tokens.

    ``hidden`` (B, S, H) is for ``language_logits``, ``features`` (B, S, F) for
    ``detection_logits``.
    """

    hidden: torch.Tensor
    features: torch.Tensor


@dataclass(frozen=True, slots=True)
class Prefix:
    """
    System prompt, vision tokens and question of one clip, computed once and never changed.

    ``keys_values`` holds a pair (1, kv heads, L, head size) for each decoder layer, ``features``
    (1, L, F) the tokens as the classification head takes them. Text after it begins at position
    ``next_position``, which M-RoPE makes smaller than the length.
    """

    keys_values: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    features: torch.Tensor
    next_position: int

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.features.shape[1]

    def fork(self, batch: int) -> Any:
        """Return a cache for ``batch`` continuations, free to grow."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.keys_values):
            shape = (batch, -1, -1, -1)
            cache.update(keys.expand(shape), values.expand(shape), layer)
        return cache


class ArmorModel(nn.Module):
    """
    The backbone with its language head, the classification head, and their configuration.

    Positions and attention masks are always given explicitly; nothing is remembered on the
    modules between calls, so episodes may be interleaved.
    """

    def __init__(
        self,
        backbone: Any,
        head: ClassificationHead,
        tokenizer: Any,
        config: ArmorConfig,
        info: ModelInfo,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.tokenizer = tokenizer
        self.config = config
        self.info = info
        # None, with a sentence on why, unless it was loaded from a calibrated checkpoint.
        self.calibration: Calibration | None = None
        self.why_uncalibrated = 'the model was not loaded from a calibrated checkpoint'
        self.prompts = PromptEncoder(tokenizer, config.prompts)
        self.geometry = PatchGeometry.of(backbone.config.vision_config)
        check_compatible(backbone.config, config, self.prompts)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.backbone.lm_head.weight.device
        return device

    def encode_vision(self, vision: VisionInput) -> torch.Tensor:
        """Return the (tokens, H) embeddings of a clip or an image."""
        visual = self.backbone.model.visual
        patches = vision.patches.to(self.device, visual.dtype)
        grid = torch.tensor([vision.grid], device=self.device)
        embeddings: torch.Tensor = visual(patches, grid_thw=grid).pooler_output
        return embeddings

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of text token ids, one more axis than ``ids``."""
        embeddings: torch.Tensor = self.backbone.get_input_embeddings()(ids.to(self.device))
        return embeddings

    def prefix_positions(
        self, tokens: PrefixTokens, vision: VisionInput
    ) -> tuple[torch.Tensor, int]:
        """Return the (3, L) positions of a prefix and the position that follows it."""
        steps, height, width = vision.grid
        merge = self.geometry.merge_size
        grid = VisionGrid(steps, height // merge, width // merge, vision.seconds_per_step)
        start = len(tokens.before)
        seen, resume = vision_positions(
            start,
            grid,
            self.config.positions,
            self.config.tokens_per_second,
        )
        parts = (text_positions(0, start), seen, text_positions(resume, len(tokens.after)))
        return torch.cat(parts, dim=1), resume + len(tokens.after)

    def prefill(self, tokens: PrefixTokens, vision: VisionInput) -> Prefix:
        """Run the shared prefix of all calls on one clip through the model, once."""
        embeddings = torch.cat(
            [
                self.embed(torch.tensor(tokens.before)),
                self.encode_vision(vision),
                self.embed(torch.tensor(tokens.after)),
            ]
        )[None]
        positions, next_position = self.prefix_positions(tokens, vision)
        positions = positions[:, None].to(self.device)
        cache: Any = DynamicCache()
        valid = torch.ones(embeddings.shape[:2], dtype=torch.bool, device=self.device)
        features = []
        for start in range(0, embeddings.shape[1], PREFILL_CHUNK):
            chunk = slice(start, min(start + PREFILL_CHUNK, embeddings.shape[1]))
            mask = causal_mask(valid[:, : chunk.stop], chunk.stop - chunk.start)
            output = self.decode(embeddings[:, chunk], positions[..., chunk], mask, cache)
            features.append(output.features)
        keys_values = tuple((layer.keys, layer.values) for layer in cache.layers)
        return Prefix(keys_values, torch.cat(features, dim=1), next_position)

    def decode(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        cache: Any | None = None,
    ) -> DecoderOutput:
        """
        Run S tokens through the decoder, after the K - S tokens of ``cache``, which grows.

        ``embeddings`` (B, S, H), ``positions`` (3, B, S), ``mask`` (B, 1, S, K) bool, True where
        a query may attend.
        """
        output = self.backbone.model.language_model(
            inputs_embeds=embeddings,
            position_ids=positions,
            # An explicit boolean mask: without one, grouped heads are several times slower.
            attention_mask={'full_attention': mask},
            past_key_values=cache,
            use_cache=cache is not None,
            output_hidden_states=True,
        )
        features = self.head.token_features(output.hidden_states)
        return DecoderOutput(output.last_hidden_state, features)

    def detection_logits(self, features: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """
        Return float32 logits (B, 2) of the classes of ``config.head.classes``.

        ``features`` (B, L, F) of all tokens of a prompt, ``valid`` (B, L) bool.
        """
        logits: torch.Tensor = self.head(features, valid)
        return logits

    def language_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return float32 logits (..., vocabulary) of the next token."""
        logits: torch.Tensor = self.backbone.lm_head(hidden)
        return logits.float()
