# SPDX-License-Identifier: Apache-2.0
"""The model that training starts from: random weights, a plain backbone, or a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from armor_ros.datasets.manifest import Sample
from armor_ros.errors import ArmorError
from armor_ros.model.armor import ArmorModel
from armor_ros.model.checkpoint import load_checkpoint, new_head, with_config
from armor_ros.model.tiny import TinySize, make_tiny_model
from armor_ros.model.tiny_sentences import SENTENCES
from armor_ros.model.weights import CONFIG_FILE, find_checkpoint
from armor_ros.training.conditioning import (
    FACTS_REQUEST,
    PLACE_ASKED_FOR,
    STORY_REQUEST,
    THING_ASKED_FOR,
    TIMELINE_REQUEST,
)
from armor_ros.training.lora import add_adapters
from armor_ros.training.recipe import ModelRecipe, RandomModel, TrainingRecipe


def starting_model(
    recipe: TrainingRecipe, texts: Iterable[str], device: str = 'cpu'
) -> ArmorModel:
    """
    Return the model of a recipe before its first step; a function of the recipe and ``texts``.

    ``texts`` are what the tokenizer of a model from random weights learns from. Weights are in
    float32, as the optimizer needs them, but under adapters in what the recipe computes in. A
    calibration is left behind: it is of weights that are about to change.
    Raises ArmorError when the checkpoint cannot be loaded.
    """
    if recipe.model.random is not None:
        model = _random_model(recipe, recipe.model.random, texts)
    else:
        _check_start(recipe.model.checkpoint)
        model = _without_calibration(_loaded_model(recipe, device))
    model = _with_changes(model, recipe.model)
    if recipe.lora is not None:
        add_adapters(model, recipe.lora, recipe.seed)
    return model.eval()


def _with_changes(model: ArmorModel, recipe: ModelRecipe) -> ArmorModel:
    """Return a model that asks and reads as the recipe says, where it says so."""
    prompts, head = model.config.prompts, model.config.head
    if recipe.account_task is not None:
        prompts = dataclasses.replace(prompts, account_task=recipe.account_task)
    if recipe.quotes is not None:
        prompts = dataclasses.replace(prompts, quotes=recipe.quotes)
    if recipe.pooled_layers is not None:
        head = dataclasses.replace(head, pooled_layers=recipe.pooled_layers)
        model.head.config = head
    config = dataclasses.replace(model.config, prompts=prompts, head=head)
    return model if config == model.config else with_config(model, config)


def _random_model(recipe: TrainingRecipe, random: RandomModel, texts: Iterable[str]) -> ArmorModel:
    size = TinySize(
        hidden_size=random.hidden_size,
        layers=random.layers,
        vision_hidden_size=random.vision_hidden_size,
        vision_layers=random.vision_layers,
        vocabulary=random.vocabulary,
        spread=random.spread,
        patch_size=random.patch_size,
        merge_size=random.merge_size,
        windows_only=random.windows_only,
    )
    asks = any(phase.asks_facts for phase in recipe.phases)
    compared = [THING_ASKED_FOR, PLACE_ASKED_FOR]
    asked = [FACTS_REQUEST, TIMELINE_REQUEST, STORY_REQUEST, *compared] if asks else []
    sentences = (*SENTENCES, *asked, *texts)
    model = make_tiny_model(
        seed=recipe.seed, size=size, config=recipe.model.config, sentences=sentences
    )
    if random.vision:
        _take_vision(model, random.vision)
    return model


def _check_start(checkpoint: str) -> None:
    """Raise ArmorError where another run's checkpoint is missing: that run comes first."""
    folder = Path(checkpoint).expanduser()
    # "owner/name" is a model of the hub
    is_local = checkpoint.count('/') != 1
    if is_local and folder.name == 'checkpoint' and not folder.is_dir():
        raise ArmorError(
            f'model.checkpoint is {checkpoint}, which is not there: it is what a run in '
            f'{folder.parent} leaves, so train that first (the recipes that come with the package '
            'say how at their head), or name another checkpoint'
        )


def _take_vision(model: ArmorModel, checkpoint: str) -> None:
    """Give a model the vision tower of a checkpoint; ArmorError when it has other sizes."""
    seeing = load_checkpoint(checkpoint, device='cpu', dtype='float32').backbone.model.visual
    try:
        model.backbone.model.visual.load_state_dict(seeing.state_dict())
    except RuntimeError as error:
        raise ArmorError(
            f'model.random.vision is {checkpoint}, whose vision tower has other sizes than '
            'model.random says; give it the sizes of the recipe that it was trained by'
        ) from error


def _loaded_model(recipe: TrainingRecipe, device: str) -> ArmorModel:
    lora = recipe.lora
    model = load_checkpoint(
        recipe.model.checkpoint,
        quantization='none' if lora is None else lora.quantization,
        device=device,
        dtype='bfloat16' if lora is not None and recipe.precision == 'bf16' else 'float32',
        head_seed=recipe.seed,
    )
    model.head.float()
    if (find_checkpoint(recipe.model.checkpoint).path / CONFIG_FILE).is_file():
        return model
    config = dataclasses.replace(recipe.model.config, trained=False)
    hidden = model.backbone.config.text_config.hidden_size
    model.head = new_head(hidden, config.head, recipe.seed).to(model.device)
    return with_config(model, config)


def _without_calibration(model: ArmorModel) -> ArmorModel:
    model.calibration = None
    model.why_uncalibrated = 'the model has been trained since it was calibrated'
    model.info = dataclasses.replace(model.info, calibration='', rounds=0, trajectories=0)
    return model


def sample_texts(samples: Iterable[Sample]) -> Iterator[str]:
    """Yield every text that a tokenizer should know: instructions and explanations."""
    for sample in samples:
        yield sample.instruction
        if sample.explanation:
            yield sample.explanation
