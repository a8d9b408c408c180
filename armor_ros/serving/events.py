# SPDX-License-Identifier: Apache-2.0
"""Where an inference server is, and what its client tells of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from armor_ros.episodes.diagnosis import Diagnosis, ModelInfo, ReportStatus, Round
from armor_ros.errors import ArmorError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    The address of an inference server: a Unix socket's path, or host and port.

    ``token`` proves to the server that the monitor may connect; it never shows in a repr.
    """

    unix: str = ''
    host: str = ''
    port: int = 0
    token: str = field(default='', repr=False)

    def __post_init__(self) -> None:
        if bool(self.unix) == bool(self.host):
            raise ArmorError('an endpoint is either a Unix socket path or a host and port')
        if self.host and not 0 < self.port < 65536:
            raise ArmorError(f'port {self.port} of host {self.host!r} is outside 1 to 65535')

    def __str__(self) -> str:
        if self.unix:
            return self.unix
        host = f'[{self.host}]' if ':' in self.host else self.host
        return f'{host}:{self.port}'


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The state is now down, loading, ready or failed; ``text`` says why, for a person."""

    state: str
    text: str


@dataclass(frozen=True, slots=True)
class ModelReady:
    """The server's model is loaded."""

    info: ModelInfo


@dataclass(frozen=True, slots=True)
class ModelLost:
    """The model was ready and is so no more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Started:
    """Inference on the session begins."""

    session: str


@dataclass(frozen=True, slots=True)
class Detection:
    """The first detection of round 0, before any explanation."""

    session: str
    failure_probability: float


@dataclass(frozen=True, slots=True)
class RoundDone:
    """All trajectories of one round."""

    session: str
    rounds: tuple[Round, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """
    The diagnosis of a submitted session.

    ``queue_seconds`` is the time from submit to the start of inference, ``inference_seconds``
    that of inference, as the server measured it; both on the steady clock.
    """

    session: str
    diagnosis: Diagnosis
    queue_seconds: float
    inference_seconds: float


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """There is no diagnosis of a submitted session; ``status`` and ``text`` say why."""

    session: str
    status: ReportStatus
    text: str


ClientEvent = (
    StateChanged | ModelReady | ModelLost | Started | Detection | RoundDone | Answer | NoAnswer
)


def read_token(path: str) -> str:
    """Return the token in a file; raise ArmorError when there is none."""
    try:
        token = Path(path).expanduser().read_text(encoding='utf-8').strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ArmorError(f'token file {path!r} cannot be read: {error}') from error
    if not token:
        raise ArmorError(f'token file {path!r} is empty; fill it: openssl rand -hex 32 > {path}')
    return token
