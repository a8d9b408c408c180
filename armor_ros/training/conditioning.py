# SPDX-License-Identifier: Apache-2.0
"""What prompts quote, and so which branches a sample has, in each phase of Algorithm 1."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

from armor_ros.episodes.text import MAX_TEXT_LENGTH, clean_text
from armor_ros.model.prompts import PreviousAnswer, PromptEncoder
from armor_ros.training.packing import Branch

# Mixed conditioning: how often a prompt quotes nothing, the label, the explanation, or both, and
# how often what it quotes is wrong.
_MIXED_CHOICES = ((False, False), (True, False), (False, True), (True, True))
_MIXED_SHARES = (0.35, 0.15, 0.15, 0.35)
_WRONG_LABEL = 0.3
_OTHER_EXPLANATION = 0.7

# Of the names that the classification head is asked for, so many are true where there are as many:
# drawn by chance, three in four are not, and of places it then never learned to say yes.
_LABELLED_FACTS = 3
_TRUE_FACTS = 2
_FACT_WORDS = {True: 'yes', False: 'no'}

# How often an account is asked for again.
_RETOLD = 0.25

THING_ASKED_FOR = 'the thing asked for'
PLACE_ASKED_FOR = 'above the place asked for'
"""What an instruction names, where it is not called by its name; see ``Facts``."""

# Supervised fine-tuning learns one text with both answers (appendix B.4).
FACTS_REQUEST = 'Which things does the gripper take, and where does it let go?'
TIMELINE_REQUEST = 'Where is the gripper from step to step, and what does it hold?'
STORY_REQUEST = 'What does the gripper do?'
SFT_REQUEST = (
    'Please answer the question in the following format:\n'
    '<think>your reasoning</think>\n<answer>Yes/No</answer>.'
)


@dataclass(frozen=True, slots=True)
class Truth:
    """
    What is known of a sample: whether the task failed, and why, '' if not explained.

    ``account`` is what the model told of the clip before, which all of its prompts quote.
    """

    failed: bool
    explanation: str = ''
    account: str = ''


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What the simulator's state says of a clip.

    ``named`` are names of things and places, and whether each is one that the gripper takes or
    lets go above; ``timeline`` is where it is at each time step of the clip, and what it holds;
    ``story`` is what it does, in a sentence (see ``narration``). ``compared`` is the same as
    ``named`` for what the instruction names: THING_ASKED_FOR, PLACE_ASKED_FOR, or none of them.
    """

    named: tuple[tuple[str, bool], ...]
    timeline: tuple[str, ...] = ()
    story: str = ''
    compared: tuple[tuple[str, bool], ...] = ()


def warmup_branches(prompts: PromptEncoder, truth: Truth) -> list[Branch]:
    """Return the questions from nothing but the clip (first stage of offline imitation)."""
    return ask(prompts, truth, PreviousAnswer())


def spoken_branches(prompts: PromptEncoder, truth: Truth) -> list[Branch]:
    """Return the question for the explanation alone; a sparse sample has none to teach."""
    return [branch for branch in warmup_branches(prompts, truth) if branch.answer]


def fact_branches(prompts: PromptEncoder, facts: Facts, rng: random.Random) -> list[Branch]:
    """
    Return questions what was done: which names are those of it, and what happens step by step.

    The language head is given the names in random order, and says yes or no after each, last of
    all whether what was asked for is among them; it tells the timeline and the story in its own
    words. The classification head is asked for some of the names, of which nothing but the name
    is said. As it is for the label, it is asked for what was asked for, once more behind the
    story, which is quoted as an explanation is.
    A small language model from random weights learns so to look for what a word means, to
    compare, to read, and to tell what it sees; whether a task was done, a single bit about two
    names of many, teaches that too slowly. Without facts there is nothing to ask.
    """
    order = rng.sample(facts.named, len(facts.named))
    answer: list[int] = []
    asked: list[bool] = []
    for name, is_true in (*order, *facts.compared):
        question = prompts.encode_text(f' {name}:')
        word = prompts.encode_text(f' {_FACT_WORDS[is_true]}')
        comma = prompts.encode_text(',')
        answer += [*question, *word, *comma]
        asked += [False] * len(question) + [True] * len(word) + [False] * len(comma)
    branches = []
    if order:
        suffix = tuple(prompts.free_suffix(FACTS_REQUEST))
        branches.append(Branch(suffix, answer=tuple(answer), asked=tuple(asked)))
    told = ((TIMELINE_REQUEST, ', '.join(facts.timeline)), (STORY_REQUEST, facts.story))
    for request, text in told:
        if text:
            words = tuple(prompts.explanation_tokens(text))
            branches.append(Branch(tuple(prompts.free_suffix(request)), answer=words))
    true = [name for name, is_true in order if is_true][:_TRUE_FACTS]
    false = [name for name, is_true in order if not is_true][: _LABELLED_FACTS - len(true)]
    said = [(name, True) for name in true] + [(name, False) for name in false]
    branches += [
        Branch(tuple(prompts.encode_text(f' {name}')), failed=not is_true)
        for name, is_true in said
    ]
    asked_for = [(name, is_true, PreviousAnswer()) for name, is_true in facts.compared]
    if facts.story and facts.compared:
        asked_for.append((*rng.choice(facts.compared), PreviousAnswer(None, facts.story)))
    return branches + [
        Branch(tuple(prompts.free_suffix(name, quoted)), failed=not is_true)
        for name, is_true, quoted in asked_for
    ]


def reading_branches(
    prompts: PromptEncoder, facts: Facts, explanation: str, rng: random.Random
) -> list[Branch]:
    """
    Return whether a text tells of what the instruction names: the classification head reads.

    The text is the story or the explanation, where there are both; it is quoted as an explanation
    is. A pretrained language model compares two texts before it compares a text with what it sees.
    """
    texts = [text for text in (facts.story, explanation) if text]
    if not texts:
        return []
    quoted = [(*each, PreviousAnswer(None, rng.choice(texts))) for each in facts.compared]
    return [
        Branch(tuple(prompts.free_suffix(name, text)), failed=not is_true)
        for name, is_true, text in quoted
    ]


def expert_branches(prompts: PromptEncoder, truth: Truth, rng: random.Random) -> list[Branch]:
    """
    Return one question given the truth about the other task (section 4.2 and A.2).

    A task is drawn and its own truth masked. A sparse sample has no explanation to quote: its
    label is asked for from the clip alone.
    """
    if not truth.explanation:
        return [_label(prompts, truth, PreviousAnswer())]
    if rng.random() < 0.5:
        return [_label(prompts, truth, PreviousAnswer(None, truth.explanation))]
    return [_explanation(prompts, truth, PreviousAnswer(truth.failed))]


def mixed_branches(
    prompts: PromptEncoder, truth: Truth, others: Sequence[str], rng: random.Random
) -> list[Branch]:
    """
    Return both questions given nothing, one or both answers, which are often wrong.

    ``others`` are explanations of other samples. A sparse sample quotes them in place of its own.
    """
    with_label, with_explanation = rng.choices(_MIXED_CHOICES, _MIXED_SHARES)[0]
    failed: bool | None = None
    explanation = ''
    if with_label:
        failed = truth.failed != (rng.random() < _WRONG_LABEL)
    if with_explanation:
        explanation = truth.explanation
        if others and (not explanation or rng.random() < _OTHER_EXPLANATION):
            explanation = rng.choice(others)
    return ask(prompts, truth, PreviousAnswer(failed, explanation))


def contrast_branches(
    prompts: PromptEncoder,
    truth: Truth,
    others: Sequence[Truth],
    quoted_errors: float,
    rng: random.Random,
) -> list[Branch]:
    """
    Return both questions twice: from nothing but the clip, and given an answer to the other task.

    From the first step on, before the clip itself gives every answer of the training data away:
    later there is nothing left to learn from what is quoted, and it comes to be ignored.

    - The explanation is asked for given the true label, never a wrong one: a failure has no
      explanation under the label success, so there is no text to teach. This is p(e | clip, l),
      into which a predicted label can be put.
    - The label is asked for given the explanation of one of ``others``, which speaks of the wrong
      outcome in a share ``quoted_errors``. It says nothing of this clip but the outcome, and is
      evidence of a known strength, log((1 - r) / r) at a rate r: the head learns to weigh it
      against what it sees. The rate is best near that of the model's own explanations. A sample's
      own explanation would give the label away (see ``expert_branches``).
    """
    branches = ask(prompts, truth, PreviousAnswer())
    outcome = truth.failed != (rng.random() < quoted_errors)
    pool = [
        other.explanation
        for other in others
        if other.failed == outcome and other.explanation != truth.explanation
    ]
    if pool:
        branches.append(_label(prompts, truth, PreviousAnswer(None, rng.choice(pool))))
    if truth.explanation:
        branches.append(_explanation(prompts, truth, PreviousAnswer(truth.failed)))
    return branches


def online_branches(
    prompts: PromptEncoder, truth: Truth, history: Sequence[PreviousAnswer]
) -> list[Branch]:
    """
    Return the questions of all rounds, given what the policy itself answered before each.

    They quote the account that it told there, an empty one too, and none that it told before.
    """
    truth = dataclasses.replace(truth, account='')
    return [
        branch
        for index, previous in enumerate(history)
        for branch in ask(prompts, truth, previous, index)
    ]


def account_branches(
    prompts: PromptEncoder, request: str, account: str, rng: random.Random
) -> list[Branch]:
    """
    Return, for one turn in four, the question for an account as it was told before.

    What a model is not asked for it forgets: after four epochs of labels and explanations alone,
    one that had told stories told explanations in their place. Its own words keep it as it was.
    """
    if not account or rng.random() >= _RETOLD:
        return []
    words = tuple(prompts.explanation_tokens(account))
    return [Branch(tuple(prompts.free_suffix(request)), answer=words)]


def sft_branches(prompts: PromptEncoder, truth: Truth) -> list[Branch]:
    """Return the one question of the fine-tuning baselines; sparse samples think of nothing."""
    answer = sft_answer(truth)
    suffix = tuple(prompts.free_suffix(SFT_REQUEST))
    return [Branch(suffix, answer=tuple(prompts.explanation_tokens(answer)))]


def sft_answer(truth: Truth) -> str:
    """Return the text that fine-tuning teaches (section B.2)."""
    word = 'No' if truth.failed else 'Yes'
    before, after = '<think>', f'</think> <answer>{word}</answer>'
    # a thought is cut before the answer would be, which comes last
    thought = clean_text(truth.explanation, MAX_TEXT_LENGTH - len(before) - len(after))
    return before + thought + after


def ask(
    prompts: PromptEncoder, truth: Truth, previous: PreviousAnswer, index: int = 0
) -> list[Branch]:
    """Return the question for the label and, of a dense sample, that for the explanation."""
    branches = [_label(prompts, truth, previous, index)]
    if truth.explanation:
        branches.append(_explanation(prompts, truth, previous, index))
    return branches


def _label(
    prompts: PromptEncoder, truth: Truth, previous: PreviousAnswer, index: int = 0
) -> Branch:
    suffix = tuple(prompts.detection_suffix(_behind(truth, previous)))
    return Branch(suffix, failed=truth.failed, round=index)


def _explanation(
    prompts: PromptEncoder, truth: Truth, previous: PreviousAnswer, index: int = 0
) -> Branch:
    suffix = tuple(prompts.reasoning_suffix(_behind(truth, previous)))
    answer = tuple(prompts.explanation_tokens(truth.explanation))
    return Branch(suffix, answer=answer, round=index)


def _behind(truth: Truth, previous: PreviousAnswer) -> PreviousAnswer:
    """Return what is quoted behind the account of the clip, unless it has one of its own."""
    return previous if previous.account else dataclasses.replace(previous, account=truth.account)
