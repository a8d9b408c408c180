# SPDX-License-Identifier: Apache-2.0
"""Models of known shapes with random weights, made without any download, to measure speed with."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from armor_ros.episodes.diagnosis import ModelInfo
from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.model.backbone import installed_convention
from armor_ros.model.checkpoint import new_head
from armor_ros.model.config import ArmorConfig
from armor_ros.model.tiny import CONTROL_TOKENS, make_tokenizer

_LOGIT_SPREAD = 4.0
_LOUD = 20.0


@dataclass(frozen=True, slots=True)
class BenchmarkSize:
    """
    The shape of a backbone and of the clip it sees.

    ``vocabulary`` 0 means that of the small tokenizer; ``bits`` are those of a weight. Input and
    output embeddings are never tied, as those of the released 3B are: they are given weights of
    their own to make a model talk, and take no more time so.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    vision_hidden: int
    vision_intermediate: int
    vision_layers: int
    vision_heads: int
    vocabulary: int = 0
    image_size: int = 308
    seconds: float = 10.0
    tokens: int = 64
    bits: int = 32


SIZES: dict[str, BenchmarkSize] = {
    'small': BenchmarkSize(
        256, 1024, 8, 4, 1, 128, 384, 4, 2, image_size=112, seconds=4.0, tokens=24
    ),
    'bench': BenchmarkSize(512, 3584, 28, 8, 1, 320, 960, 24, 5),
    '3b': BenchmarkSize(
        2048, 11008, 36, 16, 2, 1280, 3420, 32, 16, 151936, tokens=80, bits=16
    ),
    '7b': BenchmarkSize(3584, 18944, 28, 28, 4, 1280, 3420, 32, 16, 152064, tokens=80, bits=16),
}  # fmt: skip


def make_model(size: BenchmarkSize, device: torch.device, seed: int = 0) -> ArmorModel:
    """
    Return a model whose texts are words, never end, and depend on everything before them.

    Raises ArmorError when the machine has too little memory for it.
    """
    _check_memory(size, device)
    tokenizer = make_tokenizer(1024)
    config = _backbone_config(tokenizer, size)
    dtype = torch.float32 if size.bits == 32 else torch.bfloat16
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(seed)
            backbone: Any = Qwen2_5_VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    armor = ArmorConfig(model_id='armor-benchmark', image_size=size.image_size)
    armor = dataclasses.replace(armor, positions=installed_convention(backbone))
    head = new_head(size.hidden, armor.head, seed).to(device, dtype)
    info = ModelInfo(armor.model_id, '', 'none', '', trained=False)
    model = ArmorModel(backbone.to(device), head, tokenizer, armor, info).eval()
    model.prompts.stop_ids = frozenset()
    with torch.no_grad():
        generator = torch.Generator(device).manual_seed(seed)
        weight = backbone.lm_head.weight
        spread = _LOGIT_SPREAD / size.hidden**0.5
        rows = [token for token, _ in words(model)]
        weight.zero_()
        weight[rows] = torch.randn(
            len(rows), size.hidden, generator=generator, device=device
        ).to(dtype).mul_(spread)  # fmt: skip
    return model


def words(model: ArmorModel) -> list[tuple[int, str]]:
    """Return the tokens that are a word with a space before it, which no seam ever merges."""
    found = []
    for token in range(len(model.tokenizer)):
        text = model.tokenizer.decode([token])
        if text[:1] == ' ' and text[1:].isalpha() and model.prompts.encode_text(text) == [token]:
            found.append((token, text))
    return found


def repeat_itself(model: ArmorModel, length: int) -> None:
    """
    Change a model's weights so that it says the same text of ``length`` words in every round.

    Each token's embedding drowns what the layers add to it, and calls for one next token.
    """
    with torch.no_grad():
        embeddings = model.backbone.get_input_embeddings().weight
        embeddings.mul_(_LOUD / embeddings.float().std())
        chain = [_first_word(model), *(token for token, _ in words(model))][: length + 1]
        first = model.prompts.encode_text('assistant\n')[-1]
        weight = model.backbone.lm_head.weight
        weight.zero_()
        for before, after in zip([first, *chain[:-1]], chain, strict=True):
            direction = embeddings[before].float()
            weight[after] = (direction / direction.norm()).to(weight.dtype) * 2.0


def _first_word(model: ArmorModel) -> int:
    """Return a token that is a word with no space before it, as a text begins."""
    for token in range(len(model.tokenizer)):
        text = model.tokenizer.decode([token])
        if text.istitle() and model.prompts.encode_text(text) == [token]:
            return token
    raise ArmorError('the tokenizer has no word for the beginning of a text')


def parameters(size: BenchmarkSize) -> tuple[int, int]:
    """Return the numbers of weights of the decoder's layers and of the vision tower's."""
    keys = size.hidden * size.key_heads // size.heads
    layer = 2 * size.hidden * (size.hidden + keys) + 3 * size.hidden * size.intermediate
    width = size.vision_hidden
    vision = size.vision_layers * width * (4 * width + 3 * size.vision_intermediate)
    return size.layers * layer, vision + 16 * width * width + 4 * width * size.hidden


def _check_memory(size: BenchmarkSize, device: torch.device) -> None:
    """Refuse a model that does not fit, with some room for its cache."""
    vocabulary = (size.vocabulary or 1024) * size.hidden * 2
    needed = int((sum(parameters(size)) + vocabulary) * size.bits / 8 * 1.3)
    if device.type == 'cuda':
        available = torch.cuda.mem_get_info(device)[0]
    else:
        available = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if needed > available:
        raise ArmorError(
            f'this size needs {needed / 1e9:.0f} GB of memory on {device}, where '
            f'{available / 1e9:.0f} GB are free; choose a smaller one'
        )


def _backbone_config(tokenizer: Any, size: BenchmarkSize) -> Qwen2_5_VLConfig:
    """Return the configuration of a Qwen2.5-VL of this shape."""
    ids = dict(zip(CONTROL_TOKENS, tokenizer.convert_tokens_to_ids(CONTROL_TOKENS), strict=True))
    eighth = size.hidden // size.heads // 16
    text = {
        'vocab_size': size.vocabulary or len(tokenizer),
        'hidden_size': size.hidden,
        'intermediate_size': size.intermediate,
        'num_hidden_layers': size.layers,
        'num_attention_heads': size.heads,
        'num_key_value_heads': size.key_heads,
        'max_position_embeddings': 131072,
        'rope_parameters': {
            'rope_type': 'default',
            'rope_theta': 1000000.0,
            'mrope_section': [2 * eighth, 3 * eighth, 3 * eighth],
        },
        'bos_token_id': ids['<|endoftext|>'],
        'eos_token_id': ids['<|im_end|>'],
        'pad_token_id': ids['<|endoftext|>'],
    }
    layers = size.vision_layers
    vision = {
        'depth': layers,
        'hidden_size': size.vision_hidden,
        'intermediate_size': size.vision_intermediate,
        'num_heads': size.vision_heads,
        'out_hidden_size': size.hidden,
        'tokens_per_second': 2,
        'fullatt_block_indexes': list(range(layers // 4 - 1, layers, layers // 4)),
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids['<|image_pad|>'],
        video_token_id=ids['<|video_pad|>'],
        vision_start_token_id=ids['<|vision_start|>'],
        vision_end_token_id=ids['<|vision_end|>'],
    )
