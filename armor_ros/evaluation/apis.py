# SPDX-License-Identifier: Apache-2.0
"""
Models behind an HTTP API: Anthropic's, OpenAI's, and every server that speaks either.

Questions go to the address that the user named, or else to the maker's own, and nowhere else:
redirects are not followed. Keys are read from the usual environment variables and are cut out of
every text that comes back.
"""

from __future__ import annotations

import base64
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from armor_ros.errors import ArmorError
from armor_ros.evaluation.chat import (
    ChatError,
    ChatModel,
    ModelSpec,
    Part,
    check_base_url,
    parse_model_spec,
)

_logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 120.0
RETRIES = 4
PARALLEL = 8
API_KINDS = ('anthropic', 'openai')

_ANTHROPIC_URL = 'https://api.anthropic.com'
_OPENAI_URL = 'https://api.openai.com/v1'
# Servers on one's own machine want no key, but the SDK insists on sending one.
_NO_KEY = 'none'
_CHECK_TOKENS = 16
_MAX_REASON = 300


def make_api_model(
    spec: str, *, timeout: float = TIMEOUT_SECONDS, retries: int = RETRIES
) -> ChatModel:
    """
    Return the model of a spec: ``anthropic:MODEL[@URL]`` or ``openai:MODEL[@URL]``.

    Without a URL the SDK's environment variable for it counts (ANTHROPIC_BASE_URL,
    OPENAI_BASE_URL), then the maker's own address. ``timeout`` is seconds per attempt; failed
    attempts are repeated ``retries`` times with growing pauses. Nothing is sent, and no key is
    asked for, before ``check`` or ``reply``. Raises ArmorError when the SDK is not installed or
    the spec is not one.
    """
    parsed = parse_model_spec(spec, API_KINDS)
    maker: Callable[[ModelSpec, float, int], _ApiModel]
    maker = AnthropicModel if parsed.kind == 'anthropic' else OpenAIModel
    return maker(parsed, timeout, retries)


class _ApiModel(ABC):
    """What both APIs have in common: parameters that a model refuses, errors, secrets."""

    parallel = PARALLEL
    _package = ''
    _url_variable = ''
    _key_variables: tuple[str, ...] = ()

    def __init__(self, spec: ModelSpec, timeout: float, retries: int, own_url: str) -> None:
        try:
            self._sdk = __import__(self._package)
        except ImportError as error:
            raise ArmorError(
                f'{spec} needs the package {self._package}: pip install {self._package}'
            ) from error
        from_environment = os.environ.get(self._url_variable, '').strip()
        named = spec.base_url or (from_environment and check_base_url(from_environment))
        self._spec = ModelSpec(spec.kind, spec.model, named)
        self.name = self.identity = str(self._spec)
        self._url = named or own_url
        self._key_variable, self._key = self._find_key()
        self._needs_key = not self._key and not named
        self._checked = False
        self._client = self._make_client(timeout, retries)
        # Parameters that this model has refused; the next question goes without them.
        self._refused: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def check(self) -> None:
        """Ask for one short answer, the first time; raises ArmorError when there is none."""
        if self._checked:
            return
        self._check_key()
        try:
            self._ask(self._client.with_options(max_retries=1), '', ['Say OK.'], _CHECK_TOKENS)
        except ChatError as error:
            raise ArmorError(f'{self.name} cannot be used: {error}') from error
        self._checked = True

    def reply(self, system: str, parts: Sequence[Part], max_tokens: int) -> str:
        """Return the answer's text, '' when there is none. Raises ChatError."""
        self._check_key()
        return self._ask(self._client, system, parts, max_tokens)

    def _check_key(self) -> None:
        if self._needs_key:
            raise ChatError(
                f'{self.name} needs a key: set {" or ".join(self._key_variables)} in the '
                'environment'
            )

    def _ask(self, client: Any, system: str, parts: Sequence[Part], max_tokens: int) -> str:
        while True:
            refused = self._refused
            try:
                answer = self._send(client, system, parts, max_tokens, refused)
            except self._sdk.BadRequestError as error:
                if not self._learn(str(error), refused):
                    raise self._error(error) from None
            except self._sdk.APIError as error:
                raise self._error(error) from None
            # An answer that claims to be JSON and is not.
            except ValueError as error:
                raise self._strange(error) from None
            else:
                try:
                    return self._without_key(self._read(answer))
                except (AttributeError, IndexError, TypeError) as error:
                    raise self._strange(error) from None

    def _strange(self, error: Exception) -> ChatError:
        return ChatError(
            f"{self._url} gave an answer that is not of {self._spec.kind}'s API "
            f'({type(error).__name__}); check the address'
        )

    def _learn(self, message: str, refused: frozenset[str]) -> bool:
        """Note which parameter a model complains of; False when it is none that can go."""
        complaints = {'temperature'} if 'temperature' in message else set()
        if 'max_completion_tokens' in message:
            complaints.add('max_tokens')
        with self._lock:
            new = complaints - self._refused
            self._refused |= complaints
        if 'temperature' in new:
            _logger.warning(
                '%s takes no temperature; its answers may differ from run to run', self.name
            )
        return bool(complaints - refused)

    def _error(self, error: Exception) -> ChatError:
        """Return the error of an SDK as one sentence without secrets."""
        status = getattr(error, 'status_code', None)
        if isinstance(error, self._sdk.APITimeoutError):
            reason = 'no answer in time; raise the timeout or ask a faster server'
        elif isinstance(error, self._sdk.APIConnectionError):
            cause = error.__cause__
            detail = f' ({cause})' if cause and str(cause) else ''
            reason = f'no connection{detail}; check the address, the server and the network'
        elif status in (401, 403):
            source = self._key_variable or ' or '.join(self._key_variables)
            reason = f'the key is refused (HTTP {status}); check {source}'
        elif status is not None and 300 <= status < 400:
            reason = (
                f'it redirects to another address (HTTP {status}), which is not followed; name '
                'that address if it is right'
            )
        else:
            text = ' '.join(str(error).split())[:_MAX_REASON]
            reason = text or type(error).__name__
        return ChatError(self._without_key(f'{self._url}: {reason}'))

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, '***') if self._key else text

    def _find_key(self) -> tuple[str, str]:
        """Return the environment variable that holds a key, and the key; both '' without."""
        for variable in self._key_variables:
            key = os.environ.get(variable, '').strip()
            if key:
                return variable, key
        return '', ''

    @abstractmethod
    def _make_client(self, timeout: float, retries: int) -> Any: ...

    @abstractmethod
    def _send(
        self,
        client: Any,
        system: str,
        parts: Sequence[Part],
        max_tokens: int,
        refused: frozenset[str],
    ) -> Any:
        """Return the SDK's answer to one question, without the parameters in ``refused``."""

    @abstractmethod
    def _read(self, answer: Any) -> str:
        """Return the text of the SDK's answer."""


class AnthropicModel(_ApiModel):
    """A model of Anthropic's Messages API."""

    _package = 'anthropic'
    _url_variable = 'ANTHROPIC_BASE_URL'
    _key_variables = ('ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN')

    def __init__(self, spec: ModelSpec, timeout: float, retries: int) -> None:
        super().__init__(spec, timeout, retries, _ANTHROPIC_URL)

    def _make_client(self, timeout: float, retries: int) -> Any:
        # With a key given, the SDK looks for no other credentials on this machine.
        token = self._key_variable == 'ANTHROPIC_AUTH_TOKEN'
        credential = {'auth_token' if token else 'api_key': self._key or _NO_KEY}
        return self._sdk.Anthropic(
            **credential,
            base_url=self._url,
            timeout=timeout,
            max_retries=retries,
            http_client=self._sdk.DefaultHttpxClient(follow_redirects=False),
        )

    def _send(
        self,
        client: Any,
        system: str,
        parts: Sequence[Part],
        max_tokens: int,
        refused: frozenset[str],
    ) -> Any:
        options: dict[str, Any] = {'system': system} if system else {}
        if 'temperature' not in refused:
            # Newer models refuse it, and newer SDKs no longer name it; older models need it.
            options['extra_body'] = {'temperature': 0.0}
        return client.messages.create(
            model=self._spec.model,
            max_tokens=max_tokens,
            messages=[{'role': 'user', 'content': [_anthropic_part(part) for part in parts]}],
            **options,
        )

    def _read(self, answer: Any) -> str:
        return ''.join(block.text for block in answer.content if block.type == 'text')


class OpenAIModel(_ApiModel):
    """A model of OpenAI's chat completions, or of one of the many servers that speak them."""

    _package = 'openai'
    _url_variable = 'OPENAI_BASE_URL'
    _key_variables = ('OPENAI_API_KEY',)

    def __init__(self, spec: ModelSpec, timeout: float, retries: int) -> None:
        super().__init__(spec, timeout, retries, _OPENAI_URL)

    def _make_client(self, timeout: float, retries: int) -> Any:
        return self._sdk.OpenAI(
            api_key=self._key or _NO_KEY,
            base_url=self._url,
            timeout=timeout,
            max_retries=retries,
            http_client=self._sdk.DefaultHttpxClient(follow_redirects=False),
        )

    def _send(
        self,
        client: Any,
        system: str,
        parts: Sequence[Part],
        max_tokens: int,
        refused: frozenset[str],
    ) -> Any:
        # Newer models of OpenAI know the limit by another name, other servers by the old one.
        limit = 'max_completion_tokens' if 'max_tokens' in refused else 'max_tokens'
        options: dict[str, Any] = {limit: max_tokens}
        if 'temperature' not in refused:
            options['temperature'] = 0.0
        messages: list[Any] = [{'role': 'system', 'content': system}] if system else []
        content = [_openai_part(part) for part in parts]
        texts_only = all(isinstance(part, str) for part in parts)
        messages.append({'role': 'user', 'content': _joined(parts) if texts_only else content})
        return client.chat.completions.create(model=self._spec.model, messages=messages, **options)

    def _read(self, answer: Any) -> str:
        return answer.choices[0].message.content or ''


def _anthropic_part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {'type': 'text', 'text': part}
    source = {'type': 'base64', 'media_type': 'image/jpeg', 'data': _base64(part)}
    return {'type': 'image', 'source': source}


def _openai_part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {'type': 'text', 'text': part}
    return {
        'type': 'image_url',
        'image_url': {'url': f'data:image/jpeg;base64,{_base64(part)}'},
    }


def _joined(parts: Sequence[Part]) -> str:
    return '\n'.join(part for part in parts if isinstance(part, str))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode('ascii')
