# SPDX-License-Identifier: Apache-2.0
"""
Small checkpoints with random weights, made in seconds and without any download.

They have every part of a real one, so every path can be run on a CPU. They know nothing: their
answers are noise, and they say so (``trained`` is False).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from armor_ros.episodes.diagnosis import ModelInfo
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import new_head, save_checkpoint
from armor_ros.model.config import ArmorConfig, CollageConfig
from armor_ros.model.tiny_sentences import SENTENCES

# The control tokens of Qwen2.5-VL, in the order of its ids.
CONTROL_TOKENS: tuple[str, ...] = (
    '<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|object_ref_start|>', '<|object_ref_end|>',
    '<|box_start|>', '<|box_end|>', '<|quad_start|>', '<|quad_end|>', '<|vision_start|>',
    '<|vision_end|>', '<|vision_pad|>', '<|image_pad|>', '<|video_pad|>',
)  # fmt: skip

_HEAD_SIZE = 32

# Where layers write to the residual stream, and how much smaller they do; the size of words.
_ONTO_THE_STREAM = ('o_proj.weight', 'down_proj.weight', 'attn.proj.weight')
_RESIDUAL = 0.3
_WORD_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class TinySize:
    """
    Dimensions of a small backbone; the defaults make 2.2 million parameters.

    ``hidden_size`` must be a multiple of 32, the size of an attention head. ``spread`` is the
    deviation of the random weights: large enough that distributions over tokens are not flat.
    None is what learns well: what goes into a product keeps its size when it comes out, what is
    added to the residual stream is small, and the [CLS] token does not attend uniformly.
    ``patch_size`` is in pixels; ``merge_size`` x ``merge_size`` patches make a token, and 112
    pixels a window of the vision tower's attention. Its last layer attends to all of a picture,
    unless ``windows_only`` is on: then each window, such as a collage's cell, is seen by itself.
    """

    hidden_size: int = 128
    layers: int = 6
    vision_hidden_size: int = 64
    vision_layers: int = 4
    vocabulary: int = 1024
    spread: float | None = 0.1
    patch_size: int = 14
    merge_size: int = 2
    windows_only: bool = False


DEFAULT_CONFIG = ArmorConfig(
    model_id='armor-tiny-random',
    trained=False,
    image_size=112,
    collage=CollageConfig(columns=8, cell_height=56, cell_width=56),
)


def make_tiny_checkpoint(
    path: str | Path,
    *,
    seed: int = 0,
    size: TinySize = TinySize(),
    config: ArmorConfig = DEFAULT_CONFIG,
    overwrite: bool = False,
) -> Path:
    """
    Write a checkpoint with random weights, a function of ``seed`` and ``size``.

    ``config.head.num_heads`` must divide ``size.hidden_size``. Raises ArmorError when the folder
    exists and ``overwrite`` is off.
    """
    return save_checkpoint(
        make_tiny_model(seed=seed, size=size, config=config), path, overwrite=overwrite
    )


def make_tiny_model(
    *,
    seed: int = 0,
    size: TinySize = TinySize(),
    config: ArmorConfig = DEFAULT_CONFIG,
    sentences: Sequence[str] = SENTENCES,
) -> ArmorModel:
    """
    Return the model that ``make_tiny_checkpoint`` writes, in eval mode.

    Its tokenizer is learned from ``sentences``.
    """
    tokenizer = make_tokenizer(size.vocabulary, sentences)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = Qwen2_5_VLForConditionalGeneration(_backbone_config(tokenizer, size))
        _randomize(backbone, size.spread)
    head = new_head(size.hidden_size, config.head, seed)
    if size.spread is None:
        with torch.no_grad():
            head.cls_token.normal_(generator=torch.Generator().manual_seed(seed))
    config = dataclasses.replace(config, trained=False)
    info = ModelInfo(config.model_id, config.revision, 'none', '', trained=False)
    return ArmorModel(backbone, head, tokenizer, config, info).eval()


def make_tokenizer(vocabulary: int, sentences: Sequence[str] = SENTENCES) -> Any:
    """
    Return a byte-level tokenizer with Qwen's control tokens, trained on ``sentences``.

    It has at most ``vocabulary`` tokens; fewer when the sentences give no more merges.
    """
    plain = Qwen2Tokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE())
    learner.normalizer = plain.normalizer
    learner.pre_tokenizer = plain.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(CONTROL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(sentences, trainer)
    learned = json.loads(learner.to_str())['model']
    maker: Any = Qwen2Tokenizer
    return maker(
        vocab=learned['vocab'],
        merges=[tuple(merge) for merge in learned['merges']],
        unk_token='<|endoftext|>',
        pad_token='<|endoftext|>',
        eos_token='<|im_end|>',
        extra_special_tokens=list(CONTROL_TOKENS),
        model_max_length=131072,
    )


def _backbone_config(tokenizer: Any, size: TinySize) -> Qwen2_5_VLConfig:
    """Return a small Qwen2.5-VL configuration with the proportions of the real one."""
    ids = dict(zip(CONTROL_TOKENS, tokenizer.convert_tokens_to_ids(CONTROL_TOKENS), strict=True))
    text = {
        'vocab_size': len(tokenizer),
        'hidden_size': size.hidden_size,
        'intermediate_size': 4 * size.hidden_size,
        'num_hidden_layers': size.layers,
        'num_attention_heads': size.hidden_size // _HEAD_SIZE,
        'num_key_value_heads': max(1, size.hidden_size // _HEAD_SIZE // 2),
        'max_position_embeddings': 131072,
        'rope_parameters': {
            'rope_type': 'default',
            'rope_theta': 1000000.0,
            'mrope_section': [4, 6, 6],
        },
        'bos_token_id': ids['<|endoftext|>'],
        'eos_token_id': ids['<|im_end|>'],
        'pad_token_id': ids['<|endoftext|>'],
    }
    vision = {
        'depth': size.vision_layers,
        'hidden_size': size.vision_hidden_size,
        'intermediate_size': 3 * size.vision_hidden_size,
        'num_heads': 2,
        'patch_size': size.patch_size,
        'spatial_merge_size': size.merge_size,
        'out_hidden_size': size.hidden_size,
        'tokens_per_second': 2,
        'fullatt_block_indexes': [] if size.windows_only else [size.vision_layers - 1],
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids['<|image_pad|>'],
        video_token_id=ids['<|video_pad|>'],
        vision_start_token_id=ids['<|vision_start|>'],
        vision_end_token_id=ids['<|vision_end|>'],
    )


def _randomize(backbone: Any, spread: float | None) -> None:
    """Draw every matrix anew in a fixed order; biases and norms keep their neutral values."""
    with torch.no_grad():
        for name, weight in sorted(backbone.named_parameters()):
            if weight.ndim > 1:
                weight.normal_(std=_deviation(name, weight) if spread is None else spread)
            else:
                weight.fill_(0.0 if name.endswith('bias') else 1.0)


def _deviation(name: str, weight: torch.Tensor) -> float:
    """Return the deviation of a matrix's weights that ``TinySize.spread`` None stands for."""
    if 'embed_tokens' in name or 'lm_head' in name:
        return _WORD_SPREAD
    kept: float = weight[0].numel() ** -0.5
    return kept * _RESIDUAL if name.endswith(_ONTO_THE_STREAM) else kept
