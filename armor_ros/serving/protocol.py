# SPDX-License-Identifier: Apache-2.0
"""
The only encoder and decoder of messages, strict in both directions.

A message is one msgpack map in one binary websocket message: its ``type`` and its fields.
"""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

from armor_ros.episodes.diagnosis import MAX_USUAL_EXPLANATIONS, Diagnosis, Round
from armor_ros.episodes.text import MAX_TEXT_LENGTH
from armor_ros.serving.codec import MAX_STRING_LENGTH, ProtocolError, from_plain, to_plain
from armor_ros.serving.messages import (
    MAX_CAMERAS,
    MAX_FPS,
    MAX_FRAMES_PER_CLIP,
    MAX_MESSAGE_BYTES,
    Cancel,
    Detection,
    Frame,
    Goodbye,
    Hello,
    Message,
    ModelState,
    NeedFrames,
    Open,
    Refused,
    Result,
    RoundDone,
    Started,
    Submit,
    Welcome,
    frame_count,
)

_TYPES: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        Hello, Open, Frame, Submit, Cancel,
        Welcome, Goodbye, ModelState, NeedFrames, Started, Detection, RoundDone, Result, Refused,
    )
}  # fmt: skip


def encode(message: Message) -> bytes:
    """Encode a message. Raises ProtocolError when a value breaks the protocol (NaN, size)."""
    check(message)
    plain = to_plain(message, type(message).__name__)
    plain['type'] = type(message).__name__
    data: bytes = msgpack.packb(plain, use_bin_type=True)
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(
            f'{type(message).__name__} takes {len(data)} bytes, and a message may have '
            f'{MAX_MESSAGE_BYTES}: make frames smaller (frame_width, frame_height)'
        )
    return data


def decode(data: object) -> Message:
    """Decode what ``encode`` made. Raises ProtocolError for everything else, and only that."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ProtocolError('a message must be binary, not text')
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f'a message of {len(data)} bytes; at most {MAX_MESSAGE_BYTES}')
    try:
        plain = msgpack.unpackb(
            data, raw=False, strict_map_key=True, max_str_len=4 * MAX_STRING_LENGTH
        )
    except Exception as error:  # msgpack documents no complete list
        raise ProtocolError(f'not msgpack: {type(error).__name__}: {error}') from error
    if not isinstance(plain, dict):
        raise ProtocolError('a message must be a map')
    name = plain.pop('type', None)
    cls = _TYPES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ProtocolError(f'unknown message type {str(name)[:40]!r}')
    message: Message = from_plain(cls, plain, str(name))
    check(message)
    return message


def check(message: Message) -> None:
    """Raise ProtocolError where values that are right one by one do not fit together."""
    if isinstance(message, Frame):
        _check_size(message.height, message.width)
        expected = message.height * message.width * 3
        if len(message.data) != expected:
            raise ProtocolError(f'Frame has {len(message.data)} bytes instead of {expected}')
    elif isinstance(message, Open):
        if not 0 < message.fps <= MAX_FPS:
            raise ProtocolError(
                f'Open.fps is {message.fps}, and must be above 0 and at most {MAX_FPS:g}'
            )
    elif isinstance(message, Submit):
        _check_submit(message)
    elif isinstance(message, ModelState):
        if message.state not in ('loading', 'ready', 'failed'):
            raise ProtocolError(f'ModelState.state is unknown: {message.state[:40]!r}')
        if (message.state == 'ready') != (message.info is not None):
            raise ProtocolError('ModelState.info must be set when ready, and only then')
    elif isinstance(message, Detection):
        _check_probability(message.failure_probability)
    elif isinstance(message, RoundDone):
        if not message.rounds:
            raise ProtocolError('RoundDone.rounds is empty, and must have one answer at least')
        for entry in message.rounds:
            _check_round(entry)
    elif isinstance(message, Result):
        _check_diagnosis(message.diagnosis)
    elif isinstance(message, NeedFrames) and any(len(part) % 4 for part in message.missing):
        raise ProtocolError('NeedFrames.missing must hold four bytes an index')


def _check_submit(message: Submit) -> None:
    if len(message.clips) > MAX_CAMERAS:
        raise ProtocolError(f'{len(message.clips)} cameras; at most {MAX_CAMERAS} are allowed')
    names = [clip.evidence.camera for clip in message.clips]
    if len(set(names)) != len(names):
        raise ProtocolError('two clips of one camera')
    for clip in message.clips:
        _check_size(clip.height, clip.width, allow_empty=not clip.stamps)
        count = frame_count(clip)
        if len(clip.stamps) != 8 * count or len(clip.checksums) != 4 * count:
            raise ProtocolError('a clip must have 8 bytes of stamp and 4 of checksum a frame')
        if count > MAX_FRAMES_PER_CLIP:
            raise ProtocolError(f'a clip of {count} frames; at most {MAX_FRAMES_PER_CLIP}')
        stamps = np.frombuffer(clip.stamps, '<i8')
        if (stamps[1:] <= stamps[:-1]).any():
            raise ProtocolError('the stamps of a clip must increase strictly')
    usual = message.usual_explanations
    if len(usual) > MAX_USUAL_EXPLANATIONS or any(len(text) > MAX_TEXT_LENGTH for text in usual):
        raise ProtocolError(
            f'{len(usual)} usual explanations; at most {MAX_USUAL_EXPLANATIONS} of '
            f'{MAX_TEXT_LENGTH} characters each are taken'
        )
    settings = message.settings
    for name, value, low, high in (
        ('rounds', settings.rounds, 0, 255),
        ('trajectories', settings.trajectories, 0, 255),
        ('max_new_tokens', settings.max_new_tokens, 1, 4096),
        ('tolerance', settings.tolerance, 0, 1e6),
        ('entropy_weight', settings.entropy_weight, 0, 1e6),
        ('temperature', settings.temperature, 0, 1e6),
        ('deadline', settings.deadline, 0, 3600),
    ):
        if not low <= value <= high:
            raise ProtocolError(f'settings.{name} is {value}, and must be in {low} to {high}')


def _check_size(height: int, width: int, *, allow_empty: bool = False) -> None:
    low = 0 if allow_empty else 1
    if not (low <= height <= 65_535 and low <= width <= 65_535):
        raise ProtocolError(f'a frame of {height} x {width} pixels')


def _check_diagnosis(diagnosis: Diagnosis) -> None:
    _check_probability(diagnosis.failure_probability)
    for entry in diagnosis.trace:
        _check_round(entry)
    if not 0 <= diagnosis.selected < len(diagnosis.trace):
        raise ProtocolError(
            f'selected is {diagnosis.selected}, and the trace has {len(diagnosis.trace)} entries'
        )


def _check_round(entry: Round) -> None:
    _check_probability(entry.failure_probability)
    if entry.agreement is not None:
        _check_probability(entry.agreement, 'agreement')


def _check_probability(value: float, name: str = 'failure_probability') -> None:
    if not 0.0 <= value <= 1.0:
        raise ProtocolError(f'{name} is {value}, and must be in 0 to 1')
