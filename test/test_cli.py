# SPDX-License-Identifier: Apache-2.0
"""What the ``armor`` command makes of errors."""

from __future__ import annotations

import errno

import pytest

from armor_ros import cli
from armor_ros.errors import ArmorError


def failing(error: BaseException) -> object:
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ('error', 'said', 'status'),
    [
        (ArmorError('a sentence'), 'armor: a sentence\n', 1),
        (
            OSError(errno.ENOSPC, 'No space left on device', 'out/x'),
            'armor: out/x: No space left on device; make room, or write elsewhere\n',
            1,
        ),
        (
            OSError(errno.EROFS, 'Read-only'),
            'armor: Read-only; make room, or write elsewhere\n',
            1,
        ),
        (KeyboardInterrupt(), '', 130),
    ],
)
def test_mistakes_are_sentences(
    error: BaseException,
    said: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, 'app', failing(error))
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == status
    assert capsys.readouterr().err == said


@pytest.mark.parametrize('error', [OSError(errno.ENOENT, 'No such file'), ValueError('a defect')])
def test_defects_are_not_hidden(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, 'app', failing(error))
    with pytest.raises(type(error)):
        cli.main()
