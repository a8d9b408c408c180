# SPDX-License-Identifier: Apache-2.0
"""Text from outside, made safe: one line, bounded, without control characters."""

from __future__ import annotations

import unicodedata

MAX_EXPLANATION_LENGTH = 2000

# Characters that reverse or isolate the direction of the text around them.
_DIRECTION_CONTROLS = frozenset('\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069')


def clean_text(text: str, limit: int = MAX_EXPLANATION_LENGTH) -> str:
    """
    Return ``text`` as one line of at most ``limit`` characters that encodes to UTF-8.

    Control characters become spaces, surrogates and direction controls go, runs of whitespace
    collapse. Cleaning twice changes nothing.
    """
    kept = []
    # Bounding first keeps a megabyte of text cheap; whitespace beyond it cannot matter much.
    for character in text[: 4 * limit]:
        category = unicodedata.category(character)
        if category == 'Cs' or character in _DIRECTION_CONTROLS:
            continue
        kept.append(' ' if category == 'Cc' else character)
    return ' '.join(''.join(kept).split())[:limit].rstrip()
