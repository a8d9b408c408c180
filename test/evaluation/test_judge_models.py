# SPDX-License-Identifier: Apache-2.0
"""Judges that are real models: on this machine, and behind a server that somebody else wrote."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_vlms import make_llama, make_llava

from armor_ros.errors import ArmorError
from armor_ros.evaluation.baselines import make_baseline
from armor_ros.evaluation.chat import ChatError
from armor_ros.evaluation.judges import Pair, make_judge
from armor_ros.evaluation.judges.local import LocalChatModel

SAYS = 'Grade: partially correct'


@pytest.fixture(scope='module')
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp('models') / 'judge', SAYS)


def test_a_local_model_judges(llama: Path, tmp_path: Path) -> None:
    judge = make_judge(f'hf:{llama}', tmp_path / 'cache', device='cpu')
    assert judge is not None
    assert judge.name == 'hf:judge'
    judge.check()
    assert judge.score('It fell.', 'It slid.', 'lift it') == 0.5
    assert judge.score_all([Pair('It fell.', 'It slid.'), Pair('It fell.', '')]) == [0.5, 0.0]
    assert len(list((tmp_path / 'cache').rglob('*.json'))) == 2


def test_other_weights_are_another_judge(llama: Path, tmp_path: Path) -> None:
    other = make_llama(tmp_path / 'judge')
    ours, theirs = LocalChatModel(str(llama), 'cpu'), LocalChatModel(str(other), 'cpu')
    assert ours.name == theirs.name
    assert ours.identity != theirs.identity
    assert ours.identity == LocalChatModel(str(llama), 'cpu').identity


def test_a_local_judge_sees_no_pictures(llama: Path) -> None:
    with pytest.raises(ChatError, match='reads text only'):
        LocalChatModel(str(llama), 'cpu').reply('', [b'jpeg', 'What is it?'], 4)


def test_names_what_is_wrong_with_a_folder(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ArmorError, match=r"of type 'llava'\) cannot be loaded"):
        make_judge(f'hf:{make_llava(tmp_path / "llava")}')
    bare = make_llama(tmp_path / 'bare')
    (bare / 'chat_template.jinja').unlink()
    with pytest.raises(ArmorError, match='has no chat template'):
        make_judge(f'hf:{bare}')


@pytest.fixture(scope='module')
def transformers_serve(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run transformers' own OpenAI-compatible server with the small model; yield its address."""
    if importlib.util.find_spec('fastapi') is None:
        pytest.skip('transformers serve needs fastapi')
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp('serve') / 'log'
    command = [sys.executable, '-m', 'transformers.cli.transformers', 'serve', str(llama)]
    options = ['--host', '127.0.0.1', '--port', str(port), '--device', 'cpu']
    environment = {**os.environ, 'HF_HUB_OFFLINE': '1', 'OMP_NUM_THREADS': '1'}
    with log.open('wb') as output:
        process = subprocess.Popen(
            [*command, *options], stdout=output, stderr=output, env=environment
        )
    url = f'http://127.0.0.1:{port}'
    try:
        _wait_for(f'{url}/health', process, log)
        yield f'{url}/v1'
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120.0
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(url, timeout=5.0):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def test_judges_through_transformers_serve(
    llama: Path, transformers_serve: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.delenv('OPENAI_API_KEY', raising=False)
    judge = make_judge(f'openai:{llama}@{transformers_serve}')
    assert judge is not None
    judge.check()
    pairs = [Pair('It fell.', f'It slid {index}.', 'lift it') for index in range(3)]
    assert judge.score_all(pairs) == [0.5, 0.5, 0.5]


def test_a_model_that_is_not_served_is_told_up_front(
    transformers_serve: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    baseline = make_baseline(f'openai:no-such-model@{transformers_serve}')
    with pytest.raises(ArmorError, match='cannot be used'):
        baseline.check()
