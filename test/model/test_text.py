# SPDX-License-Identifier: Apache-2.0
"""Text from outside becomes one safe line."""

from __future__ import annotations

import time
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from armor_ros.model.text import clean_text


def test_controls_and_line_breaks_become_spaces() -> None:
    assert clean_text('a\x00b\r\n\tc\x1b[31md\x7f e  f ') == 'a b c [31md e f'


def test_direction_controls_and_surrogates_vanish() -> None:
    assert clean_text('safe\u202eelif\ud800') == 'safeelif'


def test_bounded_in_characters() -> None:
    assert clean_text('é' * 5000) == 'é' * 2000
    assert clean_text('abc def', limit=4) == 'abc'


def test_a_megabyte_is_cheap() -> None:
    start = time.process_time()
    assert len(clean_text('x ' * 500_000)) <= 2000
    assert time.process_time() - start < 0.1


@given(st.text(st.characters()), st.integers(1, 40))
def test_any_text(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)
    assert len(cleaned) <= limit
    assert cleaned == clean_text(cleaned, limit)
    assert cleaned.encode('utf-8').decode('utf-8') == cleaned
    assert not any(unicodedata.category(c) in ('Cc', 'Cs', 'Zl', 'Zp') for c in cleaned)
