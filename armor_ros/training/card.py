# SPDX-License-Identifier: Apache-2.0
"""The model card: data, recipe, figures, licence, limits, and what the model is not."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from armor_ros import __version__
from armor_ros.evaluation.wilson import wilson
from armor_ros.training.checks import worse_than_guessing
from armor_ros.training.phase_recipe import PhaseRecipe
from armor_ros.training.recipe import TrainingRecipe
from armor_ros.training.recipe_files import recipe_text
from armor_ros.training.run_folder import DataFacts

_COLUMNS = {
    'detection': 'detection loss',
    'accuracy': 'accuracy',
    'language': 'loss a token',
    'auxiliary': 'state loss',
}

# Sources and tasks: of a robot at work each recording is a source.
_LISTED = 8


def model_card(
    recipe: TrainingRecipe,
    facts: DataFacts,
    steps: Sequence[Mapping[str, Any]],
    trials: Sequence[Mapping[str, Any]],
    dtype: str,
) -> str:
    """Return the card of a trained model; ``steps`` and ``trials`` are lines of its log."""
    start = recipe.model.checkpoint or 'random weights'
    worse = worse_than_guessing(steps)
    parts = [
        _front_matter(recipe),
        f'# {recipe.name}',
        'Watches a clip of a robot at a task and says whether the task failed, and why. It is '
        f'made for ARMOR for ROS 2, version {__version__}: a Qwen2.5-VL backbone with a second '
        'head for the detection.',
        '## What it is not',
        _is_not(recipe, facts),
        *([f'**Do not use it:** {worse}.'] if worse else []),
        '## Data',
        _data(recipe, facts),
        '## Training',
        f'From {start}, with weights stored as {dtype}.\n\n' + _phases(recipe, steps),
        '## Figures',
        _figures(trials, facts),
        '## Licence',
        _licence(recipe),
        '## Use',
        '```\narmor evaluate BAG --checkpoint THIS_FOLDER --output out/run\n```',
        '## Recipe',
        f'```yaml\n{recipe_text(recipe)}```',
    ]
    return '\n\n'.join(parts) + '\n'


def _front_matter(recipe: TrainingRecipe) -> str:
    lines = ['---', 'library_name: armor_ros', 'pipeline_tag: video-text-to-text']
    base = recipe.model.checkpoint
    if base and not Path(base).expanduser().exists():
        # of the hub, or of this package: a folder of this machine says nothing elsewhere
        lines.append(f'base_model: {base.partition("@")[0]}')
    elif not base:
        lines.append('license: apache-2.0')
    return '\n'.join([*lines, 'tags: [robotics, failure-detection, ros2]', '---'])


def _is_not(recipe: TrainingRecipe, facts: DataFacts) -> str:
    shown = (
        f'collages of {", ".join(recipe.data.cameras)}'
        if recipe.model.config.input_mode.value == 'collage'
        else f'clips of the camera {recipe.data.cameras[0]}'
    )
    if recipe.model.checkpoint:
        shown = f'cameras {", ".join(recipe.data.cameras)}'
    text = (
        'It is not a safety function, and not a model for your robot: it has learned from '
        f'{facts.samples} samples ({_first(list(facts.sources))}) of the tasks '
        f'{_first(list(facts.tasks))}, shown as {shown}. On other robots, cameras, objects and '
        'tasks nothing is known of it until `armor evaluate` has measured it there.'
    )
    if set(facts.sources) == {'simulation'}:
        seen = 'these samples are' if recipe.model.checkpoint else 'that it has seen is'
        text += f' All {seen} simulated.'
    return text + ' Its probabilities are not calibrated; `armor calibrate` does that.'


def _data(recipe: TrainingRecipe, facts: DataFacts) -> str:
    labels = ', '.join(f'{count} {name}' for name, count in facts.labels.items())
    tasks = _first([f'{count} {name}' for name, count in facts.tasks.items()])
    text = (
        f'The split `{recipe.data.split}` of `{facts.name}` (SHA-256 of its manifest '
        f'`{facts.manifest_sha256[:16]}`): {facts.samples} samples ({labels}), {facts.dense} of '
        f'them explained. Tasks: {tasks}.'
    )
    if facts.weak:
        text += (
            f' {facts.weak} of the labels are weak: they are what the stack of the robot said, '
            'which nobody has checked.'
        )
    return text


def _first(names: Sequence[str]) -> str:
    """Return some names as a text, and how many more there are."""
    more = len(names) - _LISTED
    return ', '.join(names[:_LISTED]) + (f' and {more} more' if more > 0 else '')


def _phases(recipe: TrainingRecipe, steps: Sequence[Mapping[str, Any]]) -> str:
    rows = ['| phase | epochs | steps | seconds | detection loss | loss a token |',
            '|---|---|---|---|---|---|']  # fmt: skip
    for index, phase in enumerate(recipe.phases):
        own = [step for step in steps if step['phase'] == index]
        tail = own[-10:]
        rows.append(
            f'| {_phase_name(phase)} | {phase.epochs:g} | {len(own)} '
            f'| {sum(step["seconds"] for step in own):.0f} '
            f'| {_mean([step["detection"] for step in tail])} '
            f'| {_mean([step["language"] for step in tail])} |'
        )
    seconds = sum(step['seconds'] for step in steps)
    spent = f'{seconds / 60:.1f} minutes' if seconds >= 60 else f'{seconds:.0f} seconds'
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return (
        '\n'.join(rows) + '\n\nLosses are means of the last ten steps, on training samples. '
        f'{spent} of steps on {device}, torch {torch.__version__}, '
        f'transformers {transformers.__version__}, seed {recipe.seed}.'
    )


def _phase_name(phase: PhaseRecipe) -> str:
    if phase.kind == 'expert':
        return f'expert ({phase.conditioning})'
    return f'online, T = {phase.rounds}' if phase.kind == 'online' else phase.kind


def _figures(trials: Sequence[Mapping[str, Any]], facts: DataFacts) -> str:
    if not trials:
        return 'None were taken while training. `armor evaluate` takes them, with intervals.'
    last = trials[-1]
    rows = ['| on validation samples | |', '|---|---|', f'| samples | {last["samples"]} |']
    rows += [f'| {title} | {_figure(name, last)} |' for name, title in _COLUMNS.items()
             if last[name] is not None]  # fmt: skip
    return '\n'.join(rows) + (
        "\n\nOf the answers from the clip alone (round 0), with Wilson's 95 % interval, which "
        f'takes samples for independent, on {last["samples"]} of {facts.validation} samples that '
        'were not learned from. Where training was watched by them they are no test: '
        '`armor evaluate` takes all figures on others, with intervals.'
    )


def _figure(name: str, trial: Mapping[str, Any]) -> str:
    value: float = trial[name]
    if name != 'accuracy' or not trial['samples']:
        return f'{value:.3f}'
    low, high = wilson(value * trial['samples'], trial['samples'])
    return f'{value:.3f} [{low:.3f}, {high:.3f}]'


def _licence(recipe: TrainingRecipe) -> str:
    if recipe.model.checkpoint:
        return (
            f'That of {recipe.model.checkpoint}, from whose weights it was trained, and of the '
            'data.'
        )
    return 'Apache-2.0. What it was trained on may have a licence of its own.'


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if value]
    return f'{sum(known) / len(known):.3f}' if known else '-'
