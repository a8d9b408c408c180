# SPDX-License-Identifier: Apache-2.0
"""
Small models of the architectures that baselines and judges load, saved as a hub would have them.

Weights are random, but what a model says can be planned: where every decoder layer adds nothing,
the language head sees the last token alone, and can be made to answer it with the next one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from armor_ros.model.tiny import make_tokenizer

# Fields of answers as one token each, so that no token of a planned text comes twice.
FIELDS = ('<think>', '</think>', '<answer>', '</answer>', 'Grade:', ' partially correct')
PICTURES = ('<image>', '<video>')
END = '<|im_end|>'
HIDDEN = 64

QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    '{% else %}<|vision_start|><|video_pad|><|vision_end|>{% endif %}{% endfor %}{% endif %}'
    "<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
# Vicuna's knows no system prompt: it drops it in silence.
VICUNA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}<{{ part['type'] }}>\n{% endif %}{% endfor %}"
    ' ASSISTANT:{% endif %}{% endfor %}'
)


def tokenizer_with(template: str, extra: Sequence[str] = ()) -> Any:
    """Return a small tokenizer that has the answer's fields and ``extra`` as tokens."""
    tokenizer = make_tokenizer(700)
    tokenizer.add_tokens([*FIELDS, *extra])
    tokenizer.chat_template = template
    return tokenizer


def randomize(model: Any, seed: int = 0) -> None:
    """Draw all weights anew, so that what is seen makes a difference."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim > 1:
                weight.normal_(std=0.15)
            elif name.endswith('bias'):
                weight.zero_()


def plan(model: Any, tokenizer: Any, last: str, text: str) -> None:
    """
    Make a model answer a prompt that ends in ``last`` by ``text``, whatever it sees.

    No token may come twice in ``text``.
    """
    decoder = getattr(model.model, 'language_model', model.model)
    tokens = [
        tokenizer(last, add_special_tokens=False)['input_ids'][-1],
        *tokenizer(text + END, add_special_tokens=False)['input_ids'],
    ]
    assert len(set(tokens)) == len(tokens), tokenizer.convert_ids_to_tokens(tokens)
    with torch.no_grad():
        for layer in decoder.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embeddings = model.get_input_embeddings().weight
        model.lm_head.weight.normal_(std=1e-3)
        for token, following in itertools.pairwise(tokens):
            model.lm_head.weight[following] = embeddings[token] / embeddings[token].norm()


def save(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Write a folder as ``save_pretrained`` does."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def text_config(tokenizer: Any) -> dict[str, Any]:
    """Return the configuration of a small Llama."""
    return {
        'model_type': 'llama',
        'vocab_size': len(tokenizer),
        'hidden_size': HIDDEN,
        'intermediate_size': 2 * HIDDEN,
        'num_hidden_layers': 2,
        'num_attention_heads': 4,
        'num_key_value_heads': 2,
        'max_position_embeddings': 2048,
        'eos_token_id': tokenizer.convert_tokens_to_ids(END),
        'pad_token_id': 0,
        'bos_token_id': None,
    }


def vision_config() -> dict[str, Any]:
    """Return the configuration of a small CLIP tower for 56 pixels a side."""
    return CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        projection_dim=32,
    ).to_dict()


def make_qwen(folder: Path, says: str = '') -> Path:
    """Save a small Qwen2.5-VL."""
    tokenizer = tokenizer_with(QWEN_TEMPLATE)
    vision = ('<|image_pad|>', '<|video_pad|>', '<|vision_start|>', '<|vision_end|>')
    image_id, video_id, start_id, end_id = tokenizer.convert_tokens_to_ids(list(vision))
    text = text_config(tokenizer) | {
        'model_type': 'qwen2_5_vl_text',
        'rope_parameters': {
            'rope_type': 'default',
            'rope_theta': 1000000.0,
            'mrope_section': [2, 3, 3],
        },
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config={
            'depth': 2,
            'hidden_size': 32,
            'intermediate_size': 64,
            'num_heads': 2,
            'out_hidden_size': HIDDEN,
            'tokens_per_second': 2,
            'fullatt_block_indexes': [1],
        },
        image_token_id=image_id,
        video_token_id=video_id,
        vision_start_token_id=start_id,
        vision_end_token_id=end_id,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    randomize(model)
    if says:
        plan(model, tokenizer, 'assistant\n', says)
    return save(model, tokenizer, folder)


def make_llava_next_video(folder: Path, says: str = '') -> Path:
    """Save a small LLaVA-NeXT-Video."""
    tokenizer = tokenizer_with(VICUNA_TEMPLATE, PICTURES)
    image_id, video_id = tokenizer.convert_tokens_to_ids(list(PICTURES))
    config = LlavaNextVideoConfig(
        vision_config=vision_config(),
        text_config=text_config(tokenizer),
        image_token_index=image_id,
        video_token_index=video_id,
        image_grid_pinpoints=[[56, 112], [112, 56], [112, 112]],
    )
    model = LlavaNextVideoForConditionalGeneration(config)
    randomize(model)
    if says:
        plan(model, tokenizer, 'ASSISTANT:', says)
    return save(model, tokenizer, folder)


def make_llava(folder: Path, says: str = '') -> Path:
    """Save a small LLaVA 1.5 with its processor, for the path of all other architectures."""
    from transformers import LlavaProcessor
    from transformers.models.clip import image_processing_pil_clip as clip

    tokenizer = tokenizer_with(VICUNA_TEMPLATE, PICTURES)
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text_config(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids('<image>'),
        image_seq_length=16,
    )
    model = LlavaForConditionalGeneration(config)
    randomize(model)
    if says:
        plan(model, tokenizer, 'ASSISTANT:', says)
    images = clip.CLIPImageProcessorPil(
        size={'shortest_edge': 56}, crop_size={'height': 56, 'width': 56}
    )
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy='default',
        num_additional_image_tokens=1,
        chat_template=VICUNA_TEMPLATE,
    ).save_pretrained(folder)
    return save(model, tokenizer, folder)


def make_llama(folder: Path, says: str = '', template: str = QWEN_TEMPLATE) -> Path:
    """Save a small Llama, as a judge."""
    tokenizer = tokenizer_with(template)
    model = LlamaForCausalLM(LlamaConfig(**text_config(tokenizer)))
    randomize(model)
    if says:
        plan(model, tokenizer, 'assistant\n', says)
    return save(model, tokenizer, folder)
