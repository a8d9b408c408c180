# SPDX-License-Identifier: Apache-2.0
"""Qwen2.5-VL's decoder, layer by layer, over keys and values that branches share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from armor_ros.model.armor import ArmorModel
from armor_ros.model.attention import attend, visibility
from armor_ros.model.backbone import decoder_layers, final_norm, rotate, rotations
from armor_ros.model.cache import KeyValueCache
from armor_ros.model.products import linear


@dataclass(frozen=True, slots=True)
class TokenRun:
    """
    N tokens on their way through the decoder, stored in ``slots``.

    ``hidden`` (N, H) is what they are between two layers; ``cosines`` and ``sines`` (N, size)
    their rotations. The first ``total`` slots are attended to; ``bias`` (N, R) says which of the
    last R of these each token sees (see ``visibility``), those before are seen by all. ``slots``
    is a slice, or an index tensor (N,) where shapes and addresses must stay the same.
    """

    slots: slice | torch.Tensor
    total: int
    hidden: torch.Tensor
    cosines: torch.Tensor
    sines: torch.Tensor
    bias: torch.Tensor


class Decoder:
    """
    Runs tokens through the layers of a model's backbone.

    The first ``early`` layers are all that a detection needs; the others follow, if at all,
    when text is generated.
    """

    def __init__(self, model: ArmorModel) -> None:
        self._backbone = model.backbone
        self._model = model
        self._layers = decoder_layers(model.backbone)
        self._head = model.head
        self.early = max(model.config.head.pooled_layers)
        self.count = len(self._layers)
        attention = self._layers[0].self_attn
        text = model.backbone.config.text_config
        self._size = attention.head_dim
        self._heads = text.num_attention_heads
        self._key_heads = text.num_key_value_heads

    @property
    def dtype(self) -> torch.dtype:
        """Type of hidden states."""
        dtype: torch.dtype = self._backbone.get_input_embeddings().weight.dtype
        return dtype

    def new_cache(self) -> KeyValueCache:
        """Return an empty store of keys and values."""
        return KeyValueCache(
            self.count, self._key_heads, self._size, self.dtype, self._model.device
        )

    def begin(
        self, start: int, embeddings: torch.Tensor, positions: torch.Tensor, bias: torch.Tensor
    ) -> TokenRun:
        """
        Return the run of (N, H) embeddings at (3, N) positions, before the first layer.

        They are stored from slot ``start`` on, and see nothing beyond themselves.
        """
        cosines, sines = rotations(self._backbone, positions.to(embeddings.device))
        end = start + embeddings.shape[0]
        return TokenRun(slice(start, end), end, embeddings, cosines, sines, bias)

    def early_layers(self, run: TokenRun, cache: KeyValueCache) -> tuple[TokenRun, torch.Tensor]:
        """Run the first layers; return the run after them and the (N, F) features."""
        mask = self._mask(run)
        states = [run.hidden]
        for index in range(self.early):
            states.append(self._layer(index, states[-1], run, mask, cache))
        features = self._head.token_features(states)
        return replace(run, hidden=states[-1]), features

    def late_layers(self, run: TokenRun, cache: KeyValueCache) -> torch.Tensor:
        """Run the other layers; return the (N, H) hidden states before the final norm."""
        mask = self._mask(run)
        hidden = run.hidden
        for index in range(self.early, self.count):
            hidden = self._layer(index, hidden, run, mask, cache)
        return hidden

    def language_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return float32 logits (N, vocabulary) of the tokens after these (N, H)."""
        normed = final_norm(self._backbone)(hidden)
        return linear(self._backbone.lm_head, normed).float()

    def _mask(self, run: TokenRun) -> torch.Tensor:
        group = self._heads // self._key_heads
        return visibility(run.bias, group, run.hidden.dtype)

    def _layer(
        self,
        index: int,
        hidden: torch.Tensor,
        run: TokenRun,
        mask: torch.Tensor,
        cache: KeyValueCache,
    ) -> torch.Tensor:
        """Run one layer, which writes its keys and values."""
        layer = self._layers[index]
        attention = layer.self_attn
        normed = layer.input_layernorm(hidden)
        queries = linear(attention.q_proj, normed).unflatten(-1, (-1, self._size))
        keys = linear(attention.k_proj, normed).unflatten(-1, (-1, self._size))
        values = linear(attention.v_proj, normed).unflatten(-1, (-1, self._size))
        cache.write(index, run.slots, rotate(keys, run.cosines, run.sines), values)
        gathered = attend(
            rotate(queries, run.cosines, run.sines),
            cache.keys[index][:, : run.total],
            cache.values[index][:, : run.total],
            mask,
            self._size**-0.5,
        )
        hidden = hidden + linear(attention.o_proj, gathered)
        mlp, normed = layer.mlp, layer.post_attention_layernorm(hidden)
        gated = mlp.act_fn(linear(mlp.gate_proj, normed)) * linear(mlp.up_proj, normed)
        return hidden + linear(mlp.down_proj, gated)
