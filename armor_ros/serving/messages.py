# SPDX-License-Identifier: Apache-2.0
"""
The messages between the monitor and the inference server.

The monitor says Hello; the server answers Welcome and a ModelState, or Goodbye. Frames of a
session are raw RGB, so that the server sees exactly what the robot saw. Open, ahead of them, says
which will be looked at, so that the server can begin. Submit names every frame with its checksum;
the server asks for those it lacks (NeedFrames), and answers with Started, Detection, RoundDone
and at last Result or Refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from armor_ros.episodes.diagnosis import (
    Diagnosis,
    InputMode,
    ModelInfo,
    RefinementSettings,
    ReportStatus,
    Round,
)
from armor_ros.episodes.episode import CameraEvidence
from armor_ros.episodes.task import TaskEvent

PROTOCOL_VERSION = 6
MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_MESSAGE_BYTES = MAX_FRAME_BYTES + 1024 * 1024
MAX_FRAMES_PER_CLIP = 65_536
MAX_CAMERAS = 64
MAX_FPS = 1000.0

# Close codes of the websocket (4000-4999 are an application's own).
CLOSE_BAD_MESSAGE = 4400
CLOSE_BAD_TOKEN = 4401
CLOSE_BAD_VERSION = 4426
CLOSE_TOO_MANY = 4429


@dataclass(frozen=True, slots=True)
class Hello:
    """The monitor's first message; ``token`` is empty where the server asks for none."""

    version: int
    token: str


@dataclass(frozen=True, slots=True)
class Open:
    """
    What a session that begins will be asked, sent ahead of its first frame, or not at all.

    It lets the server encode the frames of ``camera`` as they come; the answer does not depend on
    it. ``input_mode`` None means what the checkpoint was trained with. ``fps`` is the rate at
    which the frames are sampled.
    """

    session: int
    camera: str
    input_mode: InputMode | None
    fps: float


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a session: ``data`` is (height, width, 3) RGB bytes in C order."""

    session: int
    camera: str
    stamp_ns: int
    height: int
    width: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ClipManifest:
    """
    One camera's part of an episode, its frames named instead of sent.

    ``stamps`` is int64 and ``checksums`` uint32 (CRC-32 of each frame), both little endian, one
    entry a frame.
    """

    evidence: CameraEvidence
    height: int
    width: int
    stamps: bytes
    checksums: bytes


@dataclass(frozen=True, slots=True)
class Submit:
    """
    A finished episode to diagnose: all of ``Episode`` but the pixels.

    ``usual_explanations`` are likely answers, the likeliest first; they make the answer faster,
    never different.
    """

    session: int
    task: TaskEvent
    start_ns: int
    end_ns: int
    clip_start_ns: int
    clip_end_ns: int
    truncated: bool
    fps: float
    clips: tuple[ClipManifest, ...]
    settings: RefinementSettings
    usual_explanations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cancel:
    """The session is no longer wanted, streaming or submitted; the server forgets it."""

    session: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server accepts the connection."""

    version: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Why the server closes the connection."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class ModelState:
    """Of the model: ``state`` is loading, ready (then ``info`` is set) or failed (see text)."""

    state: str
    text: str
    info: ModelInfo | None


@dataclass(frozen=True, slots=True)
class NeedFrames:
    """
    Frames of a submitted episode that the server does not hold.

    ``missing`` has an entry per clip: indices into it, uint32, little endian.
    """

    session: int
    missing: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Started:
    """Inference on the session begins."""

    session: int


@dataclass(frozen=True, slots=True)
class Detection:
    """The first detection of round 0, before any explanation."""

    session: int
    failure_probability: float


@dataclass(frozen=True, slots=True)
class RoundDone:
    """All trajectories of one round."""

    session: int
    rounds: tuple[Round, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """The diagnosis, and the seconds that inference took."""

    session: int
    diagnosis: Diagnosis
    inference_seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no diagnosis; ``status`` and ``text`` say why."""

    session: int
    status: ReportStatus
    text: str


ClientMessage = Hello | Open | Frame | Submit | Cancel
ServerMessage = (
    Welcome
    | Goodbye
    | ModelState
    | NeedFrames
    | Started
    | Detection
    | RoundDone
    | Result
    | Refused
)
Message = ClientMessage | ServerMessage


def frame_count(clip: ClipManifest) -> int:
    """Return the number of frames that a clip names."""
    return len(clip.stamps) // 8
