# SPDX-License-Identifier: Apache-2.0
"""Episodes to messages and back: the frames one by one, all else in one Submit."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from armor_ros.episodes.diagnosis import RefinementSettings
from armor_ros.episodes.episode import CameraClip, Episode
from armor_ros.serving.codec import ProtocolError
from armor_ros.serving.messages import MAX_FRAME_BYTES, ClipManifest, Frame, Submit


def frame_message(session: int, camera: str, stamp_ns: int, frame: npt.NDArray[np.uint8]) -> Frame:
    """Make the message of one frame, (H, W, 3) uint8 RGB; ProtocolError for other arrays."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ProtocolError(
            f'a frame must be (H, W, 3) uint8, not {frame.shape} {frame.dtype} (camera {camera})'
        )
    height, width, _ = frame.shape
    return Frame(session, camera, int(stamp_ns), height, width, frame.tobytes())


def submit_message(
    session: int,
    episode: Episode,
    settings: RefinementSettings,
    usual_explanations: Sequence[str] = (),
) -> Submit:
    """Describe an episode without its pixels."""
    return Submit(
        session=session,
        task=episode.task,
        start_ns=episode.start_ns,
        end_ns=episode.end_ns,
        clip_start_ns=episode.clip_start_ns,
        clip_end_ns=episode.clip_end_ns,
        truncated=episode.truncated,
        fps=episode.fps,
        clips=tuple(_clip_manifest(clip) for clip in episode.clips),
        settings=settings,
        usual_explanations=tuple(usual_explanations),
    )


def assemble(submit: Submit, frames: Iterable[npt.NDArray[np.uint8]]) -> Episode:
    """
    Build the episode that ``submit`` describes.

    ``frames`` yields (N, H, W, 3) uint8 for each clip, in the clips' order.
    """
    clips = tuple(
        CameraClip(clip.evidence, stack, np.frombuffer(clip.stamps, '<i8').astype(np.int64))
        for clip, stack in zip(submit.clips, frames, strict=True)
    )
    return Episode(
        task=submit.task,
        start_ns=submit.start_ns,
        end_ns=submit.end_ns,
        clip_start_ns=submit.clip_start_ns,
        clip_end_ns=submit.clip_end_ns,
        clips=clips,
        truncated=submit.truncated,
        fps=submit.fps,
    )


def pack_indices(indices: Iterable[int]) -> bytes:
    """Pack frame indices for ``NeedFrames.missing``."""
    return np.fromiter(indices, '<u4').tobytes()


def unpack_indices(data: bytes) -> list[int]:
    """Return the indices that ``pack_indices`` packed."""
    return [int(index) for index in np.frombuffer(data, '<u4')]


def _clip_manifest(clip: CameraClip) -> ClipManifest:
    frames = clip.frames
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ProtocolError(f'frames must be (N, H, W, 3) uint8, not {frames.shape}')
    if frames[:1].size > MAX_FRAME_BYTES:
        raise ProtocolError(
            f'camera {clip.evidence.camera!r}: a frame of {frames.shape[1]} x {frames.shape[2]} '
            f'pixels is too large to be sent; make frame_width and frame_height smaller'
        )
    checksums = [zlib.crc32(np.ascontiguousarray(frame).data) for frame in frames]
    return ClipManifest(
        evidence=clip.evidence,
        height=frames.shape[1],
        width=frames.shape[2],
        stamps=np.asarray(clip.stamps_ns, '<i8').tobytes(),
        checksums=np.array(checksums, '<u4').tobytes(),
    )
