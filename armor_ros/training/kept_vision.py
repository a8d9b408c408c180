# SPDX-License-Identifier: Apache-2.0
"""What a frozen vision tower sees in each sample, kept in files from epoch to epoch."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from armor_ros.model.armor import ArmorModel
from armor_ros.model.preprocessing import VisionInput
from armor_ros.training.forward import PackedForward
from armor_ros.training.packing import PackedSample, pack

if TYPE_CHECKING:
    from armor_ros.training.samples import TrainingSample

_NAME = 'embeddings'


class KeptVision:
    """
    Embeddings of pictures by the name of what they show, in a folder of their own for a tower.

    A file that cannot be read is one that is not there; it is written anew.
    """

    def __init__(self, cache: Path, tower: str) -> None:
        self._folder = cache / f'tower-{tower}'

    def get(self, name: str) -> tuple[VisionInput, torch.Tensor] | None:
        """Return what was seen, without its pixels, and the (tokens, H) embeddings; or None."""
        place = self._place(name)
        if not place.is_file():
            return None
        try:
            with safe_open(str(place), framework='pt') as file:
                facts, embeddings = file.metadata(), file.get_tensor(_NAME)
            steps, height, width = map(int, facts['grid'].split())
            vision = VisionInput(
                torch.zeros(0, 0),
                (steps, height, width),
                facts['is_video'] == 'True',
                float(facts['seconds_per_step']),
                int(facts['frames_per_step']),
            )
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            return None
        return vision, embeddings

    def put(self, name: str, vision: VisionInput, embeddings: torch.Tensor) -> None:
        """Keep the (tokens, H) embeddings of a picture."""
        facts = {
            'grid': ' '.join(map(str, vision.grid)),
            'is_video': str(vision.is_video),
            'seconds_per_step': repr(vision.seconds_per_step),
            'frames_per_step': str(vision.frames_per_step),
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
            whole = Path(file.name)
        save_file({_NAME: embeddings.detach().cpu().contiguous()}, whole, metadata=facts)
        whole.replace(self._place(name))

    def _place(self, name: str) -> Path:
        return self._folder / f'{name}.safetensors'


@torch.no_grad()
def with_embeddings(
    sample: TrainingSample, kept: KeptVision | None, packed: PackedForward
) -> TrainingSample:
    """
    Return a sample with the embeddings of what it shows, and keep them where they are new.

    Pictures go through the tower one by one, so that what is kept does not depend on the company
    in which a picture was first met. Without ``kept`` the sample is returned as it is.
    """
    clip = sample.clip
    if kept is None or clip.embeddings is not None:
        return sample
    batch = pack([PackedSample(clip, ())]).to(packed.model.device)
    embeddings = packed.encode(batch).cpu()
    kept.put(sample.picture, clip.vision, embeddings)
    return dataclasses.replace(sample, clip=dataclasses.replace(clip, embeddings=embeddings))


def tower_digest(model: ArmorModel, precision: str) -> str:
    """Return a name of a vision tower's weights, of its input's size, and of its precision."""
    visual = model.backbone.model.visual
    digest = hashlib.sha256(f'{precision} {model.config.image_size}'.encode())
    for name, weight in sorted(visual.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
