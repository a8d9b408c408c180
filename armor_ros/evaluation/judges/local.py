# SPDX-License-Identifier: Apache-2.0
"""A causal language model on this machine as a chat model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM

from armor_ros.evaluation.chat import ChatError, Part
from armor_ros.evaluation.hugging_face import (
    chat_prompt,
    encode_prompt,
    generate_text,
    load_model,
)


class LocalChatModel:
    """
    A Hugging Face causal language model, asked by its own chat template, one at a time.

    Raises ArmorError when it cannot be loaded or has no chat template.
    """

    parallel = 1

    def __init__(self, path: str, device: str = 'auto') -> None:
        self._loaded = load_model(path, AutoModelForCausalLM, device)
        self.name = f'hf:{self._loaded.name}'
        self.identity = f'{self.name} {self._loaded.weights_hash}'
        chat_prompt(self._loaded, '', 'Is there a template?')

    def check(self) -> None:
        """Nothing can be missing once it is loaded."""

    def reply(self, system: str, parts: Sequence[Part], max_tokens: int) -> str:
        """Return the answer's text. Raises ChatError for pictures, which it cannot see."""
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) != len(parts):
            raise ChatError(f'{self.name} reads text only; leave the pictures out')
        prompt = chat_prompt(self._loaded, system, '\n'.join(texts))
        tokens = torch.tensor([encode_prompt(self._loaded, prompt)])
        inputs = {'input_ids': tokens, 'attention_mask': torch.ones_like(tokens)}
        return generate_text(self._loaded, inputs, max_tokens)
