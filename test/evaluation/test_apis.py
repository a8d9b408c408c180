# SPDX-License-Identifier: Apache-2.0
"""Anthropic's and OpenAI's SDKs over real HTTP: answers, errors, keys and addresses."""

from __future__ import annotations

import base64
import logging
import socket
from collections.abc import Iterator

import pytest
from chat_server import ChatServer, error, serve
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from armor_ros.errors import ArmorError
from armor_ros.evaluation.apis import make_api_model
from armor_ros.evaluation.chat import ChatError, ChatModel, check_base_url, parse_model_spec

SECRET = 'sk-not-a-real-key-0123456789'
KINDS = ['anthropic', 'openai']
VARIABLES = [
    'ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'ANTHROPIC_BASE_URL', 'ANTHROPIC_PROFILE',
    'OPENAI_API_KEY', 'OPENAI_BASE_URL',
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv('ANTHROPIC_CONFIG_DIR', str(tmp_path))
    # the servers of these tests are on this machine
    monkeypatch.setenv('NO_PROXY', '127.0.0.1,localhost')


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serve(ChatServer()) as running:
        yield running


def model_at(kind: str, server: ChatServer, **options: float) -> ChatModel:
    path = '/v1' if kind == 'openai' else ''
    return make_api_model(f'{kind}:some-model@{server.url}{path}', **options)  # type: ignore[arg-type]


@pytest.mark.parametrize('kind', KINDS)
def test_sends_texts_and_pictures_at_temperature_zero(kind: str, server: ChatServer) -> None:
    server.text = 'a cube'
    assert (
        model_at(kind, server).reply('Be brief.', [b'\xff\xd8jpeg', 'What is it?'], 32) == 'a cube'
    )
    body = server.requests[0]
    assert body['model'] == 'some-model'
    assert body['temperature'] == 0
    assert body['max_tokens'] == 32
    picture, question = body['messages'][-1]['content']
    assert question == {'type': 'text', 'text': 'What is it?'}
    data = base64.b64encode(b'\xff\xd8jpeg').decode()
    if kind == 'anthropic':
        assert body['system'] == 'Be brief.'
        assert picture['source'] == {'type': 'base64', 'media_type': 'image/jpeg', 'data': data}
    else:
        assert body['messages'][0] == {'role': 'system', 'content': 'Be brief.'}
        assert picture['image_url'] == {'url': f'data:image/jpeg;base64,{data}'}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('status', [429, 500, 503])
def test_repeats_what_may_pass(kind: str, status: int, server: ChatServer) -> None:
    server.script = [error(status, 'later', {'retry-after-ms': '1'}) for _ in range(3)]
    assert model_at(kind, server, retries=3).reply('', ['Hello'], 8) == 'OK'
    assert len(server.requests) == 4


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('status', [429, 500])
def test_gives_up_after_the_retries(kind: str, status: int, server: ChatServer) -> None:
    server.script = [error(status, 'too much', {'retry-after-ms': '1'}) for _ in range(9)]
    with pytest.raises(ChatError, match='too much'):
        model_at(kind, server, retries=2).reply('', ['Hello'], 8)
    assert len(server.requests) == 3


@pytest.mark.parametrize('kind', KINDS)
def test_gives_up_on_a_server_that_hangs(kind: str, server: ChatServer) -> None:
    server.delay = 1.0
    with pytest.raises(ChatError, match='no answer in time'):
        model_at(kind, server, timeout=0.2, retries=0).reply('', ['Hello'], 8)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    'answer',
    [
        Response('{"choices": [', media_type='application/json'),
        Response('{}', media_type='application/json'),
        Response('[]', media_type='application/json'),
        Response('{"choices": [], "content": 3}', media_type='application/json'),
        PlainTextResponse('<html>It works!</html>'),
    ],
    ids=['cut off', 'empty', 'list', 'wrong types', 'a web page'],
)
def test_tells_of_answers_that_are_none(kind: str, answer: Response, server: ChatServer) -> None:
    server.script = [answer] * 3
    with pytest.raises(ChatError, match=r'127\.0\.0\.1'):
        model_at(kind, server, retries=0).reply('', ['Hello'], 8)


@pytest.mark.parametrize('kind', KINDS)
def test_check_names_a_dead_server(kind: str) -> None:
    with socket.create_server(('127.0.0.1', 0)) as gone:
        port = gone.getsockname()[1]
    model = make_api_model(f'{kind}:some-model@http://127.0.0.1:{port}', retries=0)
    with pytest.raises(ArmorError, match=rf'127.0.0.1:{port}.*no connection'):
        model.check()


@pytest.mark.parametrize('kind', KINDS)
def test_check_asks_once(kind: str, server: ChatServer) -> None:
    model = model_at(kind, server)
    model.check()
    model.check()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ('kind', 'variables'),
    [('anthropic', 'ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN'), ('openai', 'OPENAI_API_KEY')],
)
def test_a_missing_key_is_told_before_anything_is_sent(kind: str, variables: str) -> None:
    model = make_api_model(f'{kind}:some-model')
    with pytest.raises(ArmorError, match=f'needs a key: set {variables}'):
        model.check()
    with pytest.raises(ChatError, match='needs a key'):
        model.reply('', ['Hello'], 8)


@pytest.mark.parametrize(
    ('kind', 'variable'),
    [
        ('anthropic', 'ANTHROPIC_API_KEY'),
        ('anthropic', 'ANTHROPIC_AUTH_TOKEN'),
        ('openai', 'OPENAI_API_KEY'),
    ],
)
def test_keys_go_to_the_server_and_nowhere_else(
    kind: str,
    variable: str,
    server: ChatServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(variable, SECRET)
    model = model_at(kind, server, retries=0)
    server.text = f'your key is {SECRET}'
    assert model.reply('', ['Hello'], 8) == 'your key is ***'
    sent = [server.headers[0].get(name, '') for name in ('authorization', 'x-api-key')]
    assert SECRET in ''.join(sent)
    for status, name in ((401, variable), (500, r'\*\*\*')):
        server.script = [error(status, f'bad key {SECRET}')]
        with pytest.raises(ChatError, match=name) as failure:
            model.reply('', ['Hello'], 8)
        assert SECRET not in str(failure.value)
        assert failure.value.__cause__ is None
    logged = ''.join(record.getMessage() for record in caplog.records)
    assert SECRET not in logged.replace(f'your key is {SECRET}', '').replace(
        f'bad key {SECRET}', ''
    )
    assert SECRET not in model.name + model.identity


@pytest.mark.parametrize('kind', KINDS)
def test_follows_no_redirect(
    kind: str, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('OPENAI_API_KEY', SECRET)
    monkeypatch.setenv('ANTHROPIC_API_KEY', SECRET)
    with serve(ChatServer()) as other:
        server.script = [RedirectResponse(f'{other.url}/v1/{path}', 307) for path in 'ab']
        with pytest.raises(ChatError, match=r'redirects to another address \(HTTP 307\)'):
            model_at(kind, server, retries=0).reply('', ['Hello'], 8)
        assert other.requests == []


@pytest.mark.parametrize(
    ('kind', 'variable', 'path'),
    [('anthropic', 'ANTHROPIC_BASE_URL', ''), ('openai', 'OPENAI_BASE_URL', '/v1')],
)
def test_takes_the_address_from_the_environment(
    kind: str, variable: str, path: str, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f'{server.url}{path}/')
    model = make_api_model(f'{kind}:some-model')
    assert model.name == f'{kind}:some-model@{server.url}{path}'
    assert model.reply('', ['Hello'], 8) == 'OK'


def test_goes_without_parameters_that_a_model_refuses(
    server: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [
        error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        error(400, "Unsupported value: 'temperature' does not support 0.0"),
    ]
    model = model_at('openai', server)
    assert model.reply('', ['Hello'], 8) == 'OK'
    assert model.reply('', ['Again'], 8) == 'OK'
    assert len(server.requests) == 4
    for body in server.requests[2:]:
        assert body['max_completion_tokens'] == 8
        assert not {'temperature', 'max_tokens'} & set(body)
    assert caplog.text.count('may differ from run to run') == 1


def test_another_bad_request_is_an_error(server: ChatServer) -> None:
    server.script = [error(400, 'the prompt is too long')]
    with pytest.raises(ChatError, match='the prompt is too long'):
        model_at('openai', server).reply('', ['Hello'], 8)


def test_specs_name_kind_model_and_address() -> None:
    parsed = parse_model_spec('openai:org/model@v2@http://host:8000/v1/', KINDS)
    assert (parsed.kind, parsed.model) == ('openai', 'org/model@v2')
    assert parsed.base_url == 'http://host:8000/v1'
    assert str(parsed) == 'openai:org/model@v2@http://host:8000/v1'


@pytest.mark.parametrize(
    'url',
    [
        f'https://user:{SECRET}@host/v1',
        f'https://host/v1?api-key={SECRET}',
        f'https://host/v1#{SECRET}',
    ],
)
def test_refuses_an_address_with_a_secret_and_does_not_repeat_it(url: str) -> None:
    with pytest.raises(ArmorError, match='written to reports') as failure:
        check_base_url(url)
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize('url', ['http://', 'ftp://host', 'http://host:port', 'localhost:8000'])
def test_refuses_what_is_no_address(url: str) -> None:
    with pytest.raises(ArmorError, match='no address of a server'):
        check_base_url(url)
