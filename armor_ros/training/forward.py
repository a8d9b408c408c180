# SPDX-License-Identifier: Apache-2.0
"""The losses of a packed batch: binary cross-entropy and next-token prediction (section 4.2)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional
from transformers import AttentionInterface

from armor_ros.model.armor import ArmorModel
from armor_ros.model.attention import attend_and_learn
from armor_ros.model.backbone import decoder_layers, final_norm
from armor_ros.model.vision_tower import VisionTower
from armor_ros.training.packing import IGNORED, PackedBatch, tree_mask


@dataclass(frozen=True, slots=True)
class BranchLosses:
    """
    Losses of a batch, branch by branch, in float32; sums are for the caller to weigh.

    ``detection`` (D,) cross-entropy of the label and ``failure_logit`` (D,) the logit of failure
    against success, in the order of ``PackedBatch.detections``. ``language`` (E,) the sum over an
    answer's tokens and ``tokens`` (E,) how many those are, in the order of ``reasonings``.
    ``vision`` (N, H) are the embeddings of all pictures, for auxiliary losses.
    """

    detection: torch.Tensor
    failure_logit: torch.Tensor
    language: torch.Tensor
    tokens: torch.Tensor
    vision: torch.Tensor


class PackedForward(nn.Module):
    """
    One forward for all branches of all samples of a batch.

    All rows go through the first decoder layers, which is all that a detection needs; those with
    something to say go through the others too. With ``freeze_vision`` the vision tower runs
    without a graph.
    """

    def __init__(self, model: ArmorModel, *, freeze_vision: bool = False) -> None:
        super().__init__()
        self.model = model
        self.freeze_vision = freeze_vision
        self._tower = VisionTower(model.backbone.model.visual)
        self._early = max(model.config.head.pooled_layers)
        self._failure = model.config.head.failure_index

    def forward(self, batch: PackedBatch, *, speaks: bool = False) -> BranchLosses:
        """
        Return the losses; the batch must be on the model's device.

        With ``speaks`` late layers and both heads run even when there is nothing to ask of them,
        without a trace in the losses: other processes that share their weights have.
        """
        model = self.model
        vision = self.encode(batch)
        embeddings = model.embed(batch.ids)
        embeddings = embeddings.masked_scatter(
            batch.pictures[..., None], vision.to(embeddings.dtype)
        )
        rotary = model.backbone.model.language_model.rotary_emb
        rotations = rotary(embeddings, batch.positions)
        mask = tree_mask(batch.branch)
        hidden, states = self._layers(embeddings, rotations, mask, 0, self._early)
        features = model.head.token_features([embeddings, *states])
        detection, logit = self._detections(batch, features)
        language, tokens = self._reasonings(batch, hidden, rotations, mask)
        if speaks and not len(language):
            first = (rotations[0][:1], rotations[1][:1])
            last, _ = self._layers(hidden[:1], first, mask[:1], self._early, None)
            said = model.language_logits(final_norm(model.backbone)(last[:, -1]))
            language = language + 0.0 * said.mean()
        if speaks and not len(detection):
            everything = torch.ones_like(batch.branch[:1], dtype=torch.bool)
            asked = model.detection_logits(features[:1], everything)
            detection = detection + 0.0 * asked.mean()
        return BranchLosses(detection, logit, language, tokens, vision)

    def encode(self, batch: PackedBatch) -> torch.Tensor:
        """Return the (N, H) embeddings of all pictures of a batch."""
        if batch.embeddings is not None:
            return batch.embeddings
        visual = self.model.backbone.model.visual
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_vision):
            patches = batch.patches.to(visual.dtype)
            if not _is_wrapped(visual.blocks):
                return self._tower.encode_all(patches, batch.grids)
            embeddings: torch.Tensor = visual(
                _all_frames(patches, visual), grid_thw=batch.grids
            ).pooler_output
        return embeddings

    def _layers(
        self,
        hidden: torch.Tensor,
        rotations: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor,
        first: int,
        end: int | None,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Run decoder layers ``first`` to ``end``; return the last state, and all."""
        states = []
        layers = decoder_layers(self.model.backbone)[first:end]
        with _our_attention(layers):
            for layer in layers:
                hidden = layer(hidden, attention_mask=mask, position_embeddings=rotations)
                states.append(hidden)
        return hidden, states

    def _detections(
        self, batch: PackedBatch, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cross-entropy and the failure logit of each detection branch."""
        if not len(batch.detections):
            nothing = features.new_zeros(0, dtype=torch.float32)
            return nothing, nothing
        rows, branches, _ = batch.detections.unbind(1)
        owner = batch.branch[rows]
        seen = (owner == 0) | (owner == branches[:, None])
        logits = self.model.detection_logits(features[rows], seen)
        truth = torch.where(batch.failed, self._failure, 1 - self._failure)
        loss = functional.cross_entropy(logits, truth, reduction='none')
        return loss, logits[:, self._failure] - logits[:, 1 - self._failure]

    def _reasonings(
        self,
        batch: PackedBatch,
        hidden: torch.Tensor,
        rotations: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed cross-entropy of each answer, and its number of tokens."""
        if not len(batch.reasonings):
            nothing = hidden.new_zeros(0, dtype=torch.float32)
            return nothing, nothing.long()
        rows = batch.reasonings[:, 0].unique()
        cosines, sines = rotations
        turned = (cosines[rows], sines[rows])
        last, _ = self._layers(hidden[rows], turned, mask[rows], self._early, None)
        spoken = batch.targets[rows] != IGNORED
        normed = final_norm(self.model.backbone)(last[spoken])
        losses = functional.cross_entropy(
            self.model.language_logits(normed), batch.targets[rows][spoken], reduction='none'
        )
        # Which answer each token belongs to: branches are numbered anew in every row.
        span = int(batch.branch.max()) + 1
        owner = (rows[:, None] * span + batch.branch[rows])[spoken]
        wanted = batch.reasonings[:, 0] * span + batch.reasonings[:, 1]
        place = torch.searchsorted(wanted, owner)
        count = len(wanted)
        sums = losses.new_zeros(count).index_add(0, place, losses)
        return sums, torch.bincount(place, minlength=count)


def _is_wrapped(layers: Iterable[Any]) -> bool:
    """
    Whether something happens around layers when they are called.

    FSDP2 gathers their weights, gradient checkpointing drops their activations.
    """
    return any(
        isinstance(layer, FSDPModule) or getattr(layer, 'gradient_checkpointing', False)
        for layer in layers
    )


def _all_frames(patches: torch.Tensor, visual: Any) -> torch.Tensor:
    """Return patches with every frame of their step, where one stands for all (see ``pack``)."""
    _, channels, steps, height, width = visual.patch_embed.proj.weight.shape
    if patches.shape[1] == channels * steps * height * width:
        return patches
    single = patches.view(-1, channels, 1, height, width)
    return single.expand(-1, -1, steps, -1, -1).flatten(1)


def _attend(
    module: Any,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers asks its attention functions to; ``mask`` (B, 1, S, S) is boolean."""
    group = module.num_key_value_groups
    keys, values = (each.repeat_interleave(group, dim=1) for each in (keys, values))
    attended = attend_and_learn(queries, keys, values, mask, scaling)
    return attended.transpose(1, 2).contiguous(), None


_ATTENTION = 'armor_learning'
AttentionInterface.register(_ATTENTION, _attend)


@contextlib.contextmanager
def _our_attention(layers: Sequence[Any]) -> Iterator[None]:
    """Let layers on a processor attend by ``attend_and_learn``; transformers finds it by name."""
    if not layers or _is_wrapped(layers) or layers[0].self_attn.o_proj.weight.device.type != 'cpu':
        yield
        return
    config = layers[0].self_attn.config
    before = config._attn_implementation
    config._attn_implementation = _ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before
