# SPDX-License-Identifier: Apache-2.0
"""
How each architecture is shown an episode.

Qwen2.5-VL (and Cosmos-Reason1, which is one) and LLaVA-NeXT-Video are given their pixels by our
own preprocessing: that of transformers needs torchvision for videos. Every other image-text
model goes through its own processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch.nn import functional
from transformers import AutoProcessor

from armor_ros.episodes.collage import sample_indices
from armor_ros.errors import ArmorError
from armor_ros.evaluation.hugging_face import (
    HuggingFaceModel,
    chat_prompt,
    encode_prompt,
    render_chat,
)
from armor_ros.inference.episode_input import Sight
from armor_ros.model.config import ArmorConfig
from armor_ros.model.mrope import VisionGrid, text_positions, vision_positions
from armor_ros.model.preprocessing import (
    IMAGE_MEAN,
    IMAGE_STD,
    PatchGeometry,
    VisionInput,
    clip_input,
    image_input,
)

Inputs = dict[str, Any]


class Adapter(Protocol):
    """Turns what is seen and the prompts into the arguments of ``generate``."""

    def inputs(self, sight: Sight, fps: float, system: str, question: str, room: int) -> Inputs:
        """
        Return a batch of one.

        ``fps`` is the clip's frames a second, ``room`` how many tokens the answer may take.
        Raises ArmorError when the model cannot be shown this.
        """


def make_adapter(loaded: HuggingFaceModel) -> Adapter:
    """Return the adapter of a model's architecture; ArmorError when it has no processor."""
    if loaded.kind == 'qwen2_5_vl':
        return QwenAdapter(loaded)
    if loaded.kind == 'llava_next_video':
        return LlavaNextVideoAdapter(loaded)
    return ProcessorAdapter(loaded)


class QwenAdapter:
    """
    Qwen2.5-VL and Cosmos-Reason1: every frame, at the size and rate of ``ArmorConfig``.

    Positions are those that the released weights were trained with, whatever the release of
    transformers (see ``armor_ros.model.mrope``).
    """

    def __init__(self, loaded: HuggingFaceModel) -> None:
        self._loaded = loaded
        config = loaded.model.config
        vision = config.vision_config
        self._geometry = PatchGeometry(
            vision.patch_size, vision.temporal_patch_size, vision.spatial_merge_size
        )
        self._tokens_per_second = vision.tokens_per_second
        self._pads = {True: config.video_token_id, False: config.image_token_id}

    def inputs(self, sight: Sight, fps: float, system: str, question: str, room: int) -> Inputs:
        """Return tokens, patches and explicit positions."""
        del room
        config = ArmorConfig()
        if sight.views is None:
            vision = clip_input(sight.frames, fps, config.image_size, self._geometry)
        else:
            vision = image_input(sight.frames[0], self._geometry)
        kind = 'video' if vision.is_video else 'image'
        content = [{'type': kind}, {'type': 'text', 'text': question}]
        ids = encode_prompt(self._loaded, chat_prompt(self._loaded, system, content))
        merge = self._geometry.merge_size
        grid = VisionGrid(
            vision.grid[0],
            vision.grid[1] // merge,
            vision.grid[2] // merge,
            vision.seconds_per_step,
        )
        pad = self._pads[vision.is_video]
        ids, start = _expand(self._loaded, ids, pad, grid.tokens)
        tokens = torch.tensor([ids])
        types = (tokens == pad).long() * (2 if vision.is_video else 1)
        positions = self._positions(len(ids), start, grid)
        return {
            'input_ids': tokens,
            'attention_mask': torch.ones_like(tokens),
            'mm_token_type_ids': types,
            'position_ids': torch.cat([torch.arange(len(ids))[None], positions])[:, None],
            **self._pixels(vision),
        }

    def _positions(self, length: int, start: int, grid: VisionGrid) -> torch.Tensor:
        """Return (3, length) positions of a prompt whose vision tokens begin at ``start``."""
        seen, follows = vision_positions(
            start, grid, ArmorConfig().positions, self._tokens_per_second
        )
        rest = text_positions(follows, length - start - grid.tokens)
        return torch.cat([text_positions(0, start), seen, rest], dim=1)

    def _pixels(self, vision: VisionInput) -> Inputs:
        patches = vision.patches.to(self._loaded.model.dtype)
        name = 'video' if vision.is_video else 'image'
        return {
            'pixel_values_videos' if vision.is_video else 'pixel_values': patches,
            f'{name}_grid_thw': torch.tensor([vision.grid]),
        }


class LlavaNextVideoAdapter:
    """
    LLaVA-NeXT-Video: evenly spread frames of a clip, at most 16, or one picture in tiles.

    Frames are resized to the vision tower's size by their shorter side and cut to a square.
    Fewer frames are shown when more would leave no room for the answer in the model's context.
    """

    max_frames = 16

    def __init__(self, loaded: HuggingFaceModel) -> None:
        self._loaded = loaded
        config = loaded.model.config
        self._size = config.vision_config.image_size
        side = self._size // config.vision_config.patch_size // config.spatial_pool_stride
        self._tokens_per_frame = side * side
        self._context = config.text_config.max_position_embeddings
        self._video_id, self._image_id = config.video_token_id, config.image_token_id

    def inputs(self, sight: Sight, fps: float, system: str, question: str, room: int) -> Inputs:
        """Return tokens and pixels; time is not told to this model, so ``fps`` is not used."""
        del fps
        kind = 'video' if sight.views is None else 'image'
        content = [{'type': kind}, {'type': 'text', 'text': question}]
        ids = encode_prompt(self._loaded, chat_prompt(self._loaded, system, content))
        if sight.views is None:
            # One of the prompt's tokens stands for the frames.
            pixels, count = self._clip(sight.frames, len(ids) - 1 + room)
            pad = self._video_id
        else:
            pixels, count = self._picture(sight.frames[0])
            pad = self._image_id
        ids, _ = _expand(self._loaded, ids, pad, count)
        tokens = torch.tensor([ids])
        return {'input_ids': tokens, 'attention_mask': torch.ones_like(tokens), **pixels}

    def _clip(self, frames: npt.NDArray[np.uint8], taken: int) -> tuple[Inputs, int]:
        fitting = (self._context - taken) // self._tokens_per_frame
        if fitting < 1:
            raise ArmorError(
                f'{self._loaded.name} has a context of {self._context} tokens, of which prompt '
                f'and answer take {taken}; that leaves no room for a frame. Ask for fewer tokens'
            )
        chosen = sample_indices(len(frames), min(self.max_frames, fitting))
        pixels = _resize_and_crop(frames[chosen], self._size)[None]
        count = len(chosen) * self._tokens_per_frame
        return {'pixel_values_videos': pixels.to(self._loaded.model.dtype)}, count

    def _picture(self, picture: npt.NDArray[np.uint8]) -> tuple[Inputs, int]:
        config = self._loaded.model.config
        # Without torchvision, older and newer releases call their other backend differently.
        names = ('LlavaNextImageProcessorPil', 'LlavaNextImageProcessor')
        maker: Any = next(found for name in names if (found := getattr(transformers, name, None)))
        side = {'height': self._size, 'width': self._size}
        processor = maker(
            size={'shortest_edge': self._size},
            crop_size=side,
            image_grid_pinpoints=config.image_grid_pinpoints,
        )
        tiles = processor(picture, return_tensors='pt')
        pixels = {
            'pixel_values': tiles['pixel_values'].to(
                self._loaded.device, self._loaded.model.dtype
            ),
            'image_sizes': tiles['image_sizes'],
        }
        # How many tokens tiles make depends on what of them is padding: ask the model.
        with torch.inference_mode():
            features = self._loaded.model.get_image_features(**pixels)
        features = getattr(features, 'pooler_output', features)
        return pixels, sum(len(each) for each in features)


class ProcessorAdapter:
    """
    Any other image-text model of transformers, through its own processor.

    A clip is at most 8 evenly spread frames, one picture each.
    """

    max_frames = 8

    def __init__(self, loaded: HuggingFaceModel) -> None:
        self._loaded = loaded
        try:
            self._processor = AutoProcessor.from_pretrained(
                loaded.folder, local_files_only=True, trust_remote_code=False
            )
        # Missing packages, missing files and unknown classes are reported in many ways.
        except Exception as error:
            reason = ' '.join(str(error).split())[:300]
            raise ArmorError(
                f'the processor of {loaded.name} ({loaded.kind}) cannot be loaded: {reason}'
            ) from error
        if not hasattr(self._processor, 'apply_chat_template'):
            raise ArmorError(
                f'{loaded.name} ({loaded.kind}) has no processor for pictures and text; copy '
                'processor_config.json and preprocessor_config.json'
            )

    def inputs(self, sight: Sight, fps: float, system: str, question: str, room: int) -> Inputs:
        """Return what the processor makes of the pictures and the prompt."""
        del fps, room
        from PIL import Image

        chosen = sample_indices(len(sight.frames), self.max_frames)
        pictures = [Image.fromarray(sight.frames[index]) for index in chosen]
        content = [{'type': 'image', 'image': picture} for picture in pictures]
        content.append({'type': 'text', 'text': question})
        try:
            made = render_chat(self._render, system, content, self._text)
        except Exception as error:
            reason = ' '.join(str(error).split())[:300]
            raise ArmorError(
                f'the processor of {self._loaded.name} cannot take {len(pictures)} pictures: '
                f'{type(error).__name__}: {reason}'
            ) from error
        dtype = self._loaded.model.dtype
        return {
            name: value.to(dtype)
            if isinstance(value, torch.Tensor) and value.is_floating_point()
            else value
            for name, value in made.items()
        }

    def _render(self, messages: list[dict[str, Any]]) -> Any:
        return self._processor.apply_chat_template(
            messages,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors='pt',
        )

    def _text(self, made: Any) -> str:
        return str(self._loaded.tokenizer.decode(made['input_ids'][0]))


def _expand(
    loaded: HuggingFaceModel, ids: Sequence[int], pad: int, count: int
) -> tuple[list[int], int]:
    """Repeat the one vision token of a prompt; return the tokens and where it stands."""
    places = [index for index, token in enumerate(ids) if token == pad]
    if len(places) != 1:
        raise ArmorError(
            f'the chat template of {loaded.name} puts {len(places)} vision tokens into the '
            'prompt where one belongs; copy the template that came with the weights'
        )
    start = places[0]
    return [*ids[:start], *[pad] * count, *ids[start + 1 :]], start


def _resize_and_crop(frames: npt.NDArray[np.uint8], size: int) -> torch.Tensor:
    """Return (N, 3, size, size) float32: the middle square of each frame, normalized."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    height, width = pixels.shape[-2:]
    short = min(height, width)
    scaled = (size * height // short, size * width // short)
    if scaled != (height, width):
        pixels = functional.interpolate(pixels, size=scaled, mode='bicubic', antialias=True)
    top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    pixels = pixels[..., top : top + size, left : left + size].float() / 255.0
    mean, deviation = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
    return (pixels - mean.view(-1, 1, 1)) / deviation.view(-1, 1, 1)
