# SPDX-License-Identifier: Apache-2.0
"""Texts from outside, made harmless: for a prompt, a terminal and the name of a file."""

from __future__ import annotations

import hashlib
import re

MAX_TASK_ID_LENGTH = 128
MAX_TEXT_LENGTH = 2000
_MAX_FILE_NAME_LENGTH = 80
_DIGEST_LENGTH = 12


def clean_text(text: str, limit: int = MAX_TEXT_LENGTH) -> str:
    """
    Return ``text`` on one line, without control characters and control tokens.

    Whatever is not printable becomes a space, runs of white space become one, and the bars of
    ``<|...|>`` are dropped, so that no tokenizer takes it for a token of its own. A text of more
    than ``limit`` characters is cut and ends in an ellipsis.
    """
    cut = len(text) > 2 * limit
    text = text[: 2 * limit]
    text = ' '.join(''.join(c if c.isprintable() else ' ' for c in text).split())
    text = re.sub(r'\|+>', '>', re.sub(r'<\|+', '<', text))
    if cut or len(text) > limit:
        text = text[: limit - 1] + '…'
    return text


def clean_task_id(task_id: str) -> str:
    """
    Return ``task_id`` in at most 128 bytes, cleaned as any text; an empty one stays empty.

    What is too long is cut and ends in a digest of the whole, so that two long ids stay two.
    """
    cleaned = clean_text(task_id, 4 * MAX_TASK_ID_LENGTH)
    encoded = cleaned.encode('utf-8')
    if len(encoded) <= MAX_TASK_ID_LENGTH:
        return cleaned
    kept = encoded[: MAX_TASK_ID_LENGTH - 1 - _DIGEST_LENGTH].decode('utf-8', 'ignore')
    return f'{kept}~{_digest(task_id)}'


def told(count: int, sentence: str) -> str:
    """Return a sentence with how often it was so, where that is more than once."""
    return sentence if count == 1 else f'{count} times {sentence}'


def safe_file_name(task_id: str) -> str:
    """
    Return a name for files about ``task_id``: letters, digits, ``-``, ``_`` and ``.`` only.

    It is never empty, never hidden, never a path, at most 80 characters long, and different for
    different ids: where a character had to be replaced, a digest of the id follows.
    """
    name = re.sub(r'[^A-Za-z0-9._-]', '_', task_id[:_MAX_FILE_NAME_LENGTH]).strip('._')
    if name and name == task_id:
        return name
    return f'{name[: _MAX_FILE_NAME_LENGTH - 1 - _DIGEST_LENGTH] or "task"}-{_digest(task_id)}'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:_DIGEST_LENGTH]
