# SPDX-License-Identifier: Apache-2.0
"""The prompts of appendix B.4 for models that were not trained for the task."""

from __future__ import annotations

from collections.abc import Sequence

from armor_ros.evaluation.baselines.answer import SUCCESS_EXPLANATION, Example
from armor_ros.evaluation.chat import Part
from armor_ros.model.config import PromptConfig
from armor_ros.model.prompts import task_question

_FORMAT = (
    'Please answer the question in the following format:\n'
    '<think>your reasoning</think>\n'
    '<answer>Yes/No</answer>.'
)
SYSTEM = f'{PromptConfig().system}\n\n{_FORMAT}'
_INTRODUCTION = (
    'For the given sub-tasks, first determine it has succeed by choosing from ["yes", "no"], and '
    'then explain the reason why the current sub-tasks has failed.\nHere are some examples:'
)


def question(instruction: str, views: Sequence[str] | None = None) -> str:
    """Return the task question, of a clip or (``views`` given: its rows) of a collage."""
    return task_question(PromptConfig(), instruction, views)


def few_shot_parts(
    examples: Sequence[tuple[Example, Sequence[bytes], str]], pictures: Sequence[bytes], asked: str
) -> list[Part]:
    """
    Return the few-shot prompt: each example's pictures, question and answer, then the task's own.

    ``examples`` are (example, its JPEGs, its question). Without examples it is the general prompt.
    """
    if not examples:
        return [*pictures, asked]
    parts: list[Part] = [_INTRODUCTION]
    for number, (example, shown, text) in enumerate(examples, 1):
        explanation = example.explanation or ('' if example.failed else SUCCESS_EXPLANATION)
        word = 'no' if example.failed else 'yes'
        parts += [f'Example {number}:', *shown]
        parts.append(f'Question: {text}\n<think>{explanation}</think>\n<answer>{word}</answer>')
    return [*parts, 'Now answer the following question:', *pictures, f'Question: {asked}']
