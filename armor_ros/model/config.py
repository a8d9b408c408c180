# SPDX-License-Identifier: Apache-2.0
"""ArmorConfig: every choice a checkpoint was trained with, kept beside its weights as JSON."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from armor_ros.configuration import config_from_dict
from armor_ros.episodes.diagnosis import InputMode
from armor_ros.errors import ArmorError

FORMAT_VERSION = 1

# Which answers of the round before a prompt quotes; see ``PromptConfig``.
Quotes = Literal['both', 'other']


class PositionConvention(str, enum.Enum):
    """
    How vision tokens are placed in time and where the text after them goes on (M-RoPE).

    Named after a transformers version that behaves so: 4.49 to 4.55, 4.56 to 5.17, 5.18 to 5.23.
    TRANSFORMERS_4_49 is also that of vLLM and SGLang, and the one Qwen2.5-VL's released weights
    were trained with. See ``armor_ros.model.mrope``.
    """

    TRANSFORMERS_4_49 = 'transformers-4.49'
    TRANSFORMERS_4_56 = 'transformers-4.56'
    TRANSFORMERS_5_23 = 'transformers-5.23'


# What Qwen2.5-VL was trained with; all its releases so far, of every size.
RELEASED_POSITIONS = PositionConvention.TRANSFORMERS_4_49


def position_convention(name: PositionConvention | str) -> PositionConvention:
    """Return the convention of a name such as 'transformers-4.49'; raises ArmorError."""
    try:
        return PositionConvention(name)
    except ValueError as error:
        known = ', '.join(each.value for each in PositionConvention)
        raise ArmorError(f'positions is {name!r}; it must be one of {known}') from error


class HeadPooling(str, enum.Enum):
    """
    How "mean-pooled features from the first four LM decoder layers" is read (section A.1).

    LAYERS: mean over the layers, one feature a token. TOKENS: mean over the tokens, one feature a
    layer.
    """

    LAYERS = 'layers'
    TOKENS = 'tokens'


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """
    The classification head of section A.1.

    ``pooled_layers`` are decoder layers counted from 1 (0 would be the embeddings).
    ``classes`` names the two logits in their order.
    """

    num_heads: int = 8
    dropout: float = 0.1
    pooled_layers: tuple[int, ...] = (1, 2, 3, 4)
    pooling: HeadPooling = HeadPooling.LAYERS
    classes: tuple[str, ...] = ('failure', 'success')

    def __post_init__(self) -> None:
        if self.num_heads < 1:
            raise ArmorError(f'head.num_heads is {self.num_heads}; it must be at least 1')
        if not 0.0 <= self.dropout < 1.0:
            raise ArmorError(f'head.dropout is {self.dropout}; it must be in [0, 1)')
        if not self.pooled_layers or min(self.pooled_layers) < 1:
            raise ArmorError(
                f'head.pooled_layers is {list(self.pooled_layers)}; name at least one decoder '
                'layer, the first being 1'
            )
        if sorted(self.classes) != ['failure', 'success']:
            raise ArmorError(
                f'head.classes is {list(self.classes)}; it must be "failure" and "success" '
                'in the order of the logits'
            )

    @property
    def failure_index(self) -> int:
        """Index of the failure logit."""
        return self.classes.index('failure')


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """
    The texts of appendix B.4 (clips) and C.2 (collages).

    Each line is joined to the one before by a newline. ``question`` is used when the task has an
    instruction, ``open_question`` when it has none. ``detection_values`` are the words for the
    classes failure and success in the conditioning line. ``account_task``, where it is not empty,
    asks before the first round what is to be seen; ``account`` is the line in which both tasks of
    all rounds quote the answer. That is not in the paper, where round 0 quotes nothing.
    ``quotes`` both quotes label and explanation of the round before in the prompts of both tasks,
    as B.4 has it; other quotes to each task the answer to the other one alone, as training on the
    expert's answers does (A.2): to the detection the explanation, to the explanation the label.
    """

    system: str = (
        'You are observing a video showing embodied agents (robots or humans) demonstrating.'
    )
    question: str = (
        'In the video, the robot is attempting to {instruction}.\n'
        'Did the robot successfully {instruction}?'
    )
    open_question: str = (
        'In the video, the robot is attempting a task.\nDid the robot successfully complete it?'
    )
    collage_question: str = (
        'In the video, the robot is attempting to {instruction}. Frames are shown from multiple '
        'views ({views}) across timesteps. Did the robot succeed at the subtask?'
    )
    open_collage_question: str = (
        'In the video, the robot is attempting a task. Frames are shown from multiple views '
        '({views}) across timesteps. Did the robot succeed at the subtask?'
    )
    account: str = 'Given the account is {account}'
    previous_detection: str = 'Given the previous detection is {detection}.'
    previous_reasoning: str = 'Given the previous reasoning is {reasoning}'
    detection_task: str = 'Please give a Yes/No answer.'
    reasoning_task: str = 'Please give your reasoning.'
    detection_values: tuple[str, ...] = ('No', 'Yes')
    account_task: str = ''
    quotes: Quotes = 'both'

    def __post_init__(self) -> None:
        _check_fields('question', self.question, {'instruction'})
        _check_fields('open_question', self.open_question, set())
        _check_fields('collage_question', self.collage_question, {'instruction', 'views'})
        _check_fields('open_collage_question', self.open_collage_question, {'views'})
        _check_fields('account', self.account, {'account'})
        _check_fields('previous_detection', self.previous_detection, {'detection'})
        _check_fields('previous_reasoning', self.previous_reasoning, {'reasoning'})
        if len(self.detection_values) != 2:
            raise ArmorError(
                f'prompts.detection_values is {list(self.detection_values)}; give two words, for '
                'failure and for success'
            )


@dataclass(frozen=True, slots=True)
class CollageConfig:
    """The collage of appendix B.1. A cell is pixels; rows are views, columns time steps."""

    columns: int = 8
    cell_height: int = 168
    cell_width: int = 168
    selection: Literal['uniform', 'keyframes'] = 'uniform'
    annotate: bool = True

    def __post_init__(self) -> None:
        if self.columns < 1 or self.cell_height < 1 or self.cell_width < 1:
            raise ArmorError(
                f'collage is {self.columns} columns of {self.cell_height}x{self.cell_width} '
                'pixels; each number must be at least 1'
            )


@dataclass(frozen=True, slots=True)
class ArmorConfig:
    """
    Everything about a checkpoint that the backbone's own config does not say.

    ``image_size`` is the side of a clip's square frame in pixels, ``fps`` its sampling rate.
    ``positions`` and ``tokens_per_second`` say where a clip's tokens stand in time; the latter
    repeats the backbone's ``vision_config``, so that a change there is noticed.
    ``model_id`` and ``revision`` name the checkpoint in reports; ``trained`` is False as long as
    the head's weights are random.
    """

    format_version: int = FORMAT_VERSION
    model_id: str = ''
    revision: str = ''
    trained: bool = False
    input_mode: InputMode = InputMode.CLIP
    image_size: int = 308
    fps: float = 5.0
    positions: PositionConvention = RELEASED_POSITIONS
    tokens_per_second: int = 2
    prompts: PromptConfig = field(default_factory=PromptConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    collage: CollageConfig = field(default_factory=CollageConfig)

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise ArmorError(
                f'format_version is {self.format_version}; this version of armor_ros reads '
                f'{FORMAT_VERSION}. Update armor_ros or convert the checkpoint'
            )
        if self.image_size < 28 or self.image_size % 28:
            raise ArmorError(
                f'image_size is {self.image_size}; it must be a multiple of 28 pixels, such as 308'
            )
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ArmorError(f'fps is {self.fps}; it must be a positive number')
        if self.tokens_per_second < 1:
            raise ArmorError(
                f'tokens_per_second is {self.tokens_per_second}; it must be at least 1'
            )


def config_to_json(config: ArmorConfig) -> str:
    """Return the config as indented JSON text."""
    return json.dumps(dataclasses.asdict(config), indent=2) + '\n'


def config_from_json(text: str, where: str) -> ArmorConfig:
    """
    Parse a config from JSON text; ``where`` names its origin in errors.

    Absent keys take their defaults. Raises ArmorError on malformed JSON, an unknown key (naming
    the nearest known one) or a value of the wrong type.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ArmorError(f'{where} is not valid JSON: {error}') from error
    try:
        return config_from_dict(ArmorConfig, data)
    except ArmorError as error:
        raise ArmorError(f'{where}: {error}') from error


def read_config(path: Path) -> ArmorConfig:
    """Read a config file; raises ArmorError as ``config_from_json`` does."""
    return config_from_json(path.read_text(encoding='utf-8'), str(path))


def _check_fields(name: str, template: str, allowed: set[str]) -> None:
    """Refuse a prompt template whose {fields} are malformed or not the allowed ones."""
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ArmorError(f'prompts.{name} is {template!r}: {error}') from error
    formatted = any(spec or conversion for _, _, spec, conversion in parts)
    if formatted or {field_name for _, field_name, _, _ in parts} != allowed:
        wanted = ', '.join(f'{{{part}}}' for part in sorted(allowed)) or 'no {fields}'
        raise ArmorError(f'prompts.{name} is {template!r}; it must contain {wanted}')
