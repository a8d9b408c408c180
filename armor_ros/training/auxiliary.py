# SPDX-License-Identifier: Apache-2.0
"""
Supervision by the simulator's state, for backbones that start from random weights.

A small vision tower does not find out by itself that a can of ten pixels matters; asked where
each named thing is at each time step, it does. Every vision token of a time step is asked, most
of all whether it shows the thing: asked only where things are in the room, a tower needs many
times as long to find out which pixels a name means. Besides, a linear layer alone asks each token
for words: a language model from random weights finds in tokens what is linear in them, and of a
tower that was only asked by layers of another kind it learned next to nothing. The head that asks
is thrown away after training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from armor_ros.training.state_targets import TAGS, VALUES, WORDS, StateTargets

# Tokens of one time step that have a place of their own, and the width of what is asked.
_PLACES = 1024
_INNER = 128
_NEVER = -1e4
# Of what is shown, what is touched, and the place below: the latter are rare, and count more.
_TAG_WEIGHTS = (1.0, 3.0, 3.0)
# The logit of one word of all to a token, before anything is known.
_RARE = -7.0


class StateHead(nn.Module):
    """
    Answers questions about the state from the vision tokens of a time step.

    Each token is asked whether it shows a thing, where in it, and what is true of the thing; the
    tokens' word on the latter counts by how sure they are to show it. Tokens are told apart by
    their places in the step, so that they need not say where in the picture they are.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, _INNER)
        self.places = nn.Embedding(_PLACES, _INNER)
        for table in (self.words, self.places):
            nn.init.normal_(table.weight, std=0.3)
        self.norm = nn.LayerNorm(hidden_size)
        self.token = nn.Linear(hidden_size, _INNER)
        self.gate = nn.Linear(_INNER, _INNER)
        self.mix = nn.Linear(_INNER, _INNER)
        self.answer = nn.Linear(_INNER, VALUES + 3)
        self.tags = nn.Linear(hidden_size, TAGS * WORDS)
        nn.init.constant_(self.tags.bias, _RARE)

    def loss(
        self, vision: torch.Tensor, states: Sequence[StateTargets]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the summed loss over all questions, and their number.

        A question's loss is the mean smooth-L1 error of the values that are known, and where the
        places are, twice the mean cross-entropy of "this token shows it" and the mean error of
        its place in the tokens that do. To a clip's mean comes its ``tag_loss``. ``vision``
        (N, H) are the embeddings of all clips of the batch, one after another.
        """
        counts = torch.tensor([len(state.values) for state in states])
        order, filled, slots = _by_step(states, counts)
        things = max(len(state.words) for state in states)
        words = torch.stack([_padded(state.words, things, 0) for state in states])
        known = torch.stack([_padded(state.known, things, 0) for state in states])
        values = torch.cat([_padded(state.values, things, 1) for state in states])
        places = torch.cat([_padded(state.places, things, 1) for state in states])
        owner = torch.arange(len(states)).repeat_interleave(counts).to(vision.device)
        tokens = self.token(self.norm(vision[order])) + self.places(slots[1] % _PLACES)
        tokens = _spread(tokens, slots, filled)
        answers = self._ask(tokens, self.words(words).sum(dim=2)[owner]).float()
        said, sure, seen = answers.split([VALUES, 1, 2], dim=-1)
        sure = sure[..., 0].masked_fill(~filled[:, None], _NEVER)
        found = (sure.softmax(dim=-1)[..., None] * said).sum(dim=2)
        errors = functional.smooth_l1_loss(found, values, reduction='none', beta=0.1)
        asked = known[owner]
        loss = (errors * asked).sum(dim=-1) / asked.sum(dim=-1).clamp(min=1)
        places = _spread(places[order], slots, filled).transpose(1, 2)
        loss = loss + 2.0 * _place_loss(sure, seen, places, filled)
        real = asked.any(dim=-1)
        questions, total = real.sum().float(), (loss * real).sum()
        tagged = vision.split([len(state.steps) for state in states])
        for tokens, state in zip(tagged, states, strict=True):
            total = total + self.tag_loss(tokens, state) * state.questions
        return total, questions

    def tag_loss(self, vision: torch.Tensor, state: StateTargets) -> torch.Tensor:
        """
        Return the mean loss over the (N, H) tokens of a clip that are asked for words.

        A linear layer answers. For a token it is the weighted sum of cross-entropies over what
        words can be to it (see ``StateTargets.tags``) and over all words that there are, so that
        it does not depend on the company in which a clip comes.
        """
        true, known = state.tags()
        said = self.tags(self.norm(vision)).float().unflatten(-1, (TAGS, WORDS))
        wrong = functional.binary_cross_entropy_with_logits(said, true.float(), reduction='none')
        weights = wrong.new_tensor(_TAG_WEIGHTS) * known
        return (wrong.sum(dim=-1) * weights).sum() / known.any(dim=1).sum().clamp(min=1)

    def _ask(self, tokens: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Return the (S, K, n, 7) answers of (S, n, I) tokens to (S, K, I) queries."""
        mixed = functional.gelu(tokens[:, None] + queries[:, :, None])
        mixed = mixed * (1.0 + self.gate(queries))[:, :, None]
        answers: torch.Tensor = self.answer(functional.gelu(self.mix(mixed)))
        return answers


def _place_loss(
    sure: torch.Tensor, seen: torch.Tensor, places: torch.Tensor, filled: torch.Tensor
) -> torch.Tensor:
    """Return the (S, K) loss on where things are seen; see ``StateHead.loss``."""
    known = torch.isfinite(places).all(dim=-1) & filled[:, None]
    inside = known & (places >= 0).all(dim=-1) & (places < 1).all(dim=-1)
    wrong = functional.binary_cross_entropy_with_logits(sure, inside.float(), reduction='none')
    shown = (wrong * known).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)
    target = torch.where(inside[..., None], places, seen.detach())
    apart = functional.smooth_l1_loss(seen, target, reduction='none', beta=0.1).mean(dim=-1)
    return shown + (apart * inside).sum(dim=-1) / inside.sum(dim=-1).clamp(min=1)


def _by_step(
    states: Sequence[StateTargets], counts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """
    Return how the batch's tokens are laid out in a grid of S time steps and n places.

    That is the order of those that belong to a step, (S, n) where the grid is filled, and the
    step and the place of each.
    """
    first = counts.cumsum(0) - counts
    steps = torch.cat([
        torch.where(state.steps < 0, -1, state.steps + start.to(state.steps))
        for state, start in zip(states, first, strict=True)
    ])  # fmt: skip
    shown = (steps >= 0).nonzero()[:, 0]
    order = shown[steps[shown].argsort(stable=True)]
    step = steps[order]
    of_step = step.bincount(minlength=int(counts.sum()))
    place = torch.arange(len(order), device=order.device) - (of_step.cumsum(0) - of_step)[step]
    filled = torch.arange(int(of_step.max()), device=order.device) < of_step[:, None]
    return order, filled, (step, place)


def _spread(
    rows: torch.Tensor, slots: tuple[torch.Tensor, torch.Tensor], filled: torch.Tensor
) -> torch.Tensor:
    """Lay rows out in a grid of steps and places, zeros where it is not filled."""
    return rows.new_zeros(*filled.shape, *rows.shape[1:]).index_put(slots, rows)


def _padded(rows: torch.Tensor, size: int, axis: int) -> torch.Tensor:
    """Lengthen an axis with zeros."""
    missing = list(rows.shape)
    missing[axis] = size - rows.shape[axis]
    return torch.cat([rows, rows.new_zeros(missing)], dim=axis)
