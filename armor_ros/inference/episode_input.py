# SPDX-License-Identifier: Apache-2.0
"""What the model looks at in an episode: one camera's clip, or the collage of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from armor_ros.episodes.collage import render_collage
from armor_ros.episodes.diagnosis import InputMode
from armor_ros.episodes.episode import CameraClip, Episode
from armor_ros.errors import ArmorError
from armor_ros.model.config import ArmorConfig
from armor_ros.model.preprocessing import PatchGeometry, VisionInput, clip_input, image_input

# The rows that the prompt names for a ready collage, which does not tell (the paper's order).
COLLAGE_VIEWS = ('front', 'wrist', 'overhead')


@dataclass(frozen=True, slots=True)
class EpisodeInput:
    """Patches for the vision tower, and the collage's rows (None for a clip)."""

    vision: VisionInput
    views: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Sight:
    """
    What is looked at, in pixels.

    ``frames`` is (N, H, W, 3) uint8 RGB: those of one camera, or one collage, whose rows from the
    top ``views`` names (None for a clip).
    """

    frames: npt.NDArray[np.uint8]
    views: tuple[str, ...] | None


def chosen_clip(episode: Episode, camera: str = '') -> CameraClip:
    """
    Return the clip of a camera, the first that has frames when ``camera`` is empty.

    Raises ArmorError when the camera is unknown or has no frames.
    """
    clip = episode.clip(camera)
    if not len(clip.stamps_ns):
        raise ArmorError(
            f'camera {clip.evidence.camera!r} has no frames of task '
            f'{episode.task.task_id!r}; choose another camera or check its topic '
            f'{clip.evidence.topic!r}'
        )
    return clip


def look(
    episode: Episode, config: ArmorConfig, mode: InputMode | None = None, camera: str = ''
) -> Sight:
    """
    Choose what a model looks at in an episode.

    ``mode`` None means what the checkpoint was trained with. ``camera`` '' means the first with
    frames (clip) or all with frames (collage); a ready collage of the episode is taken as it is.
    Raises ArmorError when there are no frames or the camera is unknown.
    """
    mode = config.input_mode if mode is None else mode
    if mode is InputMode.COLLAGE and episode.collage is not None:
        return Sight(episode.collage[None], COLLAGE_VIEWS)
    clip = chosen_clip(episode, camera)
    if mode is InputMode.CLIP:
        return Sight(clip.frames, None)
    views = tuple(
        each.evidence.camera
        for each in episode.clips
        if len(each.stamps_ns) and camera in ('', each.evidence.camera)
    )
    layout = config.collage
    picture = render_collage(
        episode,
        columns=layout.columns,
        cell=(layout.cell_height, layout.cell_width),
        cameras=views,
        selection=layout.selection,
        annotate=layout.annotate,
    )
    return Sight(picture[None], views)


def episode_input(
    episode: Episode,
    config: ArmorConfig,
    geometry: PatchGeometry,
    mode: InputMode | None = None,
    camera: str = '',
) -> EpisodeInput:
    """
    Prepare an episode for the model; arguments and errors as of ``look``.

    Time between frames is the episode's own ``fps``.
    """
    return sight_input(look(episode, config, mode, camera), episode.fps, config, geometry)


def sight_input(
    sight: Sight, fps: float, config: ArmorConfig, geometry: PatchGeometry
) -> EpisodeInput:
    """Cut what is looked at into patches; ``fps`` are the frames a second of a clip."""
    if sight.views is None:
        return EpisodeInput(clip_input(sight.frames, fps, config.image_size, geometry), None)
    return EpisodeInput(image_input(sight.frames[0], geometry), sight.views)
