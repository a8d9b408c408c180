# SPDX-License-Identifier: Apache-2.0
"""What baselines and judges ask of a model that answers in text, and how models are named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from armor_ros.errors import ArmorError

# One piece of a question: a text, or a picture as the bytes of a JPEG.
Part = str | bytes

_URL_AT_END = re.compile(r'@(?=https?://)')


class ChatError(ArmorError):
    """One question that got no answer, after all retries."""


class ChatModel(Protocol):
    """
    A model that answers one question in text, at temperature 0.

    ``name`` is what reports call it. ``identity`` changes whenever its answers may change: it is
    part of the key under which answers are kept. ``parallel`` is how many questions it takes at
    once.
    """

    name: str
    identity: str
    parallel: int

    def check(self) -> None:
        """Raise ArmorError when no question can be answered: a missing key, a dead server."""

    def reply(self, system: str, parts: Sequence[Part], max_tokens: int) -> str:
        """Return the answer's text, '' when there is none. Raises ChatError."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as named on the command line: KIND:MODEL or KIND:MODEL@URL."""

    kind: str
    model: str
    base_url: str = ''

    def __str__(self) -> str:
        return f'{self.kind}:{self.model}' + (f'@{self.base_url}' if self.base_url else '')


def parse_model_spec(spec: str, kinds: Sequence[str]) -> ModelSpec:
    """
    Split KIND:MODEL[@URL]; only the kinds that are served over HTTP take a URL.

    Raises ArmorError for another kind, no model, or a URL that would carry a secret.
    """
    kind, _, rest = spec.partition(':')
    if kind not in kinds or not rest:
        known = ', '.join(f'{name}:MODEL' for name in kinds)
        raise ArmorError(f'{spec!r} names no model; give one of {known}')
    if kind == 'hf':
        return ModelSpec(kind, rest)
    model, *url = _URL_AT_END.split(rest, maxsplit=1)
    if not model:
        raise ArmorError(f'{spec!r} names no model before its address; give {kind}:MODEL@URL')
    base_url = check_base_url(url[0]) if url else ''
    return ModelSpec(kind, model, base_url)


def check_base_url(url: str) -> str:
    """
    Return the address of a server without a slash at its end.

    Addresses are written to reports, so that one with a password or a query is refused, and its
    error does not repeat it. Raises ArmorError.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ('http', 'https') and bool(parts.hostname)
        secretive = bool(parts.username or parts.password or parts.query or parts.fragment)
        _ = parts.port
    except ValueError:
        usable, secretive = False, False
    if secretive:
        raise ArmorError(
            'the address of the server has a user name, a password or a query in it, and '
            'addresses are written to reports; give http(s)://HOST[:PORT][/PATH] and the key in '
            'the environment'
        )
    if not usable:
        raise ArmorError(
            f'{url!r} is no address of a server; give one as http://localhost:8000/v1'
        )
    return url.rstrip('/')
