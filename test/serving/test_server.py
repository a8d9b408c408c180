# SPDX-License-Identifier: Apache-2.0
"""Who is let in, what happens to the others, and the command line."""

import asyncio
import contextlib
import os
import stat

import pytest
import websockets
from conftest import make_episode, wait_for

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.errors import ArmorError
from armor_ros.serving import app, messages
from armor_ros.serving.events import Answer, NoAnswer, StateChanged
from armor_ros.serving.protocol import decode, encode
from armor_ros.serving.server import _listen_unix, main, make_parser, serve

HELLO = encode(messages.Hello(messages.PROTOCOL_VERSION, ''))


def converse(path, *sent, replies=1, stay=0.0):
    """Send raw messages; return the replies decoded, and the close code if it was closed."""

    async def talk():
        async with websockets.unix_connect(path, uri='ws://localhost/') as websocket:
            with contextlib.suppress(websockets.ConnectionClosed):  # its reason can still be read
                for data in sent:
                    await websocket.send(data)
            received, code = [], None
            try:
                while len(received) < replies:
                    reply = await asyncio.wait_for(websocket.recv(), 30)
                    received.append(decode(reply))
                await asyncio.sleep(stay)
            except websockets.ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else None
            return received, code

    return asyncio.run(talk())


def test_a_monitor_is_welcomed_and_told_the_models_state(server):
    received, code = converse(server.path, HELLO, replies=2)
    assert received[0] == messages.Welcome(messages.PROTOCOL_VERSION)
    assert received[1].state in ('loading', 'ready')
    assert code is None


@pytest.mark.parametrize(
    ('first', 'code', 'words'),
    [
        ('text', messages.CLOSE_BAD_MESSAGE, 'binary'),
        (b'\xc1', messages.CLOSE_BAD_MESSAGE, 'not msgpack'),
        (encode(messages.Cancel(1)), messages.CLOSE_BAD_MESSAGE, 'must be Hello'),
        (encode(messages.Hello(99, '')), messages.CLOSE_BAD_VERSION, 'protocol 99'),
    ],
)
def test_a_stranger_is_told_why_and_closed(server, first, code, words):
    received, closed = converse(server.path, first, replies=9)
    assert received == [messages.Goodbye(code, received[0].reason)]
    assert words in received[0].reason
    assert closed == code


@pytest.mark.parametrize('token', ['', 'wrong', 'secret ', '\u00e4\u4e00'])
def test_a_wrong_token_is_refused(make_server, token):
    server = make_server(token='secret').start()
    hello = encode(messages.Hello(messages.PROTOCOL_VERSION, token))
    received, closed = converse(server.path, hello, replies=9)
    assert closed == received[0].code == messages.CLOSE_BAD_TOKEN
    assert 'secret' not in received[0].reason


def test_a_client_with_a_wrong_token_fails_and_says_so(make_server, make_client, events):
    make_server(token='secret').start()
    client = make_client(token='other')
    client.submit('a', make_episode(), RefinementSettings())
    assert 'token' in events.wait(NoAnswer, 'a').text
    assert client.state == 'failed'
    assert 'token' in client.state_text
    right = make_client(token='secret')
    right.submit('b', make_episode(), RefinementSettings())
    assert isinstance(events.wait((Answer, NoAnswer), 'b'), Answer)


def test_a_client_of_another_version_fails_and_says_so(server, make_client, events, monkeypatch):
    monkeypatch.setattr(app, 'PROTOCOL_VERSION', 99)
    client = make_client()
    events.wait_until(lambda: any(e.state == 'failed' for e in events.of(StateChanged)))
    assert 'install the same armor_ros' in client.state_text


@pytest.mark.parametrize(
    'bad',
    [b'\x00', HELLO, encode(messages.Started(1)), encode(messages.Detection(1, 0.5))],
)
def test_a_bad_message_ends_that_connection_only(server, make_client, events, bad):
    client = make_client()
    received, closed = converse(server.path, HELLO, bad, replies=9)
    assert closed == messages.CLOSE_BAD_MESSAGE
    assert isinstance(received[-1], messages.Goodbye)
    client.submit('a', make_episode(), RefinementSettings())
    assert isinstance(events.wait((Answer, NoAnswer), 'a'), Answer)


def test_who_says_nothing_is_closed(server, monkeypatch):
    monkeypatch.setattr(app, 'HELLO_SECONDS', 0.1)
    received, closed = converse(server.path, replies=9)
    assert 'no Hello' in received[0].reason
    assert closed == messages.CLOSE_BAD_MESSAGE


def test_connections_are_bounded(server, make_client, monkeypatch):
    monkeypatch.setattr(app, 'MAX_CONNECTIONS', 1)
    client = make_client()
    wait_for(lambda: client.state == 'ready')
    received, closed = converse(server.path, HELLO, replies=9)
    assert closed == received[0].code == messages.CLOSE_TOO_MANY


def test_the_socket_is_for_this_user_only(tmp_path):
    path = tmp_path / 's'
    listener = _listen_unix(str(path))
    try:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    finally:
        listener.close()
    _listen_unix(str(path)).close()  # a socket that was left behind is replaced


def test_a_file_is_never_replaced_by_a_socket(tmp_path):
    path = tmp_path / 'precious'
    path.write_text('data')
    with pytest.raises(ArmorError, match='there is a file'):
        _listen_unix(str(path))
    assert path.read_text() == 'data'


def options(*arguments):
    return make_parser().parse_args(['--checkpoint', 'x', *arguments])


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--host', '127.0.0.1'], '--token-file'),
        (['--host', '127.0.0.1', '--token-file', '/nowhere/token'], 'cannot be read'),
        (['--unix', '/nowhere/socket'], 'No such file'),
        (['--unix', '/tmp/' + 'x' * 200], '100 bytes'),
        (['--unix', '/tmp/s', '--session-megabytes', '0'], 'at least 1'),
        (['--unix', '/tmp/s', '--total-megabytes', '1'], 'not smaller'),
    ],
)
def test_mistakes_are_said_in_a_sentence(arguments, words):
    with pytest.raises(ArmorError, match=words):
        serve(lambda: None, options(*arguments))


def test_an_empty_token_and_a_bad_address_are_refused(tmp_path):
    token = tmp_path / 'token'
    token.write_text('\n')
    common = ['--host', '127.0.0.1', '--token-file', str(token)]
    with pytest.raises(ArmorError, match='is empty'):
        serve(lambda: None, options(*common))
    token.write_text('secret\n')
    with pytest.raises(ArmorError, match='--port 99999'):
        serve(lambda: None, options(*common, '--port', '99999'))


def test_a_mistake_ends_main_with_a_sentence_and_no_traceback(capsys):
    assert main(['--checkpoint', 'x', '--host', '127.0.0.1']) == 2
    assert capsys.readouterr().err.startswith('error: --host 127.0.0.1')


def test_help_teaches_the_use_on_another_machine(capsys):
    with pytest.raises(SystemExit) as left:
        main(['--help'])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for words in ('token_file', 'not encrypted', '--exit-with-parent', 'openssl rand'):
        assert words in text
