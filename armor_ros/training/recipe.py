# SPDX-License-Identifier: Apache-2.0
"""Recipes: what is trained on what, and how; read from YAML and checked once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from armor_ros.configuration import check_number
from armor_ros.errors import ArmorError
from armor_ros.model.config import ArmorConfig, Quotes
from armor_ros.training.phase_recipe import PhaseRecipe


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """
    Which samples of a manifest data set are learned from.

    ``dense`` and ``sparse`` bound how many samples keep their explanation, and how many have only
    a label (None: as many as the data set has); which ones, ``seed`` decides, so that a smaller
    number is a part of a larger one. A dense sample above the bound becomes a sparse one.
    ``cameras`` are the rows of a collage from the top; a clip is of the first. With ``folds`` all
    of these are cut into as many parts, and part number ``left_out`` is not learned from.
    """

    split: str = 'train'
    validation: str = 'validation'
    cameras: tuple[str, ...] = ('front', 'wrist', 'overhead')
    dense: int | None = None
    sparse: int | None = None
    seed: int = 0
    folds: int = 0
    left_out: int = 0

    def __post_init__(self) -> None:
        if self.folds:
            check_number('data', 'folds', self.folds, 2, 100)
            check_number('data', 'left_out', self.left_out, 0, self.folds - 1)
        for name in ('dense', 'sparse'):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ArmorError(f'data.{name} is {value}; give a number of samples, or null')
        if not self.cameras:
            raise ArmorError('data.cameras is empty; name at least one')


@dataclass(frozen=True, slots=True)
class RandomModel:
    """
    Sizes of a backbone that starts from random weights; see ``armor_ros.model.tiny``.

    ``vocabulary`` bounds the tokens of a tokenizer that is learned from the data set's texts,
    ``spread`` is the deviation of the first weights. ``vision`` is a checkpoint of these sizes
    whose vision tower is taken: one that sees already, for a language model that knows nothing.
    """

    hidden_size: int = 128
    layers: int = 6
    vision_hidden_size: int = 96
    vision_layers: int = 4
    patch_size: int = 28
    merge_size: int = 2
    windows_only: bool = False
    vocabulary: int = 1024
    spread: float | None = 0.05
    vision: str = ''

    def __post_init__(self) -> None:
        here = 'model.random'
        check_number(here, 'hidden_size', self.hidden_size, 32, 65536)
        if self.hidden_size % 32:
            raise ArmorError(
                f'{here}: hidden_size is {self.hidden_size}; make it a multiple of 32, the size '
                'of an attention head'
            )
        check_number(here, 'vision_hidden_size', self.vision_hidden_size, 8, 65536)
        if self.vision_hidden_size % 8:
            raise ArmorError(
                f'{here}: vision_hidden_size is {self.vision_hidden_size}; make it a multiple of '
                '8, for two attention heads that tell rows from columns'
            )
        check_number(here, 'patch_size', self.patch_size, 1, 1024)
        check_number(here, 'merge_size', self.merge_size, 1, 64)
        check_number(here, 'layers', self.layers, 1, 1000)
        check_number(here, 'vision_layers', self.vision_layers, 1, 1000)
        check_number(here, 'vocabulary', self.vocabulary, 300, 1_000_000)
        if self.spread is not None:
            check_number(here, 'spread', self.spread, 1e-6, 10.0)


@dataclass(frozen=True, slots=True)
class ModelRecipe:
    """
    What training starts from: ``checkpoint``, a folder or a hub model; else ``random`` weights.

    ``config`` is that of the new checkpoint, where it starts from random weights or from a plain
    backbone; a checkpoint of ours keeps its own, but for what is not None of these: its prompts'
    ``account_task`` and ``quotes``, and its head's ``pooled_layers``: the head keeps its weights
    and reads other decoder layers (see ``PromptConfig`` and ``HeadConfig``).
    """

    checkpoint: str = ''
    random: RandomModel | None = None
    config: ArmorConfig = field(default_factory=ArmorConfig)
    account_task: str | None = None
    quotes: Quotes | None = None
    pooled_layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if bool(self.checkpoint) == (self.random is not None):
            raise ArmorError('model: give either checkpoint or random, where training starts')


@dataclass(frozen=True, slots=True)
class OptimizerRecipe:
    """
    AdamW with a warm-up and then a cosine to zero over each phase (Table 5).

    ``vision_learning_rate`` 0 freezes the vision tower. ``clip_norm`` bounds the gradient's norm.
    """

    learning_rate: float = 1e-5
    vision_learning_rate: float = 2e-6
    weight_decay: float = 0.1
    warmup_ratio: float = 0.03
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        check_number('optimizer', 'learning_rate', self.learning_rate, 0.0, 10.0)
        check_number('optimizer', 'vision_learning_rate', self.vision_learning_rate, 0.0, 10.0)
        check_number('optimizer', 'weight_decay', self.weight_decay, 0.0, 10.0)
        check_number('optimizer', 'warmup_ratio', self.warmup_ratio, 0.0, 1.0)
        check_number('optimizer', 'clip_norm', self.clip_norm, 1e-6, 1e6)


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """
    Low-rank adapters on the language model's projections instead of all its weights (peft).

    ``quantization`` 4bit or 8bit of what they adapt makes it QLoRA.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    targets: tuple[str, ...] = (
        'q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj',
    )  # fmt: skip
    quantization: Literal['none', '8bit', '4bit'] = 'none'

    def __post_init__(self) -> None:
        check_number('lora', 'rank', self.rank, 1, 4096)
        check_number('lora', 'alpha', self.alpha, 1e-6, 1e6)
        check_number('lora', 'dropout', self.dropout, 0.0, 0.99)
        if not self.targets:
            raise ArmorError('lora.targets is empty; name projections, such as q_proj')


@dataclass(frozen=True, slots=True)
class EvaluationRecipe:
    """
    Every how many ``epochs`` of a phase, and on how many ``samples``, the model is tried out.

    It is tried at the end of each phase too. The answers to ``shown`` of the samples are written
    out. ``samples`` 0 leaves all of it away.
    """

    epochs: float = 1.0
    samples: int = 64
    shown: int = 4

    def __post_init__(self) -> None:
        check_number('evaluation', 'epochs', self.epochs, 1e-3, 1e6)
        check_number('evaluation', 'samples', self.samples, 0, 1_000_000)
        check_number('evaluation', 'shown', self.shown, 0, 1_000)


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """
    A whole training run.

    ``batch_size`` is the number of samples of an optimizer step over all processes,
    ``micro_batch_size`` how many of them a process takes at once. ``language_weight`` weighs the
    loss on explanations against that on labels. ``precision`` auto is bf16 where the machine
    multiplies it in hardware, and float32 elsewhere (see ``with_precision``).
    """

    phases: tuple[PhaseRecipe, ...]
    model: ModelRecipe
    name: str = ''
    seed: int = 0
    data: DataRecipe = field(default_factory=DataRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    batch_size: int = 16
    micro_batch_size: int = 4
    language_weight: float = 1.0
    precision: Literal['auto', 'no', 'bf16', 'fp16'] = 'no'
    gradient_checkpointing: bool = False
    lora: LoraRecipe | None = None
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)

    def __post_init__(self) -> None:
        if not self.phases:
            raise ArmorError('phases is empty; name at least one, such as warmup')
        self._check_folds()
        self._check_rates()
        check_number('recipe', 'batch_size', self.batch_size, 1, 1_000_000)
        check_number('recipe', 'micro_batch_size', self.micro_batch_size, 1, self.batch_size)
        check_number('recipe', 'language_weight', self.language_weight, 0.0, 1e6)
        lora = self.lora
        if lora is not None and lora.quantization != 'none' and self.model.random is not None:
            raise ArmorError(
                f'lora.quantization is {lora.quantization}, but the model starts from random '
                'weights; there is nothing to quantize: give model.checkpoint'
            )

    def _check_folds(self) -> None:
        """Raise ArmorError where there is nothing to cross-fit, or it is asked for twice."""
        fitted = [index for index, phase in enumerate(self.phases) if phase.folds]
        if fitted[:1] == [0]:
            raise ArmorError(
                'folds is set in the first phase; models that have not learned from a clip need a '
                'phase before it, such as warmup'
            )
        if len(fitted) > 1 or (fitted and self.data.folds):
            raise ArmorError('folds is set more than once; set it in one phase')

    def _check_rates(self) -> None:
        """Raise ArmorError where the vision tower is to learn, and what asks it stays as it is."""
        for phase in self.phases:
            if self.rates_of(phase)[0] == 0 and phase.kind != 'perception':
                raise ArmorError(
                    f'phase {phase.kind}: learning_rate is 0, so neither the language model nor a '
                    'head would learn; give one above 0. A phase of perception trains the vision '
                    'tower alone'
                )

    def rates_of(self, phase: PhaseRecipe) -> tuple[float, float]:
        """Return the learning rates of a phase: of all but the vision tower, and of it."""
        rate, vision = phase.learning_rate, phase.vision_learning_rate
        return (
            self.optimizer.learning_rate if rate is None else rate,
            self.optimizer.vision_learning_rate if vision is None else vision,
        )

    @property
    def asks_state(self) -> bool:
        """Whether some phase asks vision tokens for the simulator's state."""
        return any(phase.asks_state for phase in self.phases)

    @property
    def kinds(self) -> Collection[str]:
        """Kinds of the phases, in order."""
        return [phase.kind for phase in self.phases]
