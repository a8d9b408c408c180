# SPDX-License-Identifier: Apache-2.0
"""Models of the Hugging Face hub or of a folder, loaded safely and read out greedily."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, GenerationConfig, LogitsProcessorList

from armor_ros.errors import ArmorError
from armor_ros.model.checkpoint import choose_device
from armor_ros.model.weights import check_weights, find_checkpoint, hash_weights

Watcher = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class HuggingFaceModel:
    """
    A loaded model with its tokenizer, in eval mode.

    ``kind`` is transformers' ``model_type``, ``name`` the hub's name (with its revision) or the
    last part of a folder's path, ``weights_hash`` the SHA-256 of its weights.
    """

    model: Any
    tokenizer: Any
    folder: Path
    kind: str
    name: str
    weights_hash: str

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device


def load_model(path: str, auto_class: Any, device: str = 'auto') -> HuggingFaceModel:
    """
    Load a folder or "owner/name[@revision]" with one of transformers' auto classes.

    Weights must be safetensors, and no code from the folder is run. Its generation settings are
    replaced: the likeliest token, no penalties. Raises ArmorError that names the folder, what is
    wrong and the remedy.
    """
    target = choose_device(device)
    found = find_checkpoint(path)
    folder = found.path
    check_weights(folder)
    kind = _model_type(folder)
    try:
        with _no_progress_bars():
            model, report = auto_class.from_pretrained(
                folder,
                dtype='auto',
                attn_implementation='sdpa',
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    # A configuration that makes no model is reported by any kind of error, assertions included.
    except Exception as error:
        reason = ' '.join(str(error).split())[:300]
        raise ArmorError(
            f'{folder} (of type {kind!r}) cannot be loaded with {auto_class.__name__}: {reason}'
        ) from error
    absent = sorted(report['missing_keys']) + sorted(map(str, report['mismatched_keys']))
    if absent:
        raise ArmorError(
            f'{folder} lacks {len(absent)} weights of the model (or has them in another shape), '
            f'first {absent[0]}; copy the whole model'
        )
    tokenizer = _load_tokenizer(folder)
    model.generation_config = _greedy(model.generation_config, tokenizer)
    name = found.model_id + (f'@{found.revision}' if found.revision else '')
    return HuggingFaceModel(
        model.to(target).eval(), tokenizer, folder, kind, name, hash_weights(folder)
    )


def generate_text(
    loaded: HuggingFaceModel,
    inputs: Mapping[str, Any],
    max_new_tokens: int,
    watcher: Watcher | None = None,
) -> str:
    """
    Continue ``inputs`` (a batch of one) by the likeliest tokens and return their text.

    ``watcher`` is given the tokens so far and the next token's logits at each step, and returns
    the logits. Special tokens are left out of the text. Raises ArmorError when the model fails.
    """
    processors = LogitsProcessorList([watcher] if watcher else [])
    on_device = {
        name: value.to(loaded.device) if isinstance(value, torch.Tensor) else value
        for name, value in inputs.items()
    }
    length = on_device['input_ids'].shape[1]
    try:
        with torch.inference_mode():
            tokens = loaded.model.generate(
                **on_device, max_new_tokens=max_new_tokens, logits_processor=processors
            )
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise ArmorError(
            f'{loaded.name} failed on a prompt of {length} tokens: '
            f'{type(error).__name__}: {reason}'
        ) from error
    text: str = loaded.tokenizer.decode(
        tokens[0, length:], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


def chat_prompt(loaded: HuggingFaceModel, system: str, content: Any) -> str:
    """
    Return the prompt of one question, in the model's own chat template.

    ``content`` is a text, or a list of {"type": ...} as the templates of multimodal models take
    it. A template that knows no system prompt has it put before the question. Raises ArmorError
    when there is no template.
    """
    template = loaded.tokenizer.chat_template or _template_file(loaded.folder)
    if not template:
        raise ArmorError(
            f'{loaded.folder} has no chat template; copy chat_template.jinja or the '
            'tokenizer_config.json that holds it'
        )

    def render(messages: list[dict[str, Any]]) -> str:
        return str(
            loaded.tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=True
            )
        )

    return str(render_chat(render, system, content, str))


def render_chat(
    render: Callable[[list[dict[str, Any]]], Any],
    system: str,
    content: Any,
    text_of: Callable[[Any], str],
) -> Any:
    """
    Render a system prompt and a question; where the system prompt is lost, prepend it.

    ``text_of`` returns the prompt's text of what ``render`` returns. Templates refuse a system
    prompt by an error, or drop it in silence.
    """
    user = {'role': 'user', 'content': content}
    if not system:
        return render([user])
    head: Any = system if isinstance(content, str) else [{'type': 'text', 'text': system}]
    # Templates raise their own errors, jinja's, or whatever an unexpected role leads to.
    with contextlib.suppress(Exception):
        rendered = render([{'role': 'system', 'content': head}, user])
        text = text_of(rendered)
        # A template that takes texts only prints the list that it is given.
        if system.split('\n')[0] in text and "'type': 'text'" not in text:
            return rendered
    if isinstance(content, str):
        return render([{'role': 'user', 'content': f'{system}\n\n{content}'}])
    *others, last = content
    merged = {'type': 'text', 'text': f'{system}\n\n{last["text"]}'}
    return render([{'role': 'user', 'content': [*others, merged]}])


def encode_prompt(loaded: HuggingFaceModel, prompt: str) -> list[int]:
    """Return a rendered prompt's token ids, with one token for its beginning at most."""
    start = loaded.tokenizer.bos_token
    has_start = bool(start) and prompt.startswith(start)
    ids: list[int] = loaded.tokenizer(prompt, add_special_tokens=not has_start)['input_ids']
    return ids


def _model_type(folder: Path) -> str:
    try:
        kind = json.loads((folder / 'config.json').read_text(encoding='utf-8'))['model_type']
    except (ValueError, KeyError, TypeError) as error:
        raise ArmorError(f'{folder}/config.json names no model_type: {error!r}') from error
    return str(kind)


def _load_tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    # transformers reports a missing or malformed file by many kinds of exception.
    except Exception as error:
        raise ArmorError(
            f'{folder} has no tokenizer that can be loaded ({error}); copy its tokenizer files'
        ) from error


def _template_file(folder: Path) -> str:
    """Return the chat template that older processors keep in a file of their own."""
    try:
        data = json.loads((folder / 'chat_template.json').read_text(encoding='utf-8'))
        return str(data['chat_template'])
    except (OSError, ValueError, KeyError, TypeError):
        return ''


def _greedy(stored: Any, tokenizer: Any) -> GenerationConfig:
    """Return settings that keep of the stored ones only the tokens that end a text."""
    ends = stored.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    ends = sorted(token for token in ends if token is not None)
    padding = tokenizer.pad_token_id
    return GenerationConfig(
        do_sample=False,
        bos_token_id=stored.bos_token_id,
        eos_token_id=ends or None,
        pad_token_id=padding if padding is not None else (ends[0] if ends else 0),
    )


@contextlib.contextmanager
def _no_progress_bars() -> Any:
    """Silence the bars of transformers, which garble a command's own."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
