# SPDX-License-Identifier: Apache-2.0
"""One phase of a recipe: what is asked in it, for how long, and how its questions are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from armor_ros.configuration import check_number
from armor_ros.errors import ArmorError

PhaseKind = Literal['perception', 'facts', 'warmup', 'expert', 'online', 'sft']
Conditioning = Literal['paper', 'mixed', 'contrast']
# Phases that ask for labels and explanations, and so can learn from sampled ones.
_EXPLAINING = ('warmup', 'expert', 'online')
# What prompts may quote beside the paper's way, where there is a choice.
_OTHER_WAYS: dict[str, tuple[Conditioning, ...]] = {
    'warmup': ('contrast',),
    'expert': ('mixed', 'contrast'),
}


@dataclass(frozen=True, slots=True)
class PhaseRecipe:
    """
    One phase of Algorithm 1, or of a baseline.

    - ``perception``: the vision tower alone learns the simulator's state; at the end its tokens
      are standardized (see ``training.standardize``).
    - ``facts``: both heads learn, of the simulator's state, what the gripper takes and where it
      lets go, and neither labels nor explanations: what a pretrained backbone brings.
    - ``warmup``: label and explanation from nothing but the clip.
    - ``expert``: each given what is true of the other task (section 4.2). ``conditioning`` paper
      masks the task's own truth; mixed quotes nothing, one, or both, and not always the truth.
    - ``online``: ``rounds`` rounds of the policy's own answers, sampled at ``temperature`` up to
      ``max_new_tokens``; labels drawn unless ``sample_label`` is off.
    - ``sft``: one answer in the format of appendix B.4, the explanation and then Yes or No.

    Beside the paper's way: ``conditioning`` contrast, in warm-up and expert, asks everything
    twice, from the clip alone and given an answer to the other task; explanations that are quoted
    then speak of the wrong outcome in a share ``quoted_errors`` (see ``contrast_branches``). With
    ``verified`` the model samples up to so many explanations of each clip that has a label alone,
    before the phase begins, and learns from the first that tells of this label (see
    ``verification``). With ``folds`` the rounds of an online phase are answered by models that
    have not learned from the clip (see ``cross_fitting``), instead of by the model in training.

    ``epochs`` counts passes over the samples that the phase uses: all, or with ``only_dense`` the
    explained ones. The expert phase of Algorithm 1 has these alone; of all samples, it asks the
    label of the others from the clip alone. ``learning_rate`` and ``vision_learning_rate`` None
    are the optimizer's; ``auxiliary`` weighs the loss on the simulator's state. ``time_steps`` is
    how many steps of a clip a turn of perception shows, drawn anew each time; None is all.
    ``vary`` shows these in other light, moved a little and mirrored (see ``training.variation``).
    ``facts`` lets a warm-up ask for these, too. ``compare`` asks besides whether what the
    instruction names is among the facts, for a model that has come to know them; ``read`` asks
    that of a text alone, which is quoted (see ``reading_branches``). With ``explain`` a phase of
    facts asks for explanations as well, and still for no label: the language head then speaks of
    success and failure, as a pretrained one does, and the classification head has not heard of
    them.
    """

    kind: PhaseKind
    epochs: float = 1.0
    only_dense: bool = False
    conditioning: Conditioning = 'paper'
    quoted_errors: float = 0.1
    verified: int = 0
    folds: int = 0
    rounds: int = 3
    temperature: float = 0.7
    max_new_tokens: int = 80
    sample_label: bool = True
    learning_rate: float | None = None
    vision_learning_rate: float | None = None
    auxiliary: float = 0.0
    time_steps: int | None = None
    vary: bool = False
    facts: bool = False
    compare: bool = False
    read: bool = False
    explain: bool = False

    @property
    def asks_state(self) -> bool:
        """Whether vision tokens are asked for the simulator's state."""
        return self.kind == 'perception' or self.auxiliary > 0

    @property
    def tells_accounts(self) -> bool:
        """Whether the clips are told of before it, where the model is asked to."""
        return self.kind in _EXPLAINING

    @property
    def quotes_both(self) -> bool:
        """Whether there are prompts that may quote both answers; see ``PromptConfig.quotes``."""
        return self.kind == 'online' or (self.kind == 'expert' and self.conditioning == 'mixed')

    @property
    def asks_facts(self) -> bool:
        """Whether what was done is asked for as the simulator's state has it."""
        return self.facts or self.kind == 'facts'

    def __post_init__(self) -> None:
        here = f'phase {self.kind}'
        if self.time_steps is not None:
            check_number(here, 'time_steps', self.time_steps, 1, 100_000)
        if self.facts and self.kind != 'warmup':
            raise ArmorError(
                f'{here}: facts is on, but only warmup asks for them, too; leave it out'
            )
        for name in ('compare', 'read'):
            if getattr(self, name) and not self.asks_facts:
                raise ArmorError(
                    f'{here}: {name} is on, but no facts are asked for; set facts in a warm-up, '
                    'or leave it out'
                )
        if self.explain and self.kind != 'facts':
            raise ArmorError(f'{here}: explain is on, but that is for facts alone; leave it out')
        if self.kind != 'perception' and (self.vary or self.time_steps is not None):
            raise ArmorError(
                f'{here}: time_steps and vary are for perception alone, since what is said of a '
                'clip would not hold any more; leave them out'
            )
        self._check_ways(here)
        check_number(here, 'epochs', self.epochs, 1e-6, 1e6)
        check_number(here, 'rounds', self.rounds, 1, 100)
        check_number(here, 'temperature', self.temperature, 0.0, 100.0)
        check_number(here, 'max_new_tokens', self.max_new_tokens, 1, 4096)
        for name in ('learning_rate', 'vision_learning_rate'):
            rate = getattr(self, name)
            if rate is not None:
                check_number(here, name, rate, 0.0, 10.0)
        check_number(here, 'auxiliary', self.auxiliary, 0.0, 1e6)
        check_number(here, 'quoted_errors', self.quoted_errors, 0.0, 1.0)
        check_number(here, 'verified', self.verified, 0, 1000)
        if self.verified and (self.kind not in _EXPLAINING or self.only_dense):
            raise ArmorError(
                f'{here}: verified is {self.verified}, for phases of all samples that ask for '
                f'explanations ({", ".join(_EXPLAINING)}, only_dense false); leave it out'
            )
        if self.folds:
            check_number(here, 'folds', self.folds, 2, 100)
            if self.kind != 'online':
                raise ArmorError(f'{here}: folds is {self.folds}, for online phases; leave it out')

    def _check_ways(self, here: str) -> None:
        ways = ('paper', *_OTHER_WAYS.get(self.kind, ()))
        if self.conditioning not in ways:
            raise ArmorError(
                f'{here}: conditioning is {self.conditioning!r}, which is not one of its ways '
                f'({", ".join(ways)}); choose one, or leave it out'
            )
