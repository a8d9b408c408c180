# SPDX-License-Identifier: Apache-2.0
"""
The prompts of appendix B.4 as tokens.

A prompt is a prefix (system prompt, vision tokens, task question), which all rounds, trajectories
and both tasks share, and a suffix (conditioning, task line, end of the turn). Each piece is
tokenised on its own, so that a seam never merges, in training as in inference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenizers import Tokenizer

from armor_ros.episodes.text import clean_text
from armor_ros.errors import ArmorError
from armor_ros.model.config import PromptConfig


@dataclass(frozen=True, slots=True)
class PreviousAnswer:
    """
    What the model said in the round before; both empty before the first round.

    ``failed`` None or ``explanation`` '' leave that conditioning line out (section 4.2). So does
    an empty ``account``: what the model told of the clip before all rounds, which is the same in
    each (see ``PromptConfig.account_task``). Of label and explanation a task may be quoted that of
    the other task alone (see ``PromptConfig.quotes``).
    """

    failed: bool | None = None
    explanation: str = ''
    account: str = ''


@dataclass(frozen=True, slots=True)
class PrefixTokens:
    """Token ids before and after the vision tokens, which stand between the two."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class PromptEncoder:
    """
    Turns instructions and answers into token ids, and generated ids into text.

    Text from outside is encoded by a tokenizer without added tokens, so that "<|im_end|>" in an
    instruction is some ordinary tokens and never the end of the turn.
    """

    def __init__(self, tokenizer: Any, config: PromptConfig) -> None:
        self._tokenizer = tokenizer
        self._config = config
        self._plain = _without_added_tokens(tokenizer)
        self._turn_start = self._control('<|im_start|>')
        self._turn_end = self._control('<|im_end|>')
        self._vision_start = self._control('<|vision_start|>')
        self._vision_end = self._control('<|vision_end|>')
        self.image_id = self._control('<|image_pad|>')
        self.video_id = self._control('<|video_pad|>')
        self.padding_id = self._control('<|endoftext|>')
        self.end_id = self._turn_end
        self.stop_ids = frozenset((self._turn_end, self.padding_id))

    def prefix(self, instruction: str, views: Sequence[str] | None = None) -> PrefixTokens:
        """
        Return the tokens that every call on one clip begins with.

        ``views`` names the rows of a collage from the top; None means a clip. An empty
        ``instruction`` asks the open question.
        """
        before = [self._turn_start, *self.encode_text('system\n')]
        before += self.encode_text(self._config.system)
        before += [self._turn_end, *self.encode_text('\n'), self._turn_start]
        before += [*self.encode_text('user\n'), self._vision_start]
        question = self.question(instruction, views) + '\n'
        return PrefixTokens(tuple(before), (self._vision_end, *self.encode_text(question)))

    def question(self, instruction: str, views: Sequence[str] | None = None) -> str:
        """Return the task question, of a clip or (``views`` given) of a collage."""
        return task_question(self._config, instruction, views)

    def detection_suffix(self, previous: PreviousAnswer) -> list[int]:
        """Return the tokens after the prefix that ask for the detection."""
        if self._config.quotes == 'other':
            previous = replace(previous, failed=None)
        return self._suffix(previous, self._config.detection_task)

    def reasoning_suffix(self, previous: PreviousAnswer) -> list[int]:
        """Return the tokens after the prefix that ask for the explanation."""
        if self._config.quotes == 'other':
            previous = replace(previous, explanation='')
        return self._suffix(previous, self._config.reasoning_task)

    def free_suffix(self, request: str, previous: PreviousAnswer | None = None) -> list[int]:
        """Return the tokens after the prefix that make another request; None quotes nothing."""
        return self._suffix(previous or PreviousAnswer(), request)

    def explanation_tokens(self, explanation: str) -> list[int]:
        """Return what the model should generate for an explanation, the end token included."""
        return [*self.encode_text(clean_text(explanation)), self.end_id]

    def encode_text(self, text: str) -> list[int]:
        """Encode text in which no control token is ever recognised."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """
        Return generated ids as clean text.

        Control tokens vanish, invalid bytes become U+FFFD, and the rest is one line of at most
        2000 characters (see ``clean_text``).
        """
        text = self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return clean_text(text)

    def _suffix(self, previous: PreviousAnswer, task: str) -> list[int]:
        """Return conditioning lines, the task line and the opening of the model's turn."""
        lines = []
        account = clean_text(previous.account)
        if account:
            lines.append(self._config.account.format(account=account))
        if previous.failed is not None:
            word = self._config.detection_values[0 if previous.failed else 1]
            lines.append(self._config.previous_detection.format(detection=word))
        explanation = clean_text(previous.explanation)
        if explanation:
            lines.append(self._config.previous_reasoning.format(reasoning=explanation))
        # A line break belongs to the line it ends, as it does where Qwen's tokenizer cuts.
        ids = [token for line in lines for token in self.encode_text(line + '\n')]
        ids += self.encode_text(task)
        ids += [self._turn_end, *self.encode_text('\n'), self._turn_start]
        return [*ids, *self.encode_text('assistant\n')]

    def _control(self, token: str) -> int:
        """Return the id of a control token; raises ArmorError when the tokenizer lacks it."""
        token_id = self._tokenizer.convert_tokens_to_ids(token)
        if token_id is None or self._tokenizer.convert_ids_to_tokens(token_id) != token:
            raise ArmorError(
                f'the tokenizer has no token {token!r}; use the tokenizer files of Qwen2.5-VL'
            )
        return int(token_id)


def task_question(
    config: PromptConfig, instruction: str, views: Sequence[str] | None = None
) -> str:
    """Return the task question, of a clip or (``views`` given) of a collage."""
    instruction = clean_text(instruction).rstrip(' .?!')
    if views is None:
        template = config.question if instruction else config.open_question
        return template.format(instruction=instruction)
    names = clean_text(', '.join(views))
    template = config.collage_question if instruction else config.open_collage_question
    return template.format(instruction=instruction, views=names)


def _without_added_tokens(tokenizer: Any) -> Tokenizer:
    """Return a copy of a fast tokenizer that knows no control tokens."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state['added_tokens'] = []
    state['post_processor'] = None
    return Tokenizer.from_str(json.dumps(state))
