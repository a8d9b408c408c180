# SPDX-License-Identifier: Apache-2.0
"""
Sampling explanations for all trajectories side by side, behind a prefix that they share.

Every forward takes the tokens of all rows packed one after another; a mask says which stored
tokens each of them sees. Rows may differ in length, may be given drafts of what they will say,
and leave when their text ends. None of it changes the text: each token is chosen by its own
number from the distribution behind exactly the tokens before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from armor_ros.inference.drafts import Drafter
from armor_ros.inference.errors import Canceled
from armor_ros.inference.prefix import SharedPrefix
from armor_ros.inference.sampling import choose_tokens, entropies


@dataclass(frozen=True, slots=True)
class Generated:
    """Sampled token ids, without the end token, and the mean entropy over them and it."""

    tokens: tuple[int, ...]
    entropy: float


def generate(
    prefix: SharedPrefix,
    suffixes: Sequence[Sequence[int]],
    numbers: torch.Tensor,
    temperature: float,
    should_stop: Callable[[], bool],
    *,
    drafter: Drafter | None = None,
    out_of_time: Callable[[], bool] | None = None,
) -> list[Generated]:
    """
    Continue a prefix by each suffix and sample until an end token.

    ``numbers`` (B, N) holds the uniform number of each token; N is the most tokens generated, the
    end token included. When ``out_of_time`` is true before a step, the texts so far are returned,
    with an entropy of 0 where there is none. Raises Canceled when ``should_stop`` is true before
    a step, ModelError on bad logits.
    """
    batch = _Batch(prefix, suffixes, numbers, temperature, drafter)
    while batch.active:
        if should_stop():
            raise Canceled
        if out_of_time is not None and out_of_time():
            break
        if not prefix.complete(should_stop):
            batch.step()
    return [row.result() for row in batch.rows]


@dataclass(slots=True, eq=False)
class _Row:
    """One trajectory's text as it grows. ``fed`` of its tokens are stored with their keys."""

    index: int
    suffix: tuple[int, ...]
    visible: torch.Tensor
    ended: bool = False
    tokens: list[int] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)

    def take(self, token: int, entropy: float, stop_ids: frozenset[int], limit: int) -> None:
        """Take one sampled token."""
        self.entropies.append(entropy)
        if token in stop_ids:
            self.ended = True
        else:
            self.tokens.append(token)
            self.ended = len(self.tokens) == limit

    def result(self) -> Generated:
        """Return the text so far."""
        mean = sum(self.entropies) / len(self.entropies) if self.entropies else 0.0
        return Generated(tuple(self.tokens), mean)


@dataclass(frozen=True, slots=True)
class _Segment:
    """
    Consecutive tokens of one forward, packed from index ``first`` on.

    They see ``visible`` of the tokens stored before, the packed tokens of ``stem``, and each
    those of their own segment that precede it.
    """

    first: int
    ids: Sequence[int]
    offset: int
    visible: torch.Tensor
    stem: range

    @property
    def indices(self) -> range:
        """Packed indices of the tokens."""
        return range(self.first, self.first + len(self.ids))


@dataclass(slots=True)
class _Feed:
    """
    The tokens of one forward.

    ``paths`` holds for each row the packed indices of its last known token and its draft, whose
    logits are wanted; ``stems`` those of its suffix, where this forward is its first.
    """

    segments: list[_Segment] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    stems: list[range] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of tokens."""
        return self.segments[-1].indices.stop if self.segments else 0

    @property
    def is_plain(self) -> bool:
        """Whether these are the last tokens of all rows, in order, without drafts."""
        return all(len(each.ids) == 1 and not each.stem for each in self.segments) and (
            self.count == len(self.paths)
        )

    def add(
        self, ids: Sequence[int], offset: int, visible: torch.Tensor, stem: range = range(0)
    ) -> range:
        """Add tokens at ``offset`` behind the prefix; return their packed indices."""
        segment = _Segment(self.count, ids, offset, visible, stem)
        self.segments.append(segment)
        return segment.indices


class _Batch:
    """All rows, and the scratch slots behind the prefix that hold their tokens."""

    def __init__(
        self,
        prefix: SharedPrefix,
        suffixes: Sequence[Sequence[int]],
        numbers: torch.Tensor,
        temperature: float,
        drafter: Drafter | None,
    ) -> None:
        self._prefix = prefix
        self._numbers = numbers
        self._limit = numbers.shape[1]
        self._temperature = temperature
        self._drafter = drafter
        self._used = 0
        nothing = torch.zeros(0, dtype=torch.bool)
        self.rows = [_Row(index, tuple(suffix), nothing) for index, suffix in enumerate(suffixes)]
        # What is needed without drafts; those find room in what they have saved, or make it.
        slots = sum(map(len, {row.suffix for row in self.rows})) + len(suffixes) * self._limit
        prefix.cache.reserve(prefix.length + slots, exactly=True)

    @property
    def active(self) -> list[_Row]:
        """Rows whose text has not ended."""
        return [row for row in self.rows if not row.ended]

    def step(self) -> None:
        """Feed each active row's last tokens and its draft, and take what they yield."""
        rows = self.active
        drafts = self._drafts(rows)
        feed = self._feed(rows, drafts)
        logits = self._logits(feed)
        uncertain = entropies(logits).tolist()
        chosen = self._choose(rows, feed.paths, logits)
        ends = self._prefix.model.prompts.stop_ids
        position = 0
        for row, draft, path, stem in zip(rows, drafts, feed.paths, feed.stems, strict=True):
            kept = self._verify(row, draft, chosen[position:], uncertain[position:], ends)
            self._remember(row, feed.count, [*stem, *path[: 1 + kept]])
            position += len(path)
        self._used += feed.count
        if self._drafter is not None:
            self._drafter.account(min(len(row.entropies) for row in rows))

    def _drafts(self, rows: list[_Row]) -> list[list[int]]:
        """Return what each row will perhaps say next; empty where nothing is proposed."""
        if self._drafter is None:
            return [[] for _ in rows]
        # The token behind the draft is sampled too, and must be within the limit.
        room = [self._limit - len(row.tokens) - 1 for row in rows]
        return self._drafter.propose([(row.index, row.tokens) for row in rows], room)

    def _feed(self, rows: list[_Row], drafts: list[list[int]]) -> _Feed:
        """Pack the tokens of one forward; rows with the same suffix share it."""
        feed = _Feed()
        stems: dict[tuple[int, ...], range] = {}
        for row, draft in zip(rows, drafts, strict=True):
            start = len(row.suffix)
            if row.tokens:
                fed = feed.add([row.tokens[-1], *draft], start + len(row.tokens) - 1, row.visible)
                feed.paths.append(list(fed))
                feed.stems.append(range(0))
                continue
            if row.suffix not in stems:
                stems[row.suffix] = feed.add(row.suffix, 0, row.visible)
            stem = stems[row.suffix]
            fed = feed.add(draft, start, row.visible, stem) if draft else range(0)
            feed.paths.append([stem[-1], *fed])
            feed.stems.append(stem)
        return feed

    def _logits(self, feed: _Feed) -> torch.Tensor:
        """Run packed tokens through all layers; return the logits that are wanted of them."""
        prefix, used = self._prefix, self._used
        model, start = prefix.model, prefix.length + used
        prefix.cache.reserve(start + feed.count)
        ids = torch.tensor([token for segment in feed.segments for token in segment.ids])
        places = [
            prefix.next_position + segment.offset + step
            for segment in feed.segments
            for step in range(len(segment.ids))
        ]
        positions = torch.tensor(places).expand(3, -1)
        seen = self._seen(feed)
        if prefix.steps is not None and feed.is_plain:
            logits = prefix.steps.run(ids, positions, seen, start)
            if logits is not None:
                return logits
        bias = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf).to(model.device)
        run = prefix.decoder.begin(start, model.embed(ids), positions, bias)
        run, _ = prefix.decoder.early_layers(run, prefix.cache)
        hidden = prefix.decoder.late_layers(run, prefix.cache)
        wanted = [index for path in feed.paths for index in path]
        return prefix.decoder.language_logits(hidden[wanted])

    def _seen(self, feed: _Feed) -> torch.Tensor:
        """Return which scratch slots each packed token sees, (N, used + N)."""
        used = self._used
        seen = torch.zeros((feed.count, used + feed.count), dtype=torch.bool)
        for segment in feed.segments:
            rows, size = slice(segment.first, segment.indices.stop), len(segment.ids)
            seen[rows, : len(segment.visible)] = segment.visible
            seen[rows, used + segment.stem.start : used + segment.stem.stop] = True
            own = slice(used + rows.start, used + rows.stop)
            seen[rows, own] = torch.ones((size, size), dtype=torch.bool).tril()
        return seen

    def _choose(self, rows: list[_Row], paths: list[list[int]], logits: torch.Tensor) -> list[int]:
        """Choose the token behind each packed position of interest by its own number."""
        wanted = [
            self._numbers[row.index, len(row.tokens) : len(row.tokens) + len(path)]
            for row, path in zip(rows, paths, strict=True)
        ]
        tokens: list[int] = choose_tokens(logits, self._temperature, torch.cat(wanted)).tolist()
        return tokens

    def _verify(
        self,
        row: _Row,
        draft: list[int],
        chosen: list[int],
        uncertain: list[float],
        ends: frozenset[int],
    ) -> int:
        """Give a row its sampled tokens up to the first that its draft missed; return hits."""
        kept = 0
        while True:
            row.take(chosen[kept], uncertain[kept], ends, self._limit)
            if row.ended or kept == len(draft) or chosen[kept] != draft[kept]:
                return kept
            kept += 1

    def _remember(self, row: _Row, fed: int, indices: Sequence[int]) -> None:
        """Let a row see from now on these tokens of the last forward, beside those before."""
        visible = torch.zeros(self._used + fed, dtype=torch.bool)
        visible[: len(row.visible)] = row.visible
        visible[[self._used + index for index in indices]] = True
        row.visible = visible
